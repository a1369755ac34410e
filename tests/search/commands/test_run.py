"""`vattn run` decides from the history alone whether a search is complete."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from search.commands.run import _check_content, _check_unchanged, _with_begun_scheduler, is_complete
from search.ledger.events import SearchBegan
from search.ledger.file import NAME, Ledger
from search.spec.schema import Spec
from tests.search.events import event, history_of
from tests.search.searches import TREE, spec
from vattn.errors import UserError


@pytest.mark.parametrize(
    ("applied", "budget", "exhausted", "complete"),
    [
        (1, {"trials": 5}, False, False),  # interrupted before the first proposal
        (6, {"trials": 1}, False, True),
        (6, {"trials": 2}, False, False),  # interrupted between two trials
        (6, {"trials": 2}, True, True),
        (5, {"trials": 1}, False, False),  # trained to the end, without a finished event
        (6, {"hours": 10 / 3600}, False, True),  # six events, 2 s apart, span 10 s
        (6, {"hours": 11 / 3600}, False, False),
    ],
)
def test_a_search_is_complete_when_its_budget_or_space_is_spent_and_no_trial_is_unfinished(
    events: list[dict[str, Any]], applied: int, budget: dict[str, float], exhausted: bool, complete: bool
) -> None:
    history = history_of(events[:applied])

    assert is_complete(spec(search={"budget": budget}), history, exhausted) is complete


def test_a_search_is_not_complete_before_its_front_is_confirmed(events: list[dict[str, Any]]) -> None:
    search = {"budget": {"trials": 1}, "confirm": {"top": 1, "seeds": 2}}
    config, history = spec(search=search), history_of(events[:6])
    assert not is_complete(config, history, exhausted=False)

    # The only trial is trained again, with two fresh seeds.
    for number in (1, 2):
        for tree in [*events[1:4], *events[4:6]]:
            confirms = {"confirms": 0} if tree["event"] == "proposed" else {}
            history.apply(event(tree | {"trial": number} | confirms))
            assert is_complete(config, history, exhausted=False) is (number == 2 and tree["event"] == "finished")


def resumed_spec(folder: Path, began: dict[str, Any], scheduler: dict[str, Any]) -> Spec:
    """Return the spec of a search with this scheduler in its file, resumed from a ledger of one that ``began`` so."""
    now = spec(search={"budget": {"trials": 5}, "scheduler": scheduler})
    tree = now.tree()
    tree["search"]["scheduler"] = began
    folder.mkdir()
    with closing(Ledger(folder / NAME)) as ledger:
        ledger.append(SearchBegan(id="old", name="study", spec=tree))
        resumed = _with_begun_scheduler(now, ledger)
        _check_unchanged(Path("spec.yaml"), resumed, ledger)
    return resumed


def test_a_resume_keeps_the_defaults_of_the_scheduler_that_the_search_began_with(tmp_path: Path) -> None:
    old = {"kind": "frontier", "min_epochs": 3, "probability": 0.03}

    resumed = resumed_spec(tmp_path / "open", old, {"kind": "frontier", "min_epochs": 3})

    assert resumed.search.scheduler.tree() == old
    assert resumed.space.size() == spec().space.size()
    with pytest.raises(
        UserError, match=r"scheduler.probability \(0.3, and was 0.03\): must be as when the search began"
    ):
        resumed_spec(tmp_path / "given", old, {"kind": "frontier", "min_epochs": 3, "probability": 0.3})
    with pytest.raises(UserError, match="must be as when the search began"):
        resumed_spec(tmp_path / "kind", old, {"kind": "halving"})


def test_places_of_data_may_change_and_their_content_may_not(tmp_path: Path) -> None:
    began = spec()
    event = {"id": "s", "name": began.name, "spec": began.tree(), "content": "c0ffee"}
    with closing(Ledger(tmp_path / NAME)) as ledger:
        ledger.append(SearchBegan(**event))
        moved = spec(trial=TREE["trial"] | {"data": {"kind": "motion", "root": "/elsewhere", "cache": "/else"}})

        _check_unchanged(Path("spec.yaml"), moved, ledger)
        _check_content(moved, "c0ffee", ledger)

        with pytest.raises(UserError, match=r"trial\.data\.root: has other clips or labels than the search began with"):
            _check_content(moved, "decade", ledger)
        other = spec(trial=TREE["trial"] | {"data": {"kind": "motion", "frames": 8}})
        with pytest.raises(UserError, match=r"trial\.data\.frames"):
            _check_unchanged(Path("spec.yaml"), other, ledger)


def test_a_search_of_a_version_without_priors_goes_on_and_none_is_added(tmp_path: Path) -> None:
    search = {"budget": {"trials": 5}, "sampler": {"kind": "frontier"}}
    tree = spec(search=search).tree()
    del tree["search"]["prior"], tree["search"]["start"]
    with closing(Ledger(tmp_path / NAME)) as ledger:
        ledger.append(SearchBegan(id="old", name="study", spec=tree))

        _check_unchanged(Path("spec.yaml"), spec(search=search), ledger)
        added = spec(search=search | {"prior": {"model.frames": {"2": 3}}})
        with pytest.raises(UserError, match=r"prior .* and was null"):
            _check_unchanged(Path("spec.yaml"), added, ledger)
