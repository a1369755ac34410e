"""How well the latency of networks is forecast from few measured ones, compared with their GFLOPs.

``.venv/bin/python tests/benchmarks/bench_latency.py measure`` measures networks of 2D backbones with seven kinds of
mechanisms, one thread, and writes tests/benchmarks/results/latency.json; without ``measure`` the ranks are computed
from that file. The networks from which the forecast learns are left out of the comparison.
"""

import argparse
import json
import random
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from search.analysis.latency import Forecast, features, informative
from spaces.space import Space
from vattn.canonical import architecture_id
from vattn.config import ModelConfig
from vattn.cost import cost
from vattn.latency import Subject, device_name

FILE = Path(__file__).parent / "results" / "latency.json"
CLASSES, NETWORKS = 16, 90
SPACE: dict[str, Any] = {
    "frames": {"choice": [4, 8]},
    "size": {"choice": [48, 64]},
    "backbone": {"choice": [
        {"kind": "resnet", "depth": {"choice": [10, 18]}, "width": {"choice": [0.25, 0.5]}},
        {"kind": "mobilenet_v2", "width": {"choice": [0.5, 1.0]}},
    ]},
    "attention": {"choice": [
        [],
        [{"kind": "tsm", "stages": {"subset": [2, 3, 4, 5]}}],
        [{"kind": "tam", "alpha": {"choice": [1, 2, 4]}, "kernel_size": {"choice": [3, 5]},
          "stages": {"subset": [2, 3, 4, 5]}}],
        [{"kind": "tea", "stages": {"subset": [3, 4, 5]}}],
        [{"kind": "m2a", "stages": {"subset": [3, 4, 5]}}],
        [{"kind": "se", "stages": {"subset": [2, 3, 4, 5]}}],
        [{"kind": "nonlocal", "stages": {"subset": [4, 5]}}],
        [{"kind": "cstl", "stages": {"subset": [3, 4, 5]}}],
    ]},
}  # fmt: skip


def measure() -> None:
    """Measure `NETWORKS` different networks, sampled with seed 1, and write the file."""
    space, rng, device = Space(SPACE), random.Random(1), torch.device("cpu")
    measured: dict[str, dict[str, Any]] = {}
    while len(measured) < NETWORKS:
        tree = space.sample(rng)[1]
        model = ModelConfig.parse(tree)
        if (identity := architecture_id(model)) not in measured:
            timing = Subject(model, CLASSES, device, threads=1).measure("eager", 1)
            measured[identity] = {"model": tree, "ms": round(timing.p50_ms, 4)}
            print(f"{len(measured)} of {NETWORKS}: {timing.p50_ms:.4g} ms", flush=True)
    lines = ",\n".join(json.dumps(row) for row in measured.values())
    FILE.write_text(f'{{"device": {json.dumps(device_name(device))}, "networks": [\n{lines}\n]}}\n')


def read() -> tuple[list[ModelConfig], list[float]]:
    """Return the networks of the file and their latencies in milliseconds."""
    rows = json.loads(FILE.read_text())["networks"]
    return [ModelConfig.parse(row["model"]) for row in rows], [row["ms"] for row in rows]


def ranks(learnt_from: int) -> tuple[float, float, float]:
    """Return the rank correlation of forecast and measured latency, that of GFLOPs, and the median relative error."""
    models, latency = read()
    known = [features(model, CLASSES) for model in models]
    chosen = informative(known, learnt_from)
    forecast = Forecast.of([(known[index], latency[index]) for index in chosen])
    left = [index for index in range(len(models)) if index not in chosen]
    expected = [forecast.milliseconds(known[index]) for index in left]
    measured = [latency[index] for index in left]
    gflops = [cost(models[index], CLASSES).gflops for index in left]
    error = median(abs(guess / value - 1) for guess, value in zip(expected, measured, strict=True))
    forecast_rank, gflops_rank = (float(np.asarray(spearmanr(each, measured))[0]) for each in (expected, gflops))
    return forecast_rank, gflops_rank, error


def main() -> None:
    """Print the ranks for several numbers of measured networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("measure",))
    if parser.parse_args().what:
        measure()
    print("measured  forecast  GFLOPs  median error of the forecast")
    for count in (8, 12, 16, 24):
        ours, gflops, error = ranks(count)
        print(f"{count:8}  {ours:8.3f}  {gflops:6.3f}  {100 * error:.0f} %")


if __name__ == "__main__":
    main()
