"""The search for better hyperparameters, on processes of one machine or on a Ray cluster."""
