"""Trains one model on many GPUs and reads files on all nodes of a cluster. The only package besides search with Ray."""
