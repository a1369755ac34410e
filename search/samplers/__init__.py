"""Samplers propose configs; each kind is one file, registered by this import."""
