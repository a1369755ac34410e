"""Temporal detection on generated untrimmed videos: R-C3D and Segment-CNN, each with and without STA, by seed.

    python tests/benchmarks/bench_detection.py [--seeds 3] [--epochs 6] [--out FOLDER]
    python tests/benchmarks/bench_detection.py --memory c3d|18|34|50 [--recompute]

It trains each detector with each seed, prints the mean average precision on the test split at each threshold of IoU
with its interval (Student's t over the seeds), GFLOPs and seconds of training, and the same for detectors that know
nothing: random segments with the true class frequencies, the whole video as each class, and none. Trainings that are in
FOLDER already are not repeated.

``--memory`` passes one buffer of 768 frames at 112 pixels forward and backward through R-C3D around C3D or a 3D ResNet,
in float32 on the CPU, and prints the bytes that it takes at its peak: those of its tensors besides weights, counted as
they come and go, and all of the process.
"""

import argparse
import json
import math
import resource
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit

from tests.benchmarks.tables import row, table
from vattn.config import ModelConfig, TrialConfig
from vattn.cost import cost
from vattn.data import open_clips, prepare
from vattn.detection.evaluation import THRESHOLDS
from vattn.detection.videos import videos
from vattn.model import build_model
from vattn.training.fit import fit, score_test_split
from vattn.training.memory import step_peak
from vattn.training.recompute import recompute_blocks
from vattn.training.tasks.detecting import Detected

DATA: dict[str, Any] = {
    "kind": "motion_untrimmed", "motions": 8, "train_videos": 24, "val_videos": 4, "test_videos": 24, "size": 48,
    "store": {"size": 48},
}  # fmt: skip
BACKBONE = {"kind": "resnet3d", "depth": 10, "width": 0.25}
#: frames, detector, batch, learning rate, stages of STA
DETECTORS: dict[str, tuple[int, dict[str, Any], int, float, list[int]]] = {
    "R-C3D": (128, {
        "kind": "rc3d", "channels": 64, "step": 64, "scales": [2, 3, 4, 6, 8], "anchors": 32, "regions": 32,
        "proposals": 50,
    }, 2, 0.02, [4]),
    "S-CNN": (8, {"kind": "scnn", "lengths": [16, 32, 64]}, 16, 0.02, [5]),
}  # fmt: skip
NUM_RANDOM = 100


def trial(name: str, sta: bool, seed: int, epochs: int) -> TrialConfig:
    """Return the config of one training."""
    frames, detector, batch, lr, stages = DETECTORS[name]
    attention = [{"kind": "sta", "stages": stages}] if sta else []
    return TrialConfig.parse(
        {
            "task": "detection",
            "data": DATA,
            "model": {
                "frames": frames, "size": 48, "backbone": BACKBONE, "attention": attention, "detector": detector,
            },
            "train": {
                "epochs": epochs, "batch": batch, "lr": lr, "clip_norm": 10.0, "schedule": "cosine", "seed": seed,
            },
        }
    )  # fmt: skip


def baselines(cache: Path) -> dict[str, dict[str, float]]:
    """Return the metrics of detectors that know nothing on the test split."""
    data = trial("R-C3D", False, 0, 1).data
    every = videos(open_clips(cache, "test"), data)
    train = np.concatenate([v.annotation.instances for v in videos(open_clips(cache, "train"), data)])
    tested = np.concatenate([v.annotation.instances for v in every])
    shares = np.bincount(tested[:, 2].astype(int), minlength=data.num_classes()) / len(tested)
    rng = np.random.default_rng(0)
    drawn, whole = [], []
    for video in every:
        length = video.frames / 25.0
        durations = rng.choice(train[:, 1] - train[:, 0], NUM_RANDOM)
        start = rng.uniform(0, np.maximum(length - durations, 0))
        labels = 1 + rng.choice(len(shares), NUM_RANDOM, p=shares)
        drawn.append(np.column_stack([labels, start, start + durations, rng.random(NUM_RANDOM)]))
        whole.append(np.array([(1 + label, 0.0, length, share) for label, share in enumerate(shares)]))
    found = {"random segments": drawn, "the whole video": whole, "nothing": [np.empty((0, 4))] * len(every)}
    return {name: Detected(every, rows, data.num_classes(), "thumos14").metrics for name, rows in found.items()}


def interval(values: list[float]) -> str:
    """Return mean and half of the 95 % interval over seeds, in percent."""
    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{100 * fmean(values):.1f} ± {100 * half:.1f}"


def memory(base: str, recompute: bool) -> str:
    """Return the memory of one buffer of 768 frames, forward and backward, in words."""
    backbone = {"kind": "c3d"} if base == "c3d" else {"kind": "resnet3d", "depth": int(base)}
    model = ModelConfig.parse({"frames": 768, "size": 112, "backbone": backbone, "detector": {"kind": "rc3d"}})
    predicted, counted = (_step(model, recompute, device) for device in ("meta", "cpu"))
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    words = ", ".join(f"{name} {value / 1e9:.2f} GB" for name, value in {
        "predicted": predicted, "counted": counted, "process with weights and gradients": process,
    }.items())  # fmt: skip
    return f"{base}{', recompute' if recompute else ''}: {words}"


def _step(model: ModelConfig, recompute: bool, device: str) -> int:
    with torch.device(device):
        net = build_model(model, classes=20)
    if recompute:
        recompute_blocks(net)
    return step_peak(net, model, 1, "none", device=device)


def main() -> None:
    """Train, evaluate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("build/bench_detection"))
    parser.add_argument("--memory", choices=["c3d", "18", "34", "50"])
    parser.add_argument("--recompute", action="store_true")
    arguments = parser.parse_args()
    if arguments.memory:
        began = time.monotonic()
        print(f"{memory(arguments.memory, arguments.recompute)}, {time.monotonic() - began:.0f} s")
        return
    out = arguments.out
    torch.set_num_threads(1)
    cache = prepare(trial("R-C3D", False, 0, 1).data, out)
    rows = []
    for name in DETECTORS:
        for sta in (False, True):
            results = []
            for seed in range(arguments.seeds):
                config = trial(name, sta, seed, arguments.epochs)
                folder = out / f"{name}-{'sta' if sta else 'plain'}-{seed}-{arguments.epochs}"
                known = folder / "result.json"
                if not known.is_file():
                    began = time.process_time()
                    for epoch in fit(config, cache, folder, torch.device("cpu")):
                        print(folder.name, epoch.number, f"{epoch.metrics['map']:.4f}", flush=True)
                    seconds = time.process_time() - began
                    metrics = score_test_split(config, cache, folder, torch.device("cpu"))
                    known.write_text(json.dumps(metrics | {"seconds": seconds}))
                results.append(json.loads(known.read_text()))
            gflops = cost(trial(name, sta, 0, 1).model, DATA["motions"]).gflops
            rows.append(
                [f"{name}{' with STA' if sta else ''}"]
                + [interval([result[f"map_{t:g}"] for result in results]) for t in THRESHOLDS]
                + [interval([result["map"] for result in results]), f"{gflops:.3f}"]
                + [f"{fmean(result['seconds'] for result in results):.0f}"]
            )
    for name, metrics in baselines(cache).items():
        rows.append(
            [name, *(f"{100 * metrics[f'map_{t:g}']:.1f}" for t in THRESHOLDS), f"{100 * metrics['map']:.1f}", "0", "0"]
        )
    head = ["detector", *(f"mAP {t:g}, %" for t in THRESHOLDS), "mAP 0.3 to 0.5, %", "GFLOPs", "CPU s"]
    table(*head)
    for cells in rows:
        row(*cells)


if __name__ == "__main__":
    main()
