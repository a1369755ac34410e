"""Weights in files: read them, recognise whose they are, and fit them to a network of this package."""

from vattn.weights.files import Checkpoint, read_checkpoint, read_state
from vattn.weights.state import Fit, Rules, State, Taken, rename, rename_one

__all__ = ["Checkpoint", "Fit", "Rules", "State", "Taken", "read_checkpoint", "read_state", "rename", "rename_one"]
