"""An exponential moving average of the weights."""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn


class Average:
    r"""The exponential moving average of a network's trained parameters and of its running statistics.

    .. math:: \bar w_t = d_t \bar w_{t-1} + (1 - d_t) w_t, \quad d_t = \min(d, (1 + t) / (10 + t))

    It starts from the initial weights, which the smaller decays of the first steps soon forget; they are those of
    TensorFlow's ``ExponentialMovingAverage``. Running statistics are averaged with the same decays, as in timm
    (``ModelEmaV2``) and in torchvision's training code, so that they belong to weights of the same age. Whole numbers,
    such as counts of batches, stay those of the network.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on Control and
    Optimization 30(4), 1992.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._decay, self._updates = decay, 0
        trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
        kept = net.state_dict(keep_vars=True)
        buffers = {name: b for name, b in net.named_buffers() if name in kept and b.is_floating_point()}
        self._names, self._own = [*trained, *buffers], [p.detach() for p in (*trained.values(), *buffers.values())]
        self._values = [value.clone() for value in self._own]
        self._statistics = self._values[len(trained) :]

    def update(self) -> None:
        """Add the weights after a step."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        torch._foreach_lerp_(self._values, self._own, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def swap(self) -> None:
        """Exchange the average with the network's weights; a second call undoes it.

        The values change places, not the tensors: a CUDA graph knows these by their addresses.
        """
        for value, own in zip(self._values, self._own, strict=True):
            kept = own.clone()
            own.copy_(value)
            value.copy_(kept)

    def share(self) -> None:
        """Copy rank 0's averages of running statistics to all workers; those of the weights are equal."""
        for value in self._statistics:
            dist.broadcast(value, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the average by the names in the network's state dict, and the number of steps."""
        return {"updates": self._updates, "values": dict(zip(self._names, self._values, strict=True))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._updates = state["updates"]
        for name, value in zip(self._names, self._values, strict=True):
            value.copy_(state["values"][name])
