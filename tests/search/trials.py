"""Small searches whose trials have one accuracy and one cost, for tests of fronts, picks and tables."""

from typing import Any

from search.ledger.history import History
from tests.search.events import history_of

TAM = {"kind": "tam", "alpha": 2, "beta": 4, "kernel_size": 3, "stages": [2, 3, 4, 5], "position": "b", "every": 1}


def trial_events(
    number: int, top1: list[float], gflops: float, end: str = "finished", **model: Any
) -> list[dict[str, Any]]:
    """Return the events of a trial: ``top1`` after each epoch, 2 seconds an epoch; ``model`` changes its config."""
    config = {"model": {"frames": 8, "attention": [TAM]} | model, "train": {"lr": 0.05}}
    events: list[dict[str, Any]] = [
        {"event": "proposed", "params": {"train.lr": 0.05}, "config": config, "identity": f"id{number}"}
        | {"cost": {"gflops": gflops, "params_m": 1.0}},
        {"event": "started"},
        *({"event": "report", "epoch": n, "metrics": {"top1": v}, "seconds": 2.0} for n, v in enumerate(top1, 1)),
    ]
    if end != "running":
        events.append({"event": end, "epoch": len(top1), "reason": "below the front", "seconds": 2.0 * len(top1)})
    return [{"trial": number} | event for event in events]


def history(*trials: list[dict[str, Any]]) -> History:
    """Return the history of the events of some trials."""
    return history_of(event for events in trials for event in events)


def small_search() -> History:
    """Return a search with the front 3 (0.5 at 1), 0 (0.8 at 2), 1 (0.9 at 4).

    Trial 2 is dominated, 4 was stopped, 5 is running.
    """
    return history(
        trial_events(0, [0.4, 0.8], 2.0), trial_events(1, [0.9], 4.0), trial_events(2, [0.7], 3.0),
        trial_events(3, [0.5], 1.0), trial_events(4, [0.95], 0.5, end="stopped"),
        trial_events(5, [0.99], 0.1, end="running"),
    )  # fmt: skip
