"""A search whose front is retrained with fresh seeds, for tests of the estimates and of how they are shown."""

from itertools import chain
from typing import Any

from search.analysis.pareto import Objectives
from search.ledger.history import History
from tests.search.events import history_of

BOTH: Objectives = {"top1": "max", "gflops": "min"}
SPEC = {"objectives": BOTH, "constraints": {"gflops": {"max": 10.0}}, "search": {"budget": {"trials": 5}}}

Events = list[dict[str, Any]]


def trained(number: int, top1: float, gflops: float, seed: int = 0, state: str = "finished", **more: Any) -> Events:
    """Return the events of a trial of one epoch; ``more`` are fields of its proposal, and test_top1 is a metric."""
    metrics = {"top1": top1} | {key: more.pop(key) for key in list(more) if key.startswith("test_")}
    config = {"model": {"frames": 4, "attention": []}, "train": {"epochs": 1, "seed": seed}}
    events: Events = [
        {"event": "proposed", "config": config, "identity": f"{number}", "cost": {"gflops": gflops}} | more,
        {"event": "started", "gpus": 2},
        {"event": "report", "epoch": 1, "metrics": metrics, "seconds": 3.0},
    ]
    if state != "running":
        events.append({"event": state, "seconds": 3.0, "error": "no memory", "final": True})
    return [{"trial": number} | event for event in events]


def history(*trials: Events) -> History:
    return history_of([{"event": "search", "name": "again", "spec": SPEC}, *chain.from_iterable(trials)])


#: The front is 0, 1 and 2. Trial 3 misses it by 0.02 of top1, behind 1; trial 4 by 0.3, behind 2.
SEARCHED = [
    trained(0, 0.50, 1.0), trained(1, 0.70, 2.0), trained(2, 0.80, 4.0), trained(3, 0.68, 3.0), trained(4, 0.50, 5.0),
]  # fmt: skip


def again(first: int, trial: int, gflops: float, values: list[float], test: list[float] | None = None) -> list[Events]:
    """Return retrainings of a trial with fresh seeds, numbered from ``first`` on."""
    tested: list[dict[str, Any]] = [{"test_top1": value} for value in test] if test else [{}] * len(values)
    return [
        trained(first + n, value, gflops, seed=1 + n, confirms=trial, **more)
        for n, (value, more) in enumerate(zip(values, tested, strict=True))
    ]


#: Means 0.40, 0.60, 0.55 and 0.66: trial 3 replaces 2 on the front. Residuals are +-0.02 for 0, and +-0.01 for the
#: others: 2 (0.02^2 + 3 * 0.01^2) = 0.0014 with 4 degrees of freedom.
AGAIN = [
    *again(5, 0, 1.0, [0.42, 0.38], [0.30, 0.40]), *again(7, 1, 2.0, [0.61, 0.59], [0.5, 0.5]),
    *again(9, 2, 4.0, [0.56, 0.54], [0.6, 0.6]), *again(11, 3, 3.0, [0.67, 0.65], [0.6, 0.5]),
]  # fmt: skip
