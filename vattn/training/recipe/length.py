"""Trainings of another length."""

from collections.abc import Mapping, Sequence
from typing import Any


def with_length(train: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return the tree of a `TrainConfig` with another number of epochs.

    A schedule keeps its shape: the warm-up and the epochs of ``steps`` grow in proportion, and shares of the training,
    such as the decay of ``wsd``, stay. So do the learning rate, the weight decay, and the decay of the moving average,
    which counts steps. Epochs of ``steps`` are rounded to whole ones. Steps within the training stay within it, one
    epoch or more apart, where there is room; steps after its end stay after its end.
    """
    changed = dict(train) | {"epochs": epochs}
    schedule, warmup = train.get("schedule"), train.get("warmup")
    if isinstance(schedule, Mapping) and "at" in schedule:
        changed["schedule"] = dict(schedule) | {"at": _scaled(schedule["at"], train["epochs"], epochs)}
    if isinstance(warmup, Mapping) and "epochs" in warmup:
        changed["warmup"] = dict(warmup) | {"epochs": warmup["epochs"] * epochs / train["epochs"]}
    return changed


def _scaled(at: Sequence[int], before: int, epochs: int) -> list[int]:
    """Return ascending whole epochs of a training of ``epochs`` that are near those of one of ``before`` epochs."""
    within = sum(epoch < before for epoch in at)
    scaled: list[int] = []
    for position, epoch in enumerate(at):
        nearest = int(epoch * epochs / before + 0.5)
        # The last steps within the training need an epoch each.
        nearest = min(nearest, epochs - within + position) if position < within else max(nearest, epochs)
        scaled.append(max(nearest, scaled[-1] + 1 if scaled else 1))
    return scaled
