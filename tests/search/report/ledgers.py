"""Events of whole trials, as trees that a test may change before `tests.search.events.event` reads them."""

from typing import Any

Trees = list[dict[str, Any]]


def trial(number: int, gflops: float, *top1s: float) -> Trees:
    """Return the events of a finished trial with TAM, one accuracy for each epoch."""
    config = {
        "data": {}, "train": {"epochs": 2, "lr": 0.05},
        "model": {
            "frames": 8,
            "attention": [{"kind": "tam", "alpha": 2, "kernel_size": 3, "stages": [2, 3], "position": "b", "every": 1}],
        },
    }  # fmt: skip
    trees: Trees = [
        {"event": "proposed", "params": {"model.frames": 1, "model.attention": 0}, "config": config,
         "identity": f"{number:016x}", "architecture": "b" * 16, "cost": {"gflops": gflops, "params_m": 2.0}},
        {"event": "started", "epoch": 0},
    ]  # fmt: skip
    for epoch, top1 in enumerate(top1s, start=1):
        trees.append({"event": "report", "epoch": epoch, "metrics": {"top1": top1}, "seconds": 3.0})
    trees.append({"event": "finished", "epoch": len(top1s), "seconds": 6.0})
    return [{"time": 1.8e9, "trial": number} | tree for tree in trees]


def retrainings(first: int, retrained: int, gflops: float, *top1s: float) -> Trees:
    """Return trainings of ``retrained`` with fresh seeds, numbered from ``first``; on the test split 0.1 below."""
    trees: Trees = []
    for seed, top1 in enumerate(top1s, start=1):
        training = trial(first + seed - 1, gflops, top1)
        config = training[0]["config"]
        training[0] |= {"confirms": retrained, "config": config | {"train": config["train"] | {"seed": seed}}}
        training[2]["metrics"]["test_top1"] = top1 - 0.1
        trees += training
    return trees


def without(trees: Trees, *numbers: int) -> Trees:
    """Return the events but those of some trials."""
    return [tree for tree in trees if tree.get("trial") not in numbers]


def with_objectives(trees: Trees, objectives: dict[str, str]) -> Trees:
    """Return the same search with other objectives."""
    return [trees[0] | {"spec": trees[0]["spec"] | {"objectives": objectives}}, *trees[1:]]


def with_reason(trees: Trees, reason: dict[str, Any]) -> Trees:
    """Return the same search in which every trial was proposed for one reason."""
    return [tree | {"why": reason} if tree["event"] == "proposed" else tree for tree in trees]
