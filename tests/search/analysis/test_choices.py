"""Choices as groups of options."""

from search.analysis.choices import choices_of
from tests.search.constructed import SPEC, history
from tests.search.trials import history as by_hand
from tests.search.trials import trial_events


def test_options_subsets_and_long_ranges_become_groups() -> None:
    trials = list(history(60, seed=3).trials.values())
    choices = {choice.name: choice for choice in choices_of(SPEC, trials)}

    assert list(choices) == [
        "frames", "width", "attention", "tsm: stages 2", "tsm: stages 3", "tsm: stages 4", "tam: alpha", "tam: beta",
        "lr",
    ]  # fmt: skip
    assert choices["attention"].options == ("none", "tsm", "tam")
    assert choices["tsm: stages 3"].options == ("without", "with")
    assert len(choices["lr"].options) == 3
    for trial in trials:
        model, number = trial.config["model"], trial.number
        kind = model["attention"][0]["kind"] if model["attention"] else "none"
        assert choices["attention"].options[choices["attention"].taken[number]] == kind
        assert (number in choices["tam: alpha"].taken) == (kind == "tam")
        if kind == "tsm":
            stages = model["attention"][0]["stages"]
            assert choices["tsm: stages 4"].taken[number] == int(4 in stages)
    sizes = [list(choices["lr"].taken.values()).count(n) for n in range(3)]
    assert max(sizes) - min(sizes) <= 1


def test_options_that_are_lists_are_named_by_their_values() -> None:
    spec = {"trial": {"model": {"detector": {"scales": {"choice": [[2, 4, 8], [2, 3, 4, 6, 8]]}}}}}
    trials = [trial_events(n, [0.5], 1.0) for n in range(2)]
    for n, events in enumerate(trials):
        events[0]["params"] = {"model.detector.scales": n}

    (choice,) = choices_of(spec, list(by_hand(*trials).trials.values()))

    assert (choice.name, choice.options) == ("scales", ("2,4,8", "2,3,4,6,8"))


def test_a_choice_with_one_value_is_left_out_and_a_space_is_not_needed() -> None:
    history_ = by_hand(trial_events(0, [0.5], 1.0), trial_events(1, [0.6], 2.0))
    assert choices_of({}, list(history_.trials.values())) == []
    other = trial_events(2, [0.6], 2.0)
    other[0]["params"] = {"train.lr": 0.1}
    (choice,) = choices_of({}, list(by_hand(trial_events(0, [0.5], 1.0), other).trials.values()))
    assert (choice.name, choice.options, dict(choice.taken)) == ("lr", ("0.05", "0.1"), {0: 0, 2: 1})
