"""Records the learning curves of every network of a space, as a table for the comparison of searches.

    python tests/benchmarks/curves/record.py TABLE --work FOLDER [--seeds 0 1] [--minutes M]
    python tests/benchmarks/curves/record.py TABLE --work FOLDER --pack

TABLE is ``small`` or ``large``: the space is TABLE.yaml, the table TABLE.parquet. Each finished training is appended to
FOLDER/curves.jsonl. The same command continues after the last finished training, and trainings in the table are not
repeated. All networks are trained with the first seed in random order, then with the next seed. ``--pack`` adds the new
trainings to the table. README.md describes the columns.
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
from tests.benchmarks.problems import CURVES, OWN_TABLES
from vattn.canonical import architecture_id
from vattn.config import TrialConfig
from vattn.data import open_clips, prepare
from vattn.model import build_model
from vattn.training.evaluation import evaluate
from vattn.training.fit import fit

#: columns with JSON
NESTED = ("params", "model")
CPU = torch.device("cpu")


def networks(spec: Spec) -> list[tuple[dict[str, Any], TrialConfig]]:
    """Return params and config of every distinct network, in random order."""
    by_architecture = {}
    for params, tree in spec.space.enumerate():
        config = spec.trial_config(tree)
        by_architecture.setdefault(architecture_id(config.model), (params, config))
    shuffled = list(by_architecture.values())
    random.Random(0).shuffle(shuffled)
    return shuffled


def train(config: TrialConfig, cache: Path) -> dict[str, Any]:
    """Return validation metrics and CPU seconds of each epoch, and the test metrics of the last one."""
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


def record(spec: Spec, table: Path, work: Path, seeds: list[int]) -> Iterator[str]:
    """Train the networks that ``work`` and ``table`` do not have yet, and yield a line about each training."""
    file = work / "curves.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    rows = read(file)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))  # removes an incomplete line of an interrupted run
    done = {key(row) for row in [*rows, *packed(table)]}
    shuffled = networks(spec)
    cache = prepare(shuffled[0][1].data, work)
    for seed in seeds:
        for number, (params, config) in enumerate(shuffled):
            architecture = architecture_id(config.model)
            if (seed, architecture) in done:
                continue
            seeded = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
            curve = train(seeded, cache)
            row = {"architecture": architecture, "seed": seed, "params": params, "model": config.model.tree()}
            row |= spec.cost(config) | curve
            with file.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            accuracies = " ".join(f"{100 * value:.0f}" for value in curve["top1"])
            yield f"seed {seed}, {number + 1} of {len(shuffled)}: {accuracies} %, {sum(curve['seconds']):.1f} s"


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; it may end in an incomplete line, or not exist."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def packed(table: Path) -> list[dict[str, Any]]:
    """Return the rows of a table, if it exists."""
    rows = pq.read_table(table).to_pylist() if table.exists() else []
    return [row | {name: json.loads(row[name]) for name in NESTED} for row in rows]


def key(row: dict[str, Any]) -> tuple[int, str]:
    """Return the seed and the architecture, which identify a row."""
    return row["seed"], row["architecture"]


def pack(table: Path, work: Path) -> int:
    """Add the rows of ``work`` to ``table``, sorted by seed and architecture, and return its number of rows."""
    rows = {key(row): row for row in [*packed(table), *read(work / "curves.jsonl")]}
    flat = [rows[name] | {nested: json.dumps(rows[name][nested]) for nested in NESTED} for name in sorted(rows)]
    pq.write_table(pa.Table.from_pylist(flat), table, compression="zstd")
    return len(rows)


def main() -> None:
    """Record learning curves, or pack the recorded ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(OWN_TABLES.values()))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no training after this time")
    parser.add_argument("--pack", action="store_true")
    args = parser.parse_args()
    table = CURVES / f"{args.table}.parquet"
    if args.pack:
        print(f"{table}: {pack(table, args.work)} trainings")
        return
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * args.minutes
    for line in record(load(CURVES / f"{args.table}.yaml"), table, args.work, args.seeds):
        print(line, flush=True)
        if time.monotonic() > end:
            break


if __name__ == "__main__":
    main()
