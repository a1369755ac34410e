"""Reports of a search, all derived from its ledger: texts, tables, plots, a page, a live display, MLflow, `vattn why`."""
