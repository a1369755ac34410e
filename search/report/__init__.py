"""What a search shows to people and to other programs: tables, the live display, plots, reasons, MLflow."""
