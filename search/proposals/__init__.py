"""Proposing trials: the sampler's study, screening, the time budget, warm start, inherited weights, confirmation."""
