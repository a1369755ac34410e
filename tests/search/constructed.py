"""Searches whose truth is known: the accuracy of a trial is a formula of its cost and its options."""

import json
import math
import random
from pathlib import Path
from typing import Any

from search.ledger.events import Event
from search.ledger.history import History
from spaces.space import Space
from tests.search.events import event

#: what an option adds to the accuracy, whatever the cost
EFFECTS = {"none": 0.0, "tam": 0.1, "tsm": 0.2}
#: what ten times the cost adds
BY_COST = 0.2
#: standard deviation between seeds
NOISE = 0.01
CLIPS = 2000
START = 1.8e9

SPEC: dict[str, Any] = {
    "schema": 1,
    "name": "constructed",
    "trial": {
        "data": {"kind": "ucf101"},
        "model": {
            "frames": {"choice": [4, 8]},
            "backbone": {"kind": "resnet", "depth": 10, "width": {"choice": [0.125, 0.25, 0.5]}},
            "attention": {
                "choice": [
                    [],
                    [{"kind": "tsm", "stages": {"subset": [2, 3, 4]}}],
                    [{"kind": "tam", "alpha": {"choice": [1, 2]}, "beta": {"choice": [2, 4]}, "stages": [2, 3]}],
                ]
            },
        },
        "train": {"lr": {"float": [0.01, 0.3], "log": True}, "epochs": 9},
    },
    "objectives": {"top1": "max", "gflops": "min"},
    "constraints": {},
    "search": {"sampler": {"kind": "random"}, "scheduler": {"kind": "none"}, "budget": {"trials": 100}},
}


def gflops(model: dict[str, Any]) -> float:
    """Return a cost that no mechanism changes."""
    return 0.02 * model["frames"] * (model["backbone"]["width"] / 0.125) ** 2


def accuracy(model: dict[str, Any]) -> float:
    """Return the true accuracy."""
    kind = model["attention"][0]["kind"] if model["attention"] else "none"
    return 0.3 + BY_COST * math.log10(gflops(model) / 0.08) + EFFECTS[kind]


def trees(trials: int, seed: int = 0, stopped: float = 0.0, epochs: int = 9) -> list[dict[str, Any]]:
    """Return the events of a search at random, of which a fraction ``stopped`` of the trials ended halfway."""
    rng, space = random.Random(seed), Space(SPEC["trial"], ("trial",))
    found = [{"event": "search", "time": START, "id": "constructed", "name": "constructed", "spec": SPEC,
              "clips": {"val": CLIPS}}]  # fmt: skip
    time = START
    for number in range(trials):
        params, config = space.sample(rng)
        config = config | {"train": config["train"] | {"seed": 0, "epochs": epochs}}
        final = min(1.0, max(0.0, rng.gauss(accuracy(config["model"]), NOISE)))
        curve = [final * (1 - 0.6 * math.exp(-4 * epoch / epochs)) for epoch in range(1, epochs)]
        curve = [round(value * CLIPS) / CLIPS for value in [*curve, final]]
        cost = {"gflops": gflops(config["model"]), "params_m": 1.0}
        ends_early = rng.random() < stopped
        events: list[dict[str, Any]] = [
            {"event": "proposed", "params": params, "config": config, "identity": f"{number:016x}", "cost": cost},
            {"event": "started", "gpus": 1},
        ]
        for epoch in range(1, (epochs // 2 if ends_early else epochs) + 1):
            metrics = {"top1": curve[epoch - 1]}
            events.append({"event": "report", "epoch": epoch, "metrics": metrics, "seconds": 2.0})
        end = {"event": "stopped", "reason": "probability of improvement 0.01 is below 0.03"}
        events.append(end | {"epoch": epochs // 2} if ends_early else {"event": "finished", "epoch": epochs})
        for tree in events:
            time += 1.0
            found.append({"trial": number, "time": time} | tree)
    return [*found, {"event": "ended", "reason": "budget", "time": time}]


def events(trials: int, **options: Any) -> list[Event]:
    """Return the events of `trees`."""
    return [event(tree) for tree in trees(trials, **options)]


def history(trials: int, **options: Any) -> History:
    """Return the history of `trees`."""
    return History.of(events(trials, **options))


def write_ledger(path: Path, trials: int, **options: Any) -> None:
    """Write the ledger of `trees`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(e.line(), separators=(",", ":")) for e in events(trials, **options)]
    path.write_text("\n".join(lines) + "\n")
