"""Record the learning curves of every network of space.yaml: the table that searches are compared on.

    python tests/benchmarks/curves/record.py --work FOLDER [--seeds 0 1] [--minutes M]
    python tests/benchmarks/curves/record.py --work FOLDER --pack

Each finished training is at once a line of FOLDER/curves.jsonl; the same command goes on where the last one ended, and
what curves.parquet has is not trained again. All networks are trained by the first seed in random order, then by the
next. ``--pack`` adds what is new to curves.parquet. README.md says what its columns are.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from search.spec.schema import Spec
from search.spec.validation import load
from vattn.canonical import architecture_id
from vattn.config import TrialConfig
from vattn.data import open_clips, prepare
from vattn.model import build_model
from vattn.train import evaluate, fit

SPACE = Path(__file__).with_name("space.yaml")
TABLE = Path(__file__).with_name("curves.parquet")
#: columns that are written as JSON
NESTED = ("params", "model")
CPU = torch.device("cpu")


def networks(spec: Spec) -> list[tuple[dict[str, Any], TrialConfig]]:
    """Return the values of the ranges, and the config, of every distinct network, in random order."""
    found = {}
    for params, tree in spec.space.enumerate():
        config = spec.trial_config(tree)
        found.setdefault(architecture_id(config.model), (params, config))
    listed = list(found.values())
    random.Random(0).shuffle(listed)
    return listed


def train(config: TrialConfig, cache: Path) -> dict[str, Any]:
    """Return the metrics of each epoch on the validation split, those of the last on the test split, CPU seconds."""
    top1, loss, seconds = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        for epoch in fit(config, cache, Path(folder), CPU):
            top1.append(epoch.metrics["top1"])
            loss.append(epoch.metrics["loss"])
            seconds.append(time.process_time() - began)
            began = time.process_time()
        net = build_model(config.model, config.data.num_classes())
        net.load_state_dict(torch.load(Path(folder) / "model.pt", weights_only=True))
    test = evaluate(net, open_clips(cache, "test"), config, CPU).metrics
    return {"top1": top1, "loss": loss, "seconds": seconds, "test_top1": test["top1"], "test_loss": test["loss"]}


def record(spec: Spec, work: Path, seeds: list[int]) -> Iterator[str]:
    """Train what ``work`` does not have yet, and yield a line about each training."""
    rows = work / "curves.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    whole = read(rows)
    rows.write_text("".join(json.dumps(row) + "\n" for row in whole))  # without half a line of a run cut off
    done = {key(row) for row in [*whole, *packed()]}
    listed = networks(spec)
    cache = prepare(listed[0][1].data, work)
    for seed in seeds:
        for number, (params, config) in enumerate(listed):
            architecture = architecture_id(config.model)
            if (seed, architecture) in done:
                continue
            seeded = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
            curve = train(seeded, cache)
            row = {"architecture": architecture, "seed": seed, "params": params, "model": config.model.tree()}
            row |= spec.cost(config) | curve
            with rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            shown = " ".join(f"{100 * value:.0f}" for value in curve["top1"])
            yield f"seed {seed}, {number + 1} of {len(listed)}: {shown} %, {sum(curve['seconds']):.1f} s"


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that may end in half a line, or not be there yet."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def packed() -> list[dict[str, Any]]:
    """Return the rows of the table, as far as there is one."""
    rows = pq.read_table(TABLE).to_pylist() if TABLE.exists() else []
    return [row | {name: json.loads(row[name]) for name in NESTED} for row in rows]


def key(row: dict[str, Any]) -> tuple[int, str]:
    """Return the seed and the architecture, which tell one row from another."""
    return row["seed"], row["architecture"]


def pack(work: Path) -> int:
    """Add the rows of ``work`` to the table, ordered by seed and architecture; return how many it has."""
    rows = {key(row): row for row in [*packed(), *read(work / "curves.jsonl")]}
    flat = [rows[name] | {nested: json.dumps(rows[name][nested]) for nested in NESTED} for name in sorted(rows)]
    pq.write_table(pa.Table.from_pylist(flat), TABLE, compression="zstd")
    return len(rows)


def main() -> None:
    """Record, or pack what is recorded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no training after that")
    parser.add_argument("--pack", action="store_true")
    args = parser.parse_args()
    if args.pack:
        print(f"{TABLE}: {pack(args.work)} trainings")
        return
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * args.minutes
    for line in record(load(SPACE), args.work, args.seeds):
        print(line, flush=True)
        if time.monotonic() > end:
            break


if __name__ == "__main__":
    main()
