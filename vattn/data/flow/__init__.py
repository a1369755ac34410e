"""Optical flow of the videos of a data set, as folders of images.

Importing this package imports neither OpenCV nor torch.
"""

from vattn.data.flow.folders import FlowFolders, Outcome
from vattn.data.flow.methods import BOUND, Method, as_levels

__all__ = ["BOUND", "FlowFolders", "Method", "Outcome", "as_levels"]
