"""Forecast the latency of networks from few measured ones, by what their closed-form cost says."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from vattn.config import ModelConfig
from vattn.cost import cost

Array = NDArray[np.float64]

#: weight of the ridge, relative to the relative error of one network: it decides only what measurements leave open
RIDGE = 1e-2

#: what a forward pass does, by name: ("resnet", "macs"), ("tam", "places")
Features = Mapping[tuple[str, str], float]


def features(model: ModelConfig, classes: int) -> Features:
    """Return what determines the latency of a network: work, memory traffic and number of operations by component.

    Components are the backbone, each kind of mechanism, the head, and the parts of sparse attention. Of each one:
    ``macs``, multiply-accumulates (1e9), for arithmetic; ``values``, of all activations (1e6), for memory traffic; and
    ``places``, the number of blocks of the backbone, or of insertions of a mechanism, for the operations that must be
    started. They are summed over stages. ``("", "once")`` is what each forward pass takes.
    """
    counted: defaultdict[tuple[str, str], float] = defaultdict(float, {("", "once"): 1.0})
    for row in cost(model, classes).rows:
        counted[row.what, "macs"] += row.macs / 1e9
        counted[row.what, "values"] += row.activations / 1e6
    sites = model.backbone.sites(model.size)
    counted[model.backbone.kind, "places"] = len({(site.stage, site.block) for site in sites})
    for module in model.attention:
        counted[module.kind, "places"] += len(module.at(sites))
    return counted


class Forecast:
    """Latency as a sum of times, one for each unit of each feature, none of them negative.

    Fitted by non-negative least squares (C. L. Lawson and R. J. Hanson, "Solving Least Squares Problems", 1974) to the
    relative errors of the measured networks, with a small ridge on the time that each feature takes on average.

    Args:
        times: milliseconds of one unit of each feature.
    """

    def __init__(self, times: Mapping[tuple[str, str], float]) -> None:
        self.times = times

    @classmethod
    def of(cls, measured: Sequence[tuple[Features, float]]) -> Self:
        """Return the fit to features of networks and their latencies in milliseconds; without any, all times are 0."""
        if not measured:
            return cls({})
        names = sorted({name for known, _ in measured for name in known})
        matrix, scale = _matrix([known for known, _ in measured], names)
        latency = np.array([milliseconds for _, milliseconds in measured])
        rows = np.vstack([matrix / latency[:, None], np.sqrt(RIDGE) * np.eye(len(names)) / latency.mean()])
        target = np.concatenate([np.ones(len(latency)), np.zeros(len(names))])
        times, _ = nnls(rows, target)
        return cls(dict(zip(names, (times / scale).tolist(), strict=True)))

    def milliseconds(self, known: Features) -> float:
        """Return the latency of a network with these features."""
        return sum(self.times.get(name, 0.0) * amount for name, amount in known.items())


def informative(known: Sequence[Features], count: int) -> list[int]:
    """Return the indices of ``count`` networks from whose latencies a forecast learns most.

    One after the other, the network about which those before say least: the greedy form of a D-optimal design. Each
    network has the same weight, whatever its size.
    """
    matrix, _ = _matrix(known, sorted({name for each in known for name in each}))
    rows = matrix / np.maximum(np.abs(matrix).sum(1, keepdims=True), 1e-12)
    inverse = np.eye(rows.shape[1]) / RIDGE
    chosen: list[int] = []
    for _ in range(min(count, len(rows))):
        unknown = np.einsum("ij,jk,ik->i", rows, inverse, rows)
        unknown[chosen] = -np.inf
        # Equal ones differ by rounding; the first of them is the same on all machines.
        chosen.append(int(np.argmax(unknown.round(9))))
        step = inverse @ rows[chosen[-1]]
        inverse -= np.outer(step, step) / (1 + rows[chosen[-1]] @ step)
    return chosen


def _matrix(known: Sequence[Features], names: Sequence[tuple[str, str]]) -> tuple[Array, Array]:
    """Return the features as a matrix (networks, names) with columns of mean size 1, and what they are divided by."""
    matrix = np.array([[each.get(name, 0.0) for name in names] for each in known])
    scale = np.abs(matrix).mean(0)
    scale[scale == 0] = 1.0
    return matrix / scale, scale
