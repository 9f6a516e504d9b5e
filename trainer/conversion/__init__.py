"""From a trained network to the model file: int8, its gate, what it costs and what is inside."""
