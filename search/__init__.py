"""Chooses among models, and tells the user what it found. Ray Tune, Optuna and MLflow live here."""
