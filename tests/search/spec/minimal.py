"""A minimal spec, and the type of the fixture that returns the problems of changes to it."""

from collections.abc import Callable

MINIMAL = """\
schema: 1
name: small
trial:
  data: {kind: motion}
  model: {frames: 4, size: 48, backbone: {kind: resnet, depth: 10}}
  train: {epochs: 2, batch: 4, lr: 0.1}
search: {budget: {trials: 2}}
"""
#: takes overrides, and the text of the file as ``text``
Problems = Callable[..., list[str]]
