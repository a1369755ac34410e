"""The initial weights of a trial: those of its base, or of the nearest finished trial."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.ledger.history import History, Trial
from search.proposals.inheritance import base_of, nearest
from search.spec.validation import parse
from tests.search.events import history_of
from vattn.canonical import trial_id

SMALL, LARGE = {"kind": "resnet", "depth": 10}, {"kind": "resnet", "depth": 18}


def history(*params: dict[str, Any], backbones: dict[int, Any] | None = None, running: int | None = None) -> History:
    """Return trials with these choices, all finished but ``running``, with the backbone `SMALL` unless one is given."""
    events: list[dict[str, Any]] = []
    for number, chosen in enumerate(params):
        config = {"model": {"backbone": (backbones or {}).get(number, SMALL)}}
        events.append({"event": "proposed", "trial": number, "params": chosen, "config": config})
        if number != running:
            events.append({"event": "finished", "trial": number})
    return history_of(events)


def child(**params: Any) -> Trial:
    return Trial(99, params, {"model": {"backbone": SMALL}}, "child", "a", {})


def source(history: History, trial: Trial) -> tuple[int, int] | None:
    """Return the number of the parent, and the number of differing choices."""
    match nearest(history, trial):
        case None:
            return None
        case parent, differing:
            return parent.number, differing


def test_the_parent_is_the_trial_with_the_fewest_differing_choices() -> None:
    trials = history({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 2, "c": 1}, {"a": 1, "b": 2, "c": 2})
    assert source(trials, child(a=2, b=2, c=2)) == (2, 1)
    assert source(trials, child(a=1, b=1, c=1)) == (0, 0)


def test_a_choice_that_only_one_of_two_trials_has_counts_as_a_difference() -> None:
    trials = history({"kind": "tam", "alpha": 2, "beta": 4}, {"kind": "none"})
    # Trial 0 differs in the kind, and has two choices more.
    assert source(trials, child(kind="tsm")) == (1, 1)


def test_of_equally_near_trials_the_newest_is_the_parent() -> None:
    assert source(history({"a": 1}, {"a": 2}, {"a": 3}), child(a=4)) == (2, 1)


def test_only_finished_trials_with_the_same_backbone_are_parents() -> None:
    trials = history({"a": 1}, {"a": 2}, {"a": 2}, backbones={1: LARGE}, running=2)
    assert source(trials, child(a=2)) == (0, 1)
    assert source(history({"a": 2}, backbones={0: LARGE}), child(a=2)) is None
    # A ledger of the time before an option existed.
    assert source(history({"a": 2}, backbones={0: SMALL | {"stochastic_depth": 0.0}}), child(a=2)) == (0, 0)
    assert source(History(), child(a=2)) is None


@pytest.mark.medium
@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=6))
def test_no_trial_is_nearer_than_the_parent(params: list[dict[str, int]]) -> None:
    heir = child(a=1, b=1)

    parent = nearest(history(*params), heir)

    assert parent is not None
    pairs = [{*chosen.items()} ^ {*heir.params.items()} for chosen in params]
    assert parent[1] == min(len({name for name, _ in pair}) for pair in pairs)


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


def test_models_that_differ_in_mechanisms_and_training_only_have_the_same_base(space: dict[str, Any]) -> None:
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
