"""Schedulers stop trials early; each kind is one file, registered by this import."""
