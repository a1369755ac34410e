"""Temporal action detection: segments of actions in untrimmed videos, by R-C3D and Segment-CNN."""
