"""Batches for a training: read clips ahead, decode and collate them in threads, and move them to the device."""
