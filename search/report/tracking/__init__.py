"""MLflow: a search as one run with a child run for each trial, and a training as one run.

MLflow is a projection of the ledger. Nothing reads back what is written here, except to see what is already written.
"""
