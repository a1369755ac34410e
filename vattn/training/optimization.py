"""Optimizers, learning rates and the scale of losses."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from vattn.config import TrainConfig

#: Momentum of SGD.
MOMENTUM = 0.9


def learning_rate(train: TrainConfig, epoch: float) -> float:
    """Return the learning rate at ``epoch``, from 0 and with a fraction: constant, or half a cosine from `lr` to 0."""
    if train.schedule == "constant":
        return train.lr
    return train.lr * (1 + math.cos(math.pi * epoch / train.epochs)) / 2


def optimizer_of(net: nn.Module, train: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """Return the optimizer of ``net``'s parameters: SGD with momentum or AdamW, on a GPU in one fused kernel."""
    fused = True if device.type == "cuda" else None
    if train.optimizer == "adamw":
        return torch.optim.AdamW(net.parameters(), lr=train.lr, weight_decay=train.weight_decay, fused=fused)
    return torch.optim.SGD(
        net.parameters(), lr=train.lr, momentum=MOMENTUM, weight_decay=train.weight_decay, fused=fused
    )


class ScaledOptimizer:
    """The optimizer of a network, with the scale of losses for ``amp: fp16``.

    Gradients below 6e-8 are 0 in float16. So the loss is multiplied by a scale, and the optimizer divides the gradients
    by it. A step whose gradients are not finite is skipped, and halves the scale; 2000 steps without such a one double
    it. Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018 (arXiv:1710.03740).
    """

    def __init__(self, net: nn.Module, train: TrainConfig, device: torch.device) -> None:
        self.torch = optimizer_of(net, train, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=train.amp == "fp16")
        # A CUDA graph writes the gradients of the second part of a step to the memory of those of the first.
        self._keeps_gradients = train.compile == "reduce-overhead" and train.accumulate > 1

    def start(self, lr: float) -> None:
        """Start a step at the learning rate ``lr``, without gradients."""
        for group in self.torch.param_groups:
            group["lr"] = lr
            for parameter in group["params"] if self._keeps_gradients else ():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        self.torch.zero_grad(set_to_none=not self._keeps_gradients)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``."""
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        """Change the parameters by their gradients."""
        self.scaler.step(self.torch)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state dict, with that of the scale, if there is one, as ``scaler``."""
        state = self.torch.state_dict()
        return state | {"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else state

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
