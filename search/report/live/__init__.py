"""What is shown while a search runs or data are prepared: a live table, lines of a log, progress."""
