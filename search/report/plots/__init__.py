"""Plots of a search: the front of accuracy against cost, as a page and as a PNG."""
