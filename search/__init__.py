"""Chooses among models, and reports what it found. Ray Tune, Optuna and MLflow live here."""
