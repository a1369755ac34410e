"""Small networks, clips and trainings of the tests of recipes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.vattn.support import model
from vattn.config import TrainConfig, TrialConfig
from vattn.data.cache import CacheWriter
from vattn.model import VideoModel, build_model
from vattn.training.batches.pixels import normalise
from vattn.training.optimization import ScaledOptimizer
from vattn.training.recipe.losses import Criterion
from vattn.training.recipe.norms import prepare
from vattn.training.step import CROSS_ENTROPY, train_step

CPU = torch.device("cpu")
CLASSES = 5
#: clips of a step, and steps of an epoch
CLIPS, STEPS = 6, 10
TAM, TSM = {"kind": "tam"}, {"kind": "tsm"}


def train_config(**options: Any) -> TrainConfig:
    return TrainConfig.parse({"epochs": 2, "batch": CLIPS, "lr": 0.05} | options)


def network(**changes: Any) -> VideoModel:
    """Return a ResNet-10 with TAM, without dropout; always with the same weights."""
    torch.manual_seed(0)
    options = {"frames": 2, "size": 16, "head": {"dropout": 0.0}} | changes
    return build_model(model(TAM, width=0.125, **options), CLASSES)


def batches(steps: int = 2 * STEPS) -> list[tuple[Tensor, Tensor]]:
    """Return the clips of each step: images, uint8, and labels."""
    generator = torch.Generator().manual_seed(1)
    shape = (CLIPS, 3, 2, 16, 16)
    return [
        (torch.randint(0, 256, shape, generator=generator).byte(), torch.randint(0, 5, (CLIPS,), generator=generator))
        for _ in range(steps)
    ]


def pixels(images: Tensor) -> Tensor:
    return normalise(images, CPU)


def trained(train: TrainConfig, criterion: Criterion = CROSS_ENTROPY, **changes: Any) -> tuple[VideoModel, Any]:
    """Return the network and its optimizer after two epochs of ten steps each, by the code of trainings."""
    net = network(**changes)
    prepare(net, train.norm, train.freeze, workers=1)
    optimizer = ScaledOptimizer(net, train, CPU)
    net.train()
    for step, (images, labels) in enumerate(batches()):
        lr = train.lr_at(step / STEPS)
        train_step(net, net, optimizer, train, images, labels, CLIPS, 1, lr, criterion)
    return net, optimizer


def trial(backbone: dict[str, Any], augment: dict[str, Any] | None = None, **train: Any) -> TrialConfig:
    """Return a training on the clips of `write_unequal_classes`."""
    return TrialConfig.parse({
        "data": {"kind": "motion", "augment": augment or {}},
        "model": {
            "frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125} | backbone,
            "attention": [TAM], "head": {"dropout": 0.3},
        },
        "train": {"epochs": 2, "batch": 8, "lr": 0.05, "checkpoint_minutes": 1e-9, "checkpoint_seconds": 0} | train,
    })  # fmt: skip


def write_unequal_classes(folder: Path) -> Path:
    """Write a cache of clips of random pixels: 24, 12, 6 and 3 for training, and 2 for validation of each class."""
    folder.mkdir()
    random, writer = np.random.default_rng(0), CacheWriter(folder)
    labels = [label for label, count in enumerate((24, 12, 6, 3)) for _ in range(count)]
    for number, label in enumerate([*labels, *[0, 1, 2, 3] * 2]):
        split = "train" if number < len(labels) else "val"
        writer.add(number, f"{number}.mp4", label, split, random.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))
    writer.finish([])
    return folder
