"""A trained model for others: its card, and MLflow's registry."""
