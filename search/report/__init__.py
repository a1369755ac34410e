"""Reports of a search, all derived from its ledger: texts, tables, plots, a page, a display, MLflow, `vattn why`."""
