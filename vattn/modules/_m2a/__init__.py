"""The parts of M2A: a motion part and an attention part, each chosen by an option (vattn/modules/m2a.py)."""
