"""MLflow: a search as one run with a child run for each trial, rebuilt from the ledger."""
