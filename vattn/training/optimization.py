"""The optimizer of a network, with the scale of losses and the moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vattn.config import TrainConfig
from vattn.training.recipe.averaging import Average
from vattn.training.recipe.groups import parameter_groups


class ScaledOptimizer:
    """The optimizer of a network, with the scale of losses for ``amp: fp16``, and the moving average of ``ema``.

    Gradients below 6e-8 are 0 in float16. So the loss is multiplied by a scale, and the optimizer divides the gradients
    by it. A step whose gradients are not finite is skipped, and halves the scale; 2000 steps without such a one double
    it. Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018 (arXiv:1710.03740).

    Parameters without ``requires_grad`` are left out.
    """

    def __init__(self, net: nn.Module, train: TrainConfig, device: torch.device) -> None:
        groups, self._factors = parameter_groups(net, train)
        # On a GPU, one kernel changes all parameters.
        fused = True if device.type == "cuda" else None
        self.torch = train.optimizer.build(groups, train.peak_lr, train.weight_decay, fused)
        self.scaler = torch.amp.GradScaler(device.type, enabled=train.amp == "fp16")
        self.average = None if train.ema == "none" else Average(net, train.ema)
        self._longest = None if train.clip_norm == "none" else train.clip_norm
        # A CUDA graph writes the gradients of the second part of a step to the memory of those of the first.
        self._keeps_gradients = train.compile == "reduce-overhead" and train.accumulate > 1

    def start(self, lr: float) -> None:
        """Start a step at the learning rate ``lr``, without gradients."""
        for group, factor in zip(self.torch.param_groups, self._factors, strict=True):
            group["lr"] = lr * factor
            for parameter in group["params"] if self._keeps_gradients else ():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        self.torch.zero_grad(set_to_none=not self._keeps_gradients)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``."""
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        """Change the parameters by their gradients, which are scaled to the greatest norm before; average them."""
        if self._longest is not None:
            self.scaler.unscale_(self.torch)
            parameters = [parameter for group in self.torch.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self._longest)
        self.scaler.step(self.torch)
        self.scaler.update()
        if self.average:
            self.average.update()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the network the averaged weights, if there are such, until the end of the context."""
        if self.average:
            self.average.swap()
        try:
            yield
        finally:
            if self.average:
                self.average.swap()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state dict; those of the scale and the average, if there are, as entries of it."""
        state = self.torch.state_dict()
        if self.scaler.is_enabled():
            state["scaler"] = self.scaler.state_dict()
        if self.average:
            state["average"] = self.average.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state that may have been written on a device of another type, or with weights in another layout."""
        groups = [
            saved | {"fused": own["fused"]}
            for saved, own in zip(state["param_groups"], self.torch.param_groups, strict=True)
        ]
        self.torch.load_state_dict({"state": state["state"], "param_groups": groups})
        for parameter, values in self.torch.state.items():
            for name, value in values.items():
                # A fused kernel needs the layout of the parameter.
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load_state_dict(state["average"])
