"""Sets of models: a space is a config in which some values are ranges. Does not import Ray, Optuna or MLflow."""
