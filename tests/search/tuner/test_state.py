"""The next task of a search, with the real study and ledger but without a cluster."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from search.ledger.events import Cause, Failed, Measured, SearchBegan, Started
from search.ledger.file import NAME, Ledger, read
from search.ledger.history import EXHAUSTED, FAILING
from search.proposals.latency import Measure
from search.spec.validation import parse
from search.tuner.results import EpochResult, FailedResult, HaltResult
from search.tuner.state import MAX_FAILURES, Search
from vattn.canonical import architecture_id
from vattn.config import ModelConfig

TSM, TAM = [{"kind": "tsm"}], [{"kind": "tam"}]


@contextmanager
def searching(
    folder: Path, attention: Any, sections: dict[str, Any] | None = None, measure: Measure | None = None, **search: Any
) -> Iterator[Search]:
    """A search over these mechanisms, continued from its ledger; two trials may run at once."""
    model = {
        "frames": 2,
        "size": 32,
        "backbone": {"kind": "resnet", "depth": 10, "width": 0.25},
        "attention": attention,
    }
    tree = {
        "schema": 1,
        "name": "tasks",
        "trial": {"data": {"kind": "motion"}, "model": model, "train": {"epochs": 1, "batch": 8, "lr": 0.1}},
        "search": {"budget": {"trials": 3}, "sampler": {"kind": "random"}} | search,
    }
    spec = parse(tree | (sections or {}), Path("spec.yaml"))
    folder.mkdir(exist_ok=True)
    with closing(Ledger(folder / NAME)) as ledger:
        started = Search(spec, folder, folder / "cache", ledger, [], measure=measure)
        if not ledger.history.search:
            started.record(SearchBegan(id="s", name="tasks", spec=spec.tree(), versions={}))
        started.slots = 2
        yield started


def start(search: Search) -> int | None:
    """Start the next trial, as Ray Tune would; return its number."""
    task = search.next_task()
    if task is None:
        return None
    search.record(Started(trial=task["number"], epoch=0, gpus=0))
    return task["number"]


def end(search: Search, number: int, top1: float = 0.5) -> None:
    """Let a trial report its only epoch, with its weights on the disk."""
    search.folder(number).mkdir(parents=True, exist_ok=True)
    (search.folder(number) / "model.pt").write_text(f"weights of {number}")
    assert search.reported(number, EpochResult(epoch=1, metrics={"top1": top1}, seconds=1.0))


def attention(search: Search, number: int) -> list[str]:
    return [module["kind"] for module in search.ledger.history.trial(number).config["model"]["attention"]]


def test_models_wait_for_the_base_that_they_share_and_start_with_its_weights(tmp_path: Path) -> None:
    with searching(tmp_path, {"choice": [TSM, TAM]}, inherit="base") as search:
        base = start(search)
        assert base is not None
        assert attention(search, base) == []
        assert start(search) is None  # both models wait for it
        assert not search.at_end()
        assert len(search.ledger.history.trials) == 2
        assert list(search.ledger.history.extras) == [base]
        end(search, base)

        tasks = [search.next_task(), search.next_task()]

        weights = str(search.folder(base) / "model.pt")
        assert [json.loads(task["config"])["train"]["init"] for task in tasks if task] == [weights, weights]
        # The configs in the ledger do not change.
        assert {trial.config["train"]["init"] for trial in search.ledger.history.trials.values()} == {"scratch"}


def test_a_search_killed_while_models_wait_for_their_base_trains_the_base_first(tmp_path: Path) -> None:
    with searching(tmp_path, TSM, inherit="base") as search:
        base = start(search)

    with searching(tmp_path, TSM, inherit="base") as search:
        assert start(search) == base
        assert base is not None
        end(search, base)
        heir = start(search)
        assert heir is not None
        assert attention(search, heir) == ["tsm"]
        assert len(search.ledger.history.extras) == 1


def test_a_search_ends_after_its_first_trials_have_used_all_retries(tmp_path: Path) -> None:
    tsm = [{"kind": "tsm", "stages": {"subset": [2, 3, 4, 5]}}]
    with searching(tmp_path, tsm, budget={"trials": 100}) as search:
        for _ in range(MAX_FAILURES):
            number = start(search)
            assert number is not None  # a trial that is tried again has not failed
            search.failed(number, "CUDA out of memory", final=False)
            search.failed(number, "CUDA out of memory", final=True)

        assert search.next_task() is None
        assert search.reason == FAILING


def test_if_the_base_fails_its_models_start_from_scratch(tmp_path: Path) -> None:
    with searching(tmp_path, TSM, inherit="base") as search:
        base = start(search)
        assert base is not None
        assert search.reported(base, FailedResult("no memory"))

        task = search.next_task()

        assert task is not None
        assert json.loads(task["config"])["train"]["init"] == "scratch"
        inherits = search.ledger.history.trial(task["number"]).inherits
        assert inherits is not None
        assert inherits.source is None


def test_a_trial_without_mechanisms_is_the_base_of_others_and_is_trained_once(tmp_path: Path) -> None:
    with searching(tmp_path, {"choice": [[], TSM]}, inherit="base") as search:
        plain = start(search)
        assert plain == 0
        assert attention(search, plain) == []
        end(search, plain, top1=0.4)

        heir = start(search)

        assert heir is not None
        inherits = search.ledger.history.trial(heir).inherits
        assert inherits is not None
        assert inherits.source == plain
        assert not search.ledger.history.extras


def test_a_trial_that_is_identical_to_a_finished_base_has_its_result_at_once(tmp_path: Path) -> None:
    # The first option comes first, so the base of TSM is trained before its duplicate is proposed.
    with searching(tmp_path, {"choice": [TSM, []]}, inherit="base") as search:
        base = start(search)
        assert base is not None
        assert base in search.ledger.history.extras
        end(search, base, top1=0.375)
        while (number := start(search)) is not None:
            end(search, number)

        duplicate = next(number for number in search.ledger.history.trials if attention(search, number) == [])
        trial = search.ledger.history.trials[duplicate]
        assert (trial.state, trial.metrics["top1"]) == ("finished", 0.375)
        assert (search.folder(duplicate) / "model.pt").read_text() == f"weights of {base}"
        assert search.reason == EXHAUSTED


def test_with_inherit_parent_a_trial_starts_with_the_weights_of_the_nearest_finished_trial(tmp_path: Path) -> None:
    mechanisms = {"choice": [[], [{"kind": "tsm", "div": {"choice": [4, 8]}}]]}
    with searching(tmp_path, mechanisms, inherit="parent") as search:
        started = []
        while (number := start(search)) is not None:
            started.append(number)
            end(search, number)

        inherits = [search.ledger.history.trials[number].inherits for number in started]
        # One trial without mechanisms, and two of TSM that differ in one choice: the later is a child of the earlier.
        assert [event and event.source for event in inherits] == [None, 0, 1]


def test_the_front_is_confirmed_after_the_last_trial_with_the_initial_weights_of_each_trial(tmp_path: Path) -> None:
    options = {"budget": {"trials": 2}, "inherit": "base", "confirm": {"top": 0, "seeds": 2}}
    with searching(tmp_path, {"choice": [TSM, TAM]}, **options) as search:
        base = start(search)
        assert base is not None
        end(search, base)
        best, dominated = start(search), start(search)
        assert best is not None
        assert dominated is not None
        end(search, best, top1=0.9)
        assert start(search) is None
        assert not search.at_end()
        end(search, dominated, top1=0.1)

        tasks = [search.next_task(), search.next_task()]

        assert tasks[0]
        assert search.ledger.history.trial(tasks[0]["number"]).confirms == best
        configs = [json.loads(task["config"]) for task in tasks if task]
        assert [config["train"]["seed"] for config in configs] == [1, 2]
        assert {config["train"]["init"] for config in configs} == {str(search.folder(base) / "model.pt")}
        assert [task["tested"] for task in tasks if task] == [True, True]


@pytest.mark.parametrize("inherit", ["none", "base", "parent"])
def test_a_search_with_nothing_left_to_train_is_at_its_end(tmp_path: Path, inherit: str) -> None:
    with searching(tmp_path, {"choice": [[], TSM, TAM]}, inherit=inherit) as search:
        while (number := start(search)) is not None:
            end(search, number)

        assert search.at_end()
        assert len(search.ledger.history.trials) == 3


def test_after_a_halt_nothing_waits_for_a_base(tmp_path: Path) -> None:
    with searching(tmp_path, {"choice": [TSM, TAM]}, inherit="base") as search:
        base = start(search)
        assert base is not None
        assert start(search) is None
        assert not search.at_end()

        assert search.reported(base, HaltResult("checkpoint.pt: no space left"))

        assert start(search) is None
        assert search.at_end()
        assert search.ledger.history.trial(base).end is None  # a resume continues it


@pytest.mark.parametrize(("cause", "attempts"), [("", 4), ("hang", 2), ("memory", 4)])
def test_a_lost_process_starts_again_some_times_and_a_lost_node_always(
    tmp_path: Path, cause: Cause, attempts: int
) -> None:
    with searching(tmp_path, {"choice": [TSM, TAM]}) as search:
        assert start(search) == 0
        for _ in range(10):
            search.lost(0, "the node of the process is gone", "node")
            assert start(search) == 0
        for _ in range(attempts - 1):
            search.lost(0, "gone", cause)
            assert search.ledger.history.trial(0).end is None
            assert start(search) == 0
        search.lost(0, "gone", cause)
        assert search.ledger.history.trial(0).state == "failed"

    causes = [getattr(each, "cause", None) for each in read(tmp_path / NAME) if isinstance(each, Failed)]
    assert causes == ["node"] * 10 + [cause] * attempts


def test_a_suspended_training_waits_until_there_is_room_and_comes_first(tmp_path: Path) -> None:
    with searching(tmp_path, {"choice": [TSM, TAM, [], [{"kind": "tea"}]]}, budget={"trials": 4}) as search:
        first, second = start(search), start(search)
        assert first is not None
        assert second is not None
        assert start(search) is None
        search.slots = 1

        search.suspend(second, "another job wants its share")

        assert search.ledger.history.trial(second).state == "proposed"
        assert start(search) is None
        end(search, first)
        assert start(search) == second
        search.slots = 3
        assert [start(search), start(search)] == [2, 3]


def test_a_search_wants_no_more_than_it_can_still_use(tmp_path: Path) -> None:
    with searching(tmp_path, {"choice": [TSM, TAM]}, budget={"trials": 2}) as search:
        assert search.wanted(5) == 5
        first, second = start(search), start(search)
        assert (first, second) == (0, 1)
        assert search.wanted(5) == 2
        assert search.wanted(1) == 1
        end(search, 0)
        assert search.wanted(5) == 1


def test_latency_is_measured_while_no_training_runs(tmp_path: Path) -> None:
    running: set[int] = set()
    architectures: list[str] = []

    def measure(model: ModelConfig) -> Measured:
        assert not running
        architectures.append(architecture_id(model))
        return Measured(architecture=architectures[-1], latency_ms=len(architectures), device="formula")

    tam = [{"kind": "tam", "alpha": {"int": [1, 40]}}]
    latency = {"latency": {"device": "cpu"}, "objectives": {"top1": "max", "latency_ms": "min"}}
    with searching(tmp_path, tam, latency, measure, budget={"trials": 5}) as search:
        rounds: list[list[int]] = []
        while (number := start(search)) is not None:
            rounds.append([number])
            running.add(number)
            while (number := start(search)) is not None:
                rounds[-1].append(number)
                running.add(number)
            assert not search.at_end()
            for number in rounds[-1]:
                # The others still run when the first one ends.
                assert start(search) is None
                end(search, number)
                running.remove(number)

        # Two fit at once, and the budget is five.
        assert rounds == [[0, 1], [2, 3], [4]]
        assert search.at_end()
    assert len(architectures) == len(set(architectures))
