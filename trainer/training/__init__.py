"""Learning the weights: batches, steps, checkpoints, teachers."""
