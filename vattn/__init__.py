"""One video model and how to train it. Plain torch: no Ray, Optuna or MLflow."""
