"""With whose weights a trial starts: its base, or the nearest finished trial."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.ledger.history import History, Trial
from search.proposals.inheritance import base_of, nearest
from search.spec.validation import parse
from vattn.canonical import trial_id

SMALL, LARGE = {"kind": "resnet", "depth": 10}, {"kind": "resnet", "depth": 18}


def history(*params: dict[str, Any], backbones: dict[int, Any] | None = None, running: int | None = None) -> History:
    """Return trials of these choices, all but ``running`` finished, with the backbone `SMALL` unless one is given."""
    found = History()
    for number, chosen in enumerate(params):
        config = {"model": {"backbone": (backbones or {}).get(number, SMALL)}}
        proposed = {"params": chosen, "config": config, "identity": f"{number}", "architecture": "a", "cost": {}}
        found.apply({"event": "proposed", "time": 0.0, "trial": number} | proposed)
        if number != running:
            found.apply({"event": "finished", "time": 0.0, "trial": number, "epoch": 1})
    return found


def heir(**params: Any) -> Trial:
    return Trial(99, params, {"model": {"backbone": SMALL}}, "heir", "a", {})


def source(history: History, trial: Trial) -> tuple[int, int] | None:
    found = nearest(history, trial)
    return found and (found[0].number, found[1])


def test_the_parent_is_the_trial_that_differs_in_the_fewest_choices() -> None:
    trials = history({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 2, "c": 1}, {"a": 1, "b": 2, "c": 2})
    assert source(trials, heir(a=2, b=2, c=2)) == (2, 1)
    assert source(trials, heir(a=1, b=1, c=1)) == (0, 0)


def test_a_choice_that_only_one_of_two_had_to_make_counts() -> None:
    trials = history({"kind": "tam", "alpha": 2, "beta": 4}, {"kind": "none"})
    # From trial 0: another kind, and two choices fewer.
    assert source(trials, heir(kind="tsm")) == (1, 1)


def test_of_equally_near_ones_the_newest_is_the_parent() -> None:
    assert source(history({"a": 1}, {"a": 2}, {"a": 3}), heir(a=4)) == (2, 1)


def test_only_finished_trials_of_the_same_backbone_have_something_to_leave() -> None:
    trials = history({"a": 1}, {"a": 2}, {"a": 2}, backbones={1: LARGE}, running=2)
    assert source(trials, heir(a=2)) == (0, 1)
    assert source(history({"a": 2}, backbones={0: LARGE}), heir(a=2)) is None
    assert source(History(), heir(a=2)) is None


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=6))
def test_no_other_trial_is_nearer(params: list[dict[str, int]]) -> None:
    trials, child = history(*params), heir(a=1, b=1)
    found = nearest(trials, child)

    assert found is not None
    pairs = [{*chosen.items()} ^ {*child.params.items()} for chosen in params]
    assert found[1] == min(len({name for name, _ in pair}) for pair in pairs)


@pytest.fixture
def space() -> dict[str, Any]:
    return {
        "data": {"kind": "motion"},
        "model": {
            "frames": {"choice": [2, 4]}, "size": 32, "backbone": {"kind": "resnet", "depth": 10},
            "attention": {"choice": [[], [{"kind": "tsm"}], [{"kind": "tam"}]]},
        },
        "train": {"epochs": 2, "batch": 8, "lr": {"choice": [0.1, 0.2]}},
    }  # fmt: skip


def test_models_that_differ_in_mechanisms_and_training_have_one_base(space: dict[str, Any]) -> None:
    spec = parse({"schema": 1, "name": "base", "trial": space, "search": {"budget": {"trials": 1}}}, Path("spec.yaml"))
    plain = spec.trial_config(spec.space.plain()[1])
    configs = [spec.trial_config(tree) for _, tree in spec.space.enumerate()]

    bases = {trial_id(base_of(config, plain)): base_of(config, plain) for config in configs}

    assert (plain.model.frames, plain.train.lr, plain.model.attention) == (2, 0.1, ())
    assert {base.model.frames for base in bases.values()} == {2, 4}
    assert len(bases) == 2
    assert all(
        (base.model.attention, base.train, base.data) == ((), plain.train, plain.data) for base in bases.values()
    )
    assert trial_id(plain) in bases
