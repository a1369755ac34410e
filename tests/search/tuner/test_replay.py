"""A search that is killed after any event and resumed decides like one that is not killed."""

import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from search.ledger.events import (
    Event,
    Finished,
    Proposed,
    Rejected,
    Reported,
    Resumed,
    SearchBegan,
    Started,
    Stopped,
)
from search.ledger.file import NAME, Ledger, read
from search.tuner.results import EpochResult
from search.tuner.state import Search
from tests.search.searches import PRIOR, TREE, spec, state

EPOCHS, TRIALS, WORKERS = 4, 8, 3
HALVING = {"kind": "halving", "min_epochs": 1, "reduction": 2}


class KilledError(Exception):
    """The process dies here."""


class Killer:
    """Raises KilledError after a number of events of its own process; replayed events do not count."""

    def __init__(self, after: int | None) -> None:
        self.left: int | None = None
        self._after = after

    def begin(self) -> None:
        self.left = self._after

    def apply(self, event: Event) -> None:
        if self.left is not None:
            self.left -= 1
            if not self.left:
                raise KilledError


def process(folder: Path, sampler: str, order: list[int], top1: list[int], after: int | None) -> list[Any]:
    """Run a search as Ray Tune does, until it ends or is killed; return the state of its study at the end.

    Which of the running trials reports next, and how good a trial is after an epoch, depends on the ledger alone.
    """
    chosen = PRIOR if sampler == "prior" else {"sampler": {"kind": sampler}}
    whole = spec(
        search=TREE["search"] | chosen | {"scheduler": HALVING, "budget": {"trials": TRIALS}},
        train={"epochs": EPOCHS}, constraints={"gflops": {"max": 0.006}},
    )  # fmt: skip
    killer = Killer(after)
    with closing(Ledger(folder / NAME)) as ledger:
        search = Search(whole, folder, folder, ledger, [killer])
        killer.begin()
        if ledger.history.search:
            search.record(Resumed())
        else:
            search.record(SearchBegan(id="", name="replay", spec=whole.tree(), versions={}))
        running: list[int] = []

        def take() -> list[int]:
            taken = []
            while len(running) < WORKERS and (task := search.next_task()):
                running.append(task["number"])
                taken.append(task["number"])
                search.record(Started(trial=task["number"], epoch=0))
            return taken

        def report(number: int, epoch: int) -> None:
            value = (top1[(3 * number + epoch) % len(top1)] + epoch) / 20
            if search.reported(number, EpochResult(epoch, {"top1": value}, 1.0)):
                running.remove(number)

        while True:
            while taken := take():
                # A resumed trial reports its earlier epochs again, in any order of the trials.
                for number in sorted(taken, key=lambda number: order[number % len(order)]):
                    for epoch in range(1, ledger.history.trials[number].epoch + 1):
                        if number in running:
                            report(number, epoch)
            if not running:
                return state(search._proposer)
            reports = sum(trial.epoch for trial in ledger.history.trials.values())
            number = sorted(running)[order[reports % len(order)] % len(running)]
            report(number, ledger.history.trials[number].epoch + 1)


def decisions(folder: Path) -> list[Event]:
    kinds = (Proposed, Rejected, Reported, Stopped, Finished)
    return [event.model_copy(update={"time": 0.0}) for event in read(folder / NAME) if isinstance(event, kinds)]


@pytest.mark.medium
@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "frontier", "prior"])
# The second process judges what the first could not, and dies at the report of another trial at that rung.
@example(order=[1, 1, 0, 2, 2], top1=[0, 0, 0, 8, 8, 0, 0], kills=[10, 6, 10])
@given(
    order=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    top1=st.lists(st.integers(0, 9), min_size=7, max_size=7),
    kills=st.lists(st.integers(1, 20), min_size=1, max_size=3),
)
@settings(max_examples=4)
def test_a_search_killed_at_any_event_decides_like_one_that_was_not(
    sampler: str, order: list[int], top1: list[int], kills: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        whole, torn = Path(name, "whole"), Path(name, "torn")
        known = process(whole, sampler, order, top1, None)

        for after in kills:
            with suppress(KilledError):
                process(torn, sampler, order, top1, after)
        resumed = process(torn, sampler, order, top1, None)

        assert decisions(torn) == decisions(whole)
        assert resumed == known
        assert {type(event) for event in decisions(whole)} >= {Proposed, Finished}
