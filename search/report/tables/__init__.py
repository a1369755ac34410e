"""Texts with tables that the commands print: the front, its confirmation, the check of a spec, the summary of a run."""
