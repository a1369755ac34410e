"""Histories that schedulers judge in tests."""

from collections.abc import Sequence
from typing import Any

from search.ledger.history import History
from tests.search.events import history_of


def history(
    *trials: tuple[float, Sequence[float]], finished: int = 0, metric: str = "top1", epochs: int = 2
) -> History:
    """Return a history of trials of ``epochs``, given by their GFLOPs and their metric after each epoch so far.

    The first ``finished`` trials have ended.
    """
    events: list[dict[str, Any]] = []
    for number, (gflops, values) in enumerate(trials):
        config = {"train": {"epochs": epochs}}
        events.append({"event": "proposed", "trial": number, "config": config, "cost": {"gflops": gflops}})
        for epoch, value in enumerate(values, start=1):
            events.append({"event": "report", "trial": number, "epoch": epoch, "metrics": {metric: value}})
    events += [{"event": "finished", "trial": number, "epoch": epochs} for number in range(finished)]
    return history_of(events)
