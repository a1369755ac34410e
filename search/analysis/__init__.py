"""What finished trials show: fronts, hypervolume, confirmation, learning curves, rank correlation."""
