"""What a search does next, driven by hand: no cluster, but the real study and the real ledger."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from search.ledger.file import NAME, Ledger
from search.ledger.history import EXHAUSTED
from search.spec.validation import parse
from search.tuner.state import Search

TSM, TAM = [{"kind": "tsm"}], [{"kind": "tam"}]


@contextmanager
def searching(folder: Path, attention: Any, **search: Any) -> Iterator[Search]:
    """A search over these mechanisms, taken up where its ledger ends; two trials may run at once."""
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
    spec = parse(tree, Path("spec.yaml"))
    folder.mkdir(exist_ok=True)
    with closing(Ledger(folder / NAME)) as ledger:
        found = Search(spec, folder, folder / "cache", ledger, [])
        if not ledger.history.search:
            found.record("search", id="s", name="tasks", spec=spec.tree(), versions={})
        found.slots = 2
        yield found


def start(search: Search) -> int | None:
    """Start the next trial, as Ray Tune would; return its number."""
    task = search.next_task()
    if task is None:
        return None
    search.record("started", trial=task["number"], epoch=0, gpus=0)
    return task["number"]


def end(search: Search, number: int, top1: float = 0.5) -> None:
    """Let a trial come to its end, with its weights on the disk."""
    search.folder(number).mkdir(parents=True, exist_ok=True)
    (search.folder(number) / "model.pt").write_text(f"weights of {number}")
    assert search.reported(number, {"epoch": 1, "metrics": {"top1": top1}, "seconds": 1.0})


def attention(search: Search, number: int) -> list[str]:
    return [module["kind"] for module in search.ledger.history.trial(number).config["model"]["attention"]]


def test_models_wait_for_the_one_base_that_they_share_and_start_with_its_weights(tmp_path: Path) -> None:
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
        # What was proposed is in the ledger as it was.
        assert {trial.config["train"]["init"] for trial in search.ledger.history.trials.values()} == {"scratch"}


def test_a_search_that_was_cut_off_while_models_waited_for_their_base_trains_that_first(tmp_path: Path) -> None:
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


def test_where_the_base_fails_its_heirs_start_from_scratch(tmp_path: Path) -> None:
    with searching(tmp_path, TSM, inherit="base") as search:
        base = start(search)
        assert base is not None
        assert search.reported(base, {"error": "no memory", "metrics": {}})

        task = search.next_task()

        assert task is not None
        assert json.loads(task["config"])["train"]["init"] == "scratch"
        inherits = search.ledger.history.trial(task["number"]).inherits
        assert inherits is not None
        assert inherits["source"] is None


def test_a_model_without_mechanisms_is_the_base_of_others_and_is_trained_once(tmp_path: Path) -> None:
    with searching(tmp_path, {"choice": [[], TSM]}, inherit="base") as search:
        plain = start(search)
        assert plain == 0
        assert attention(search, plain) == []
        end(search, plain, top1=0.4)

        heir = start(search)

        assert heir is not None
        inherits = search.ledger.history.trial(heir).inherits
        assert inherits is not None
        assert inherits["source"] == plain
        assert not search.ledger.history.extras


def test_a_trial_that_is_its_others_base_again_has_that_result_at_once(tmp_path: Path) -> None:
    # The first option comes first, so TSM's base is trained before its twin is proposed.
    with searching(tmp_path, {"choice": [TSM, []]}, inherit="base") as search:
        base = start(search)
        assert base is not None
        assert base in search.ledger.history.extras
        end(search, base, top1=0.375)
        while (number := start(search)) is not None:
            end(search, number)

        twin = next(number for number in search.ledger.history.trials if attention(search, number) == [])
        trial = search.ledger.history.trials[twin]
        assert (trial.state, trial.metrics["top1"]) == ("finished", 0.375)
        assert (search.folder(twin) / "model.pt").read_text() == f"weights of {base}"
        assert search.reason == EXHAUSTED


def test_a_child_starts_with_the_weights_of_the_nearest_finished_trial(tmp_path: Path) -> None:
    mechanisms = {"choice": [[], [{"kind": "tsm", "div": {"choice": [4, 8]}}]]}
    with searching(tmp_path, mechanisms, inherit="parent") as search:
        started = []
        while (number := start(search)) is not None:
            started.append(number)
            end(search, number)

        sources = [search.ledger.history.trials[number].inherits for number in started]
        # Of three trials, none, and two of TSM that differ in one choice: the later of these is a child of the other.
        assert [inherits and inherits["source"] for inherits in sources] == [None, 0, 1]


def test_the_front_is_confirmed_behind_the_end_of_the_last_trial_with_the_weights_it_began_with(tmp_path: Path) -> None:
    options = {"budget": {"trials": 2}, "inherit": "base", "confirm": {"top": 0, "seeds": 2}}
    with searching(tmp_path, {"choice": [TSM, TAM]}, **options) as search:
        base = start(search)
        assert base is not None
        end(search, base)
        one, other = start(search), start(search)
        assert one is not None
        assert other is not None
        end(search, one, top1=0.9)
        assert start(search) is None
        assert not search.at_end()
        end(search, other, top1=0.1)

        tasks = [search.next_task(), search.next_task()]

        assert tasks[0]
        assert search.ledger.history.trial(tasks[0]["number"]).confirms == one
        configs = [json.loads(task["config"]) for task in tasks if task]
        assert [config["train"]["seed"] for config in configs] == [1, 2]
        assert {config["train"]["init"] for config in configs} == {str(search.folder(base) / "model.pt")}
        assert [task["tested"] for task in tasks if task] == [True, True]


@pytest.mark.parametrize("inherit", ["none", "base", "parent"])
def test_a_search_without_anything_left_to_do_is_at_its_end(tmp_path: Path, inherit: str) -> None:
    with searching(tmp_path, {"choice": [[], TSM, TAM]}, inherit=inherit) as search:
        while (number := start(search)) is not None:
            end(search, number)

        assert search.at_end()
        assert len(search.ledger.history.trials) == 3


def test_where_nothing_can_be_written_nothing_waits_for_a_base_that_will_not_end(tmp_path: Path) -> None:
    with searching(tmp_path, {"choice": [TSM, TAM]}, inherit="base") as search:
        base = start(search)
        assert base is not None
        assert start(search) is None
        assert not search.at_end()

        assert search.reported(base, {"halt": "checkpoint.pt: no space left"})

        assert start(search) is None
        assert search.at_end()
        assert search.ledger.history.trial(base).end is None  # a resume takes it up
