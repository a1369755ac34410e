"""Computations on finished trials: the Pareto front, picks, confirmation, learning curves, rank correlation."""
