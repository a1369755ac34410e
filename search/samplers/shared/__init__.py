"""What samplers are made of: the space for Optuna, candidates, the surrogate, expected gains."""
