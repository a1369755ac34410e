"""Trains one model on many GPUs, and keeps a cluster busy and safe. Ray lives here."""
