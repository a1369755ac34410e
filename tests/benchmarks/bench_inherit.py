"""Whether short trainings from a base rank models as full trainings from scratch do, on the motion set.

    python tests/benchmarks/bench_inherit.py FOLDER [--epochs 9] [--clips 40]

Each model is trained in full from scratch with two seeds, whose agreement is the best that a ranking can reach; from
the base (the backbone alone, trained in full) with a third of the epochs; from scratch with that third; and from its
parent with that third, as a search with `inherit: parent` would in the order below. FOLDER keeps data and checkpoints:
what was cut off goes on with the same command.
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
from vattn.train import fit

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
    """Train to the end, or go on with it, in a folder of its own; return the top-1 accuracy of the last epoch."""
    *_, last = fit(config, cache, place(config, folder))
    return last.metrics["top1"]


def place(config: TrialConfig, folder: Path) -> Path:
    return folder / identity(config.tree())


def parent(name: str) -> str | None:
    """Return the earlier model that differs in the fewest choices, as `search.inherit.nearest` counts them.

    That is the last one of the same kind, where there is one, else that without a mechanism, which makes no choices.
    """
    earlier = list(MODELS)[: list(MODELS).index(name)]
    same = [other for other in earlier if other.split()[0] == name.split()[0]]
    return next(iter([*reversed(same), *earlier[:1]]), None)


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the correlation of ranks; equal values share the mean of theirs."""
    ranks = [[sum(v < w for v in values) + sum(v <= w for v in values) for w in values] for values in (one, other)]
    return float(np.corrcoef(np.array(ranks))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description="rank models after short trainings from a base")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--clips", type=int, default=40, help="of a class, for training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder, epochs, clips = arguments.folder.resolve(), arguments.epochs, arguments.clips
    base = trial([], clips, epochs)
    cache = prepare(base.data, folder)
    began = time.process_time()
    accuracy(base, cache, folder)
    start, short = str(place(base, folder) / "model.pt"), epochs // 3
    rows = []
    print(f"| model | scratch, {epochs} | other seed | base, {short} | scratch, {short} | parent, {short} |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    inherited: dict[str, TrialConfig] = {}
    for name, attention in MODELS.items():
        nearest = parent(name)
        source = "scratch" if nearest is None else str(place(inherited[nearest], folder) / "model.pt")
        inherited[name] = trial(attention, clips, short, init=source)
        configs = [
            trial(attention, clips, epochs), trial(attention, clips, epochs, seed=1),
            trial(attention, clips, short, init=start), trial(attention, clips, short), inherited[name],
        ]  # fmt: skip
        rows.append([accuracy(config, cache, folder) for config in configs])
        print(f"| {name} | {' | '.join(f'{100 * value:.1f} %' for value in rows[-1])} |", flush=True)
    full, *others = zip(*rows, strict=True)
    ranks = [f"{spearman(full, other):.2f}" for other in others]
    print(f"| Spearman with the first | 1 | {' | '.join(ranks)} |")
    print(f"\n{time.process_time() - began:.0f} CPU-seconds of training")


if __name__ == "__main__":
    main()
