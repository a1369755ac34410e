"""Optimizers, and the options of each."""

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator

from vattn.base import Kinded

#: Parameters with their own learning rate and weight decay, as torch's optimizers take them.
Group = dict[str, Any]


class OptimizerConfig(Kinded):
    """Which optimizer changes the parameters. The learning rate, its schedule and the weight decay are keys of train.

    In a file, the word of a kind stands for that kind with its defaults.
    """

    kind: str
    is_word = True

    @property
    def moments(self) -> int:
        """Number of values that the optimizer keeps for each parameter, each as large as the parameter."""
        raise NotImplementedError

    def build(self, groups: list[Group], lr: float, weight_decay: float, fused: bool | None) -> torch.optim.Optimizer:
        """Return torch's optimizer.

        Args:
            groups: the parameters; ``weight_decay`` of a group takes the place of the common one.
            lr: learning rate.
            weight_decay: weight decay.
            fused: whether one kernel changes all parameters; None lets torch choose.
        """
        raise NotImplementedError


class SGDConfig(OptimizerConfig, kind="sgd"):
    """Stochastic gradient descent with momentum, as torch computes it: the weight decay is part of the gradient.

    Source: Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning",
    ICML 2013.
    """

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1, description="share of the last step that is added to a step; 0: none")
    nesterov: bool = Field(False, description="Nesterov's momentum: the gradient after the step by the momentum")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: needs momentum above 0; raise momentum, or write false (got true)")
        return self

    @property
    def moments(self) -> int:
        """One value for each parameter, if there is momentum."""
        return 1 if self.momentum else 0

    def build(self, groups: list[Group], lr: float, weight_decay: float, fused: bool | None) -> torch.optim.Optimizer:
        """Return SGD."""
        return torch.optim.SGD(
            groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=weight_decay, fused=fused
        )


class AdamWConfig(OptimizerConfig, kind="adamw"):
    """AdamW: Adam with a weight decay that is not part of the gradient.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019 (arXiv:1711.05101).
    """

    kind: Literal["adamw"] = "adamw"
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        (0.9, 0.999),
        description="decay of the moving averages of the gradients and of their squares; two numbers from 0 to below 1",
    )

    @field_validator("betas")
    @classmethod
    def _two(cls, betas: tuple[float, ...]) -> tuple[float, ...]:
        if len(betas) != 2:
            raise ValueError("must be two numbers; write [0.9, 0.999]")
        return betas

    @property
    def moments(self) -> int:
        """Two values for each parameter: the mean of its gradients and of their squares."""
        return 2

    def build(self, groups: list[Group], lr: float, weight_decay: float, fused: bool | None) -> torch.optim.Optimizer:
        """Return AdamW."""
        first, second = self.betas
        return torch.optim.AdamW(groups, lr=lr, betas=(first, second), weight_decay=weight_decay, fused=fused)
