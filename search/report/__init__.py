"""Reports of a search, all derived from its ledger: texts, tables, plots, a live display, MLflow, and `vattn why`."""
