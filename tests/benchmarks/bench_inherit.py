"""Do short trainings from a base rank models as full trainings from scratch do? Measured on the motion set.

    python tests/benchmarks/bench_inherit.py FOLDER [--epochs 9] [--clips 40]

Each model is trained in five ways: from scratch in full, with two seeds, whose rank correlation is an upper bound for
any ranking; with a third of the epochs from the base (the backbone alone, trained in full); with a third of the epochs
from scratch; and with a third of the epochs from its parent, as a search with `inherit: parent` does that proposes the
models in the order below. FOLDER keeps data and checkpoints: the same command continues what was interrupted.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from vattn.base import identity
from vattn.config import TrialConfig
from vattn.data import prepare
from vattn.training.fit import fit

#: mechanisms by the name of the model; its first word is the kind of the mechanism
MODELS: dict[str, list[dict[str, Any]]] = {
    "no attention": [],
    "tsm @2": [{"kind": "tsm", "stages": [2]}],
    "tsm @3-5": [{"kind": "tsm", "stages": [3, 4, 5]}],
    "tam @2,3": [{"kind": "tam", "stages": [2, 3]}],
    "tam @4,5": [{"kind": "tam", "stages": [4, 5]}],
    "tam @2-5 K5": [{"kind": "tam", "kernel_size": 5}],
    "tea @2,3": [{"kind": "tea", "reduction": 4, "stages": [2, 3]}],
    "c2d_tconv @5": [{"kind": "c2d_tconv", "stages": [5]}],
    "c2d_pool @2-5": [{"kind": "c2d_pool"}],
    "nonlocal @3": [{"kind": "nonlocal", "stages": [3]}],
}


def trial(attention: list[dict[str, Any]], clips: int, epochs: int, **train: Any) -> TrialConfig:
    return TrialConfig.parse({
        "data": {"kind": "motion", "train_clips": clips, "val_clips": 30, "test_clips": 1},
        "model": {
            "frames": 4, "size": 48, "backbone": {"kind": "resnet", "depth": 10, "width": 0.25},
            "attention": attention, "head": {"dropout": 0.1},
        },
        "train": {"epochs": epochs, "batch": 32, "lr": 0.1} | train,
    })  # fmt: skip


def accuracy(config: TrialConfig, cache: Path, folder: Path) -> float:
    """Train to the end in a folder of its own, from its checkpoint if there is one; return the final top-1 accuracy."""
    *_, last = fit(config, cache, training_folder(config, folder))
    return last.metrics["top1"]


def training_folder(config: TrialConfig, folder: Path) -> Path:
    return folder / identity(config.tree())


def parent(name: str) -> str | None:
    """Return the earlier model that differs in the fewest choices, as `search.inherit.nearest` counts them.

    That is the last one of the same kind; without one, it is the model without a mechanism, which makes no choices.
    """
    earlier = list(MODELS)[: list(MODELS).index(name)]
    same_kind = [model for model in earlier if model.split()[0] == name.split()[0]]
    return next(iter([*reversed(same_kind), *earlier[:1]]), None)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Spearman's rank correlation; equal values have the mean of their ranks."""
    ranks = [[sum(v < w for v in values) + sum(v <= w for v in values) for w in values] for values in (a, b)]
    return float(np.corrcoef(np.array(ranks))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--clips", type=int, default=40, help="training clips of each class")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder, epochs, clips = arguments.folder.resolve(), arguments.epochs, arguments.clips
    base = trial([], clips, epochs)
    cache = prepare(base.data, folder)
    began = time.process_time()
    accuracy(base, cache, folder)
    start, short = str(training_folder(base, folder) / "model.pt"), epochs // 3
    rows = []
    print(
        f"| model | scratch, {epochs} epochs | second seed | base, {short} epochs | scratch, {short} epochs "
        f"| parent, {short} epochs |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    inherited: dict[str, TrialConfig] = {}
    for name, attention in MODELS.items():
        nearest = parent(name)
        source = "scratch" if nearest is None else str(training_folder(inherited[nearest], folder) / "model.pt")
        inherited[name] = trial(attention, clips, short, init=source)
        configs = [
            trial(attention, clips, epochs), trial(attention, clips, epochs, seed=1),
            trial(attention, clips, short, init=start), trial(attention, clips, short), inherited[name],
        ]  # fmt: skip
        rows.append([accuracy(config, cache, folder) for config in configs])
        print(f"| {name} | {' | '.join(f'{100 * value:.1f} %' for value in rows[-1])} |", flush=True)
    full, *rest = zip(*rows, strict=True)
    correlations = [f"{spearman(full, accuracies):.2f}" for accuracies in rest]
    print(f"| Spearman with the first column | 1 | {' | '.join(correlations)} |")
    print(f"\n{time.process_time() - began:.0f} CPU-seconds of training")


if __name__ == "__main__":
    main()
