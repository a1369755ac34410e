"""Trust in an earlier search, by the agreement of its accuracies with those of this search."""

import math

import pytest

from search.ledger.events import EarlierTrial, Reported, WarmStarted
from search.ledger.history import Trial
from search.proposals.trust import Guard, distance
from spaces.space import Choice, Float, Int, Subset
from tests.search.searches import spec


def guarded(objectives: dict[str, str]) -> tuple[Guard, list[Trial]]:
    """Return the guard of an earlier search with ten rates, each better than the last, and the same trials here."""
    space = spec(objectives=objectives, train={"lr": {"float": [0.1, 1.0], "step": 0.1}})
    earlier, trials = [], []
    for n in range(10):
        params = {"model.frames": 0, "model.attention": 0, "train.lr": round(0.1 * (n + 1), 1)}
        cost = {"gflops": 1.0 + n}
        earlier.append(EarlierTrial(trial=n, params=params, identity=str(n), metrics={"top1": 0.05 * n} | cost))
        trials.append(Trial(n, params, {}, "", "", cost, state="finished"))
    source = WarmStarted(source="runs/a", id="", name="", trials=tuple(earlier), left_out={}, differs=())
    return Guard(space, source), trials


def with_accuracies(trials: list[Trial], *top1s: float) -> list[Trial]:
    """Return the first trials, after one epoch with these accuracies."""
    for trial, top1 in zip(trials, top1s, strict=False):
        trial.reports = [Reported(trial=trial.number, epoch=1, metrics={"top1": top1}, seconds=1.0)]
    return trials[: len(top1s)]


def test_an_earlier_search_is_trusted_while_its_ranking_agrees() -> None:
    guard, trials = guarded({"top1": "max"})
    alike = [0.4 + 0.01 * n for n in range(10)]

    assert guard.decide(with_accuracies(trials, *alike[:5]), trusted=False) is None
    trusted = guard.decide(with_accuracies(trials, *alike[:6]), trusted=False)
    assert trusted is not None
    # It predicted 0, 0.05, 0.1 ... 0.25; measured are 0.4, 0.36, 0.32, 0.28, 0.24, 0.2 more; the median is 0.3.
    assert trusted.offset == {"top1": pytest.approx(0.3)}
    assert (trusted.source, trusted.trusted, trusted.correlation, trusted.trials) == ("runs/a", True, 1.0, 6)
    assert guard.decide(with_accuracies(trials, *alike), trusted=True) is None
    assert guard.decide(with_accuracies(trials, *reversed(alike)), trusted=False) is None
    dropped = guard.decide(with_accuracies(trials, *reversed(alike)), trusted=True)
    assert dropped is not None
    assert (dropped.trusted, dropped.correlation) == (False, -1.0)


def test_the_correlation_that_is_needed_depends_on_the_number_of_trials() -> None:
    # Two neighbours swapped: rho = 1 - 6 * 2 / 210 = 0.943; the lower limit tanh(artanh(0.943) - 1.645 sqrt(1.06 / 3))
    # is 0.66. Three pairs swapped: rho = 1 - 6 * 6 / 210 = 0.829, limit 0.205: just enough. With
    # rho = 1 - 6 * 10 / 210 = 0.714 it is not.
    for order, trusted in (([1, 0, 2, 3, 4, 5], True), ([1, 0, 3, 2, 5, 4], True), ([2, 1, 0, 4, 3, 5], False)):
        guard, trials = guarded({"top1": "max"})
        decision = guard.decide(with_accuracies(trials, *(0.1 * place for place in order)), trusted=False)
        assert (decision is not None) is trusted, order


def test_that_higher_cost_is_better_in_both_searches_is_no_agreement() -> None:
    guard, trials = guarded({"top1": "max", "gflops": "min"})

    assert guard.decide(with_accuracies(trials, *(0.4 + 0.01 * n for n in range(10))), trusted=False) is None


def test_a_diverged_trial_does_not_count() -> None:
    guard, trials = guarded({"top1": "max"})

    decision = guard.decide(with_accuracies(trials, math.nan, *(0.4 + 0.01 * n for n in range(6))), trusted=False)

    assert decision is not None
    assert decision.trials == 6


def test_a_distance_is_a_sum_over_ranges() -> None:
    domains = {
        "choice": Choice(("a", "b")), "int": Int(1, 5), "log": Float(0.01, 1.0, None, True),
        "subset": Subset(("a", "b", "c"), 0, 3), "only": Choice(("a",)),
    }  # fmt: skip
    a = {"choice": 0, "int": 1, "log": 0.1, "subset": [0, 1]}
    b = {"choice": 1, "int": 3, "log": 1.0, "subset": [1, 2], "only": 0}

    # A different choice, half of the range, half of the log range, 2 of 3 members not shared, one range in b only.
    assert distance(a, b, domains) == pytest.approx(1 + 0.5 + 0.5 + 2 / 3 + 1)
    assert distance(b, a, domains) == distance(a, b, domains)
    assert distance(a, a, domains) == 0
