"""A search keeps to its budget of bytes, and keeps whatever may still be needed."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from search.analysis.front import front_of
from search.ledger.events import Finished, Proposed, Reported, Started
from search.tuner.byte_budget import needed
from search.tuner.results import EpochResult, StorageResult
from search.tuner.state import Search
from tests.search import constructed
from tests.search.searches import spec
from tests.search.tuner.test_state import searching, start

STAGES = [{"kind": "tsm", "stages": {"subset": [2, 3, 4, 5]}}]


def limited(folder: Path, attention: Any, kilobytes: float | None, **search: Any) -> AbstractContextManager[Search]:
    resources = {} if kilobytes is None else {"resources": {"storage_gb": kilobytes / 1e6}}
    return searching(folder, attention, sections=resources, budget={"trials": 30}, **search)


def finish(search: Search, number: int, top1: float, kilobytes: int = 10) -> None:
    search.folder(number).mkdir(parents=True, exist_ok=True)
    (search.folder(number) / "model.pt").write_bytes(bytes(1000 * kilobytes))
    assert search.reported(number, EpochResult(epoch=1, metrics={"top1": top1}, seconds=1.0))


def kept(search: Search) -> list[int]:
    return [number for number in sorted(search.ledger.history.trials) if (search.folder(number) / "model.pt").exists()]


def test_the_oldest_weights_that_nothing_needs_are_removed(tmp_path: Path) -> None:
    with limited(tmp_path, STAGES, kilobytes=35) as search:
        # All have the cost of one clip of the same network: TSM adds none. So only the best trial is on the front.
        for top1 in (0.2, 0.9, 0.3, 0.4, 0.5):
            number = start(search)
            assert number is not None
            finish(search, number, top1)

        assert kept(search) == [1, 3, 4]
        assert [trial.number for trial in front_of(search.ledger.history, search.spec.objectives)] == [1]


def test_without_a_budget_nothing_is_removed_until_the_disk_is_full(tmp_path: Path) -> None:
    with limited(tmp_path, STAGES, None) as search:
        for top1 in (0.2, 0.9, 0.3, 0.4, 0.5):
            number = start(search)
            assert number is not None
            finish(search, number, top1)
        assert kept(search) == [0, 1, 2, 3, 4]
        number = start(search)
        assert number is not None

        search.reported(number, StorageResult("x/checkpoint.pt: cannot be written: [Errno 28] No space left on device"))

        assert kept(search) == [1, 3, 4]  # room for two more


def test_a_checkpoint_of_an_unfinished_training_stays_even_beyond_the_budget(tmp_path: Path) -> None:
    with limited(tmp_path, STAGES, kilobytes=1) as search:
        first, second = start(search), start(search)
        assert first is not None
        assert second is not None
        search.folder(second).mkdir(parents=True)
        (search.folder(second) / "checkpoint.pt").write_bytes(bytes(5000))

        finish(search, first, 0.5)

        assert (search.folder(second) / "checkpoint.pt").exists()
        assert kept(search) == [first]  # the front


def test_the_weights_that_others_start_with_stay(tmp_path: Path) -> None:
    with limited(tmp_path / "base", STAGES, kilobytes=1, inherit="base") as search:
        base = start(search)
        assert base is not None
        finish(search, base, 0.1)
        for top1 in (0.9, 0.2):
            number = start(search)
            assert number is not None
            finish(search, number, top1)
        assert (search.folder(base) / "model.pt").exists()
        assert len(kept(search)) == 1
    with limited(tmp_path / "parent", STAGES, kilobytes=1, inherit="parent") as search:
        for top1 in (0.9, 0.2, 0.3):
            number = start(search)
            assert number is not None
            finish(search, number, top1)
        assert kept(search) == [0, 1, 2]


@given(trials=st.integers(1, 25), seed=st.integers(0, 50), stopped=st.floats(0, 0.5), top=st.integers(0, 4))
def test_the_front_its_near_misses_and_all_unfinished_trainings_are_needed(
    trials: int, seed: int, stopped: float, top: int
) -> None:
    history = constructed.history(trials, seed=seed, stopped=stopped)
    for event in (
        Proposed(trial=trials, params={}, config=history.trials[0].config, identity="i", architecture="a", cost={}),
        Started(trial=trials, epoch=0),
        Reported(trial=trials, epoch=1, metrics={"top1": 0.5}, seconds=1.0),
    ):
        history.apply(event)

    confirm = {"confirm": {"top": top, "seeds": 2}} if top else {}
    keep = needed(spec(search={"budget": {"trials": 9}} | confirm), history)

    front = {trial.number for trial in front_of(history, history.objectives)}
    assert keep >= front | {trials}
    assert len(keep) <= len(front) + 1 + top
    history.apply(Finished(trial=trials, epoch=9, seconds=1.0))
    assert all(history.trial(number).state in ("finished", "proposed", "running") for number in keep)
