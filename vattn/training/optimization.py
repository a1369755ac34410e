"""Optimizers and learning rates."""

import math

import torch
from torch import nn

from vattn.config import TrainConfig

#: Momentum of SGD.
MOMENTUM = 0.9


def learning_rate(train: TrainConfig, epoch: float) -> float:
    """Return the learning rate at ``epoch``, from 0 and with a fraction: constant, or half a cosine from `lr` to 0."""
    if train.schedule == "constant":
        return train.lr
    return train.lr * (1 + math.cos(math.pi * epoch / train.epochs)) / 2


def optimizer_of(net: nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of ``net``'s parameters: SGD with momentum or AdamW."""
    if train.optimizer == "adamw":
        return torch.optim.AdamW(net.parameters(), lr=train.lr, weight_decay=train.weight_decay)
    return torch.optim.SGD(net.parameters(), lr=train.lr, momentum=MOMENTUM, weight_decay=train.weight_decay)
