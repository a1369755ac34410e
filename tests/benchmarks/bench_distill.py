"""Does a network of colours learn more from a teacher of optical flow? Measured on the motion set, over seeds.

    python tests/benchmarks/bench_distill.py FOLDER [--seeds 3] [--clips 16] [--epochs 9]

It needs the extra ``flow``. The optical flow of the motion set is computed by TV-L1, and a teacher trains on it. Then
students of the same network train on colours: alone, and with each loss of ``train.distill``, each with the same seeds.
Printed are the accuracies on the validation split, and the mean of the paired differences to the students alone with
its 95 % interval by Student's t. FOLDER keeps data and checkpoints: the same command continues what was interrupted.
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
from scipy.stats import t as student_t

from vattn.base import identity
from vattn.config import TrialConfig
from vattn.data import prepare
from vattn.data.flow import FlowFolders, Method
from vattn.files import digest
from vattn.training.fit import fit

#: what is learned from the teacher, by the name of the row
WAYS: dict[str, dict[str, Any]] = {
    "mars, weight 50": {"loss": "mars"},
    "mars, weight 5": {"loss": "mars", "weight": 5.0},
    "kl, weight 1, temperature 4": {"loss": "kl"},
}
#: side of the frames of the set, and of what the networks see, pixels
SIZE, CROP = 32, 32


def network() -> dict[str, Any]:
    return {
        "frames": 4, "size": CROP, "backbone": {"kind": "resnet", "depth": 10, "width": 0.25},
        "attention": [{"kind": "tsm"}], "head": {"dropout": 0.1},
    }  # fmt: skip


def flow_data(folder: Path, motion: Any) -> dict[str, Any]:
    """Compute the flow of the motion set, unless it is there; return its data config."""
    root = folder / "data" / "motion"
    flow = FlowFolders(root, folder / "flow", Method("tvl1"), SIZE, 90)
    manifest = motion.manifest(root)
    began = time.perf_counter()
    outcome = flow.write([manifest], len(os.sched_getaffinity(0)))
    flow.write_lists(manifest, motion.labels())
    print(f"flow of {outcome.written} videos in {time.perf_counter() - began:.0f} s", flush=True)
    names = {"train": "train.txt", "val": "val.txt", "test": "test.txt", "names": "classes.txt"}
    return {"kind": "list", "root": str(folder / "flow"), "modality": "flow", "cache": str(folder / "cache"),
            "store": {"size": SIZE}} | names  # fmt: skip


def accuracy(tree: dict[str, Any], folder: Path) -> float:
    """Train in a folder of its own, from its checkpoint if there is one; return the final top-1 accuracy."""
    config = TrialConfig.parse(tree)
    *_, last = fit(config, prepare(config.data, folder), training_folder(tree, folder))
    return last.metrics["top1"]


def training_folder(tree: dict[str, Any], folder: Path) -> Path:
    return folder / "trainings" / identity(TrialConfig.parse(tree).tree())


def interval(differences: Sequence[float]) -> str:
    """Return mean and 95 % interval of paired differences, in points."""
    points = 100 * np.array(differences)
    half = student_t.ppf(0.975, len(points) - 1) * points.std(ddof=1) / np.sqrt(len(points))
    return f"{points.mean():+.1f} ± {half:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=16, help="training clips of each class")
    parser.add_argument("--epochs", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder, seeds = arguments.folder.resolve(), range(arguments.seeds)
    data = {
        "kind": "motion", "train_clips": arguments.clips, "val_clips": 15, "test_clips": 1, "frames": 8, "size": SIZE,
        "root": str(folder / "data" / "motion"), "cache": str(folder / "cache"), "store": {"size": SIZE},
    }  # fmt: skip
    train = {"epochs": arguments.epochs, "batch": 32, "lr": 0.1}
    alone = {"data": data, "model": network(), "train": train}
    motion = TrialConfig.parse(alone).data
    prepare(motion, folder)
    teacher = {"data": flow_data(folder, motion), "model": network(), "train": train}
    print(f"teacher of flow: {100 * accuracy(teacher, folder):.1f} %\n", flush=True)
    weights = training_folder(teacher, folder) / "model.pt"
    taught = {"teacher": {key: teacher[key] for key in ("data", "model")}, "checkpoint": str(weights),
              "digest": digest(weights)}  # fmt: skip
    rows = {"alone": alone} | {
        name: alone | {"train": train | {"distill": taught | options}} for name, options in WAYS.items()
    }
    print(f"| student | {' | '.join(f'seed {seed}' for seed in seeds)} | mean | to alone, points |")
    print(f"| --- | {'---: | ' * len(seeds)}---: | ---: |")
    base: list[float] = []
    for name, tree in rows.items():
        values = [accuracy(tree | {"train": tree["train"] | {"seed": seed}}, folder) for seed in seeds]
        base = base or values
        gain = interval(np.subtract(values, base).tolist()) if values is not base else ""
        shown = " | ".join(f"{100 * value:.1f} %" for value in values)
        print(f"| {name} | {shown} | {100 * np.mean(values):.1f} % | {gain} |", flush=True)


if __name__ == "__main__":
    main()
