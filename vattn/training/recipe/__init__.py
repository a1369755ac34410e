"""How a network is trained: the config of a training, and a file for each part of it."""
