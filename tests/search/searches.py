"""A small search that tests drive without Ray: its spec, its proposer, and trials that end as a test decides."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from search.ledger.events import Event, Finished, Reported, SearchBegan
from search.ledger.file import NAME, Ledger
from search.proposals.latency import Measure
from search.proposals.proposer import Proposer
from search.spec.schema import Spec
from search.spec.validation import parse

Record = Callable[[Event], Event]

#: T: 2 values; no mechanism, or TSM on 7 subsets of stages (`every` has no effect where a stage has one block); lr: 3
TREE: dict[str, Any] = {
    "schema": 1,
    "name": "study",
    "trial": {
        "data": {"kind": "motion"},
        "model": {
            "frames": {"choice": [2, 4]},
            "size": 32,
            "backbone": {"kind": "resnet", "depth": 10, "width": 0.25},
            "attention": {"choice": [[], [{"kind": "tsm", "stages": {"subset": [2, 3, 4]}, "every": {"int": [1, 2]}}]]},
        },
        "train": {"epochs": 2, "batch": 8, "lr": {"float": [0.1, 0.3], "step": 0.1}},
    },
    "search": {"budget": {"trials": 1000}, "sampler": {"kind": "random"}},
}

#: a search that begins where a user expects good models
PRIOR: dict[str, Any] = {
    "sampler": {"kind": "frontier"},
    "prior": {"model.attention": {"tsm": 4}, "model.attention/tsm/stages": {"3": 3}, "train.lr": {"0.2..0.3": 2}},
    "start": [{"train.lr": 0.3}],
}


def spec(**changes: Any) -> Spec:
    """Return the spec with other sections, or with other values in its model or training."""
    trial = dict(changes.pop("trial", TREE["trial"]))
    for section in ("model", "train"):
        trial[section] = trial[section] | changes.pop(section, {})
    return parse(TREE | {"trial": trial} | changes, Path("spec.yaml"))


@contextmanager
def searching(spec: Spec, folder: Path, measure: Measure | None = None) -> Iterator[tuple[Ledger, Proposer, Record]]:
    """Give a search's ledger, its proposer, and a function that records an event, as a new process would have them."""
    folder.mkdir(exist_ok=True)
    with closing(Ledger(folder / NAME)) as ledger:
        proposer = Proposer(spec, folder / "study.log", ledger.history, measure)
        for event in ledger.replay():
            proposer.apply(event)

        def record(event: Event) -> Event:
            recorded = ledger.append(event)
            proposer.apply(recorded)
            return recorded

        if not ledger.history.search:
            record(SearchBegan(id=folder.name, name=spec.name, spec=spec.tree(), versions={}))
        yield ledger, proposer, record


def finish(record: Record, number: int, top1: float) -> None:
    """Let a trial end after one epoch."""
    record(Reported(trial=number, epoch=1, metrics={"top1": top1}, seconds=1.0))
    record(Finished(trial=number, epoch=1, seconds=1.0))


def state(proposer: Proposer) -> list[Any]:
    """Return everything in the Optuna study's trials except times."""
    return [(t.number, t.state, t.params, t.distributions, t.values, t.user_attrs) for t in proposer.study.trials]
