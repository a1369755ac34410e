"""Sets of models: a space is a config in which some values are ranges. Knows no Ray, Optuna or MLflow."""
