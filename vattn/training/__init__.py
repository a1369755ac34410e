"""Training of one model: batches, optimization, evaluation and checkpoints."""
