"""A small search written by hand, as the event dictionaries of its ledger."""

from typing import Any

import pytest

SPEC = {
    "schema": 1,
    "name": "by-hand",
    "objectives": {"top1": "max", "gflops": "min"},
    "constraints": {"gflops": {"max": 1.0}},
    "search": {
        "sampler": {"kind": "tpe", "seed": 0},
        "scheduler": {"kind": "halving", "min_epochs": 1, "reduction": 3},
        "budget": {"trials": 6},
    },
    "resources": {"gpus": 0},
}


def proposed_event(trial: int, kind: str | None, gflops: float) -> dict[str, Any]:
    module = {"kind": kind, "alpha": 2, "kernel_size": 3, "stages": [2, 3, 4, 5], "position": "b", "every": 1}
    config = {
        "data": {"kind": "motion", "root": "auto", "cache": "auto"},
        "model": {"frames": 8, "attention": [module] if kind else []},
        "train": {"epochs": 2, "lr": 0.05, "seed": 0},
    }
    return {
        "event": "proposed", "trial": trial, "params": {"model.frames": 1, "model.attention": 0},
        "config": config, "identity": f"{trial:016x}", "architecture": "a" * 16,
        "cost": {"gflops": gflops, "params_m": 2.0},
    }  # fmt: skip


def report_event(trial: int, epoch: int, top1: float) -> dict[str, Any]:
    metrics = {"top1": top1, "loss": 1.0 - top1, "train_loss": 0.5}
    return {"event": "report", "trial": trial, "epoch": epoch, "metrics": metrics, "seconds": 3.0}


@pytest.fixture
def events() -> list[dict[str, Any]]:
    """Events of a search: trials 0 and 1 are finished, 2 was stopped early, 3 failed, 4 failed once and was resumed.

    Hypervolume with reference point (0, 1): after trial 0, 0.5 * 0.8 = 0.4; with trial 1, 0.4 + 0.25 * 0.6 = 0.55.
    """
    trees: list[dict[str, Any]] = [
        {"event": "search", "id": "s1", "name": "by-hand", "spec": SPEC, "versions": {}},
        proposed_event(0, None, 0.2),
        {"event": "started", "trial": 0, "epoch": 0},
        report_event(0, 1, 0.25),
        report_event(0, 2, 0.5),
        {"event": "finished", "trial": 0, "epoch": 2, "seconds": 6.0},
        proposed_event(1, "tam", 0.4),
        {"event": "rejected", "params": {}, "identity": "f" * 16, "cost": {"gflops": 2.0}, "reason": "over the limit"},
        proposed_event(2, "tam", 0.8),
        {"event": "started", "trial": 1, "epoch": 0},
        {"event": "started", "trial": 2, "epoch": 0},
        report_event(1, 1, 0.5),
        report_event(2, 1, 0.125),
        {"event": "stopped", "trial": 2, "epoch": 1, "reason": "below the front"},
        proposed_event(3, "sta", 0.5),
        {"event": "started", "trial": 3, "epoch": 0},
        {"event": "failed", "trial": 3, "error": "out of memory", "final": True},
        report_event(1, 2, 0.75),
        {"event": "finished", "trial": 1, "epoch": 2, "seconds": 6.0},
        proposed_event(4, "sta", 0.5),
        {"event": "started", "trial": 4, "epoch": 0},
        report_event(4, 1, 0.375),
        {"event": "failed", "trial": 4, "error": "a worker died", "final": False},
        {"event": "resumed"},
        {"event": "started", "trial": 4, "epoch": 1},
    ]
    return [{"time": 1.7e9 + 2 * n} | event for n, event in enumerate(trees)]
