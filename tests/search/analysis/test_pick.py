"""The rules that pick a finished trial."""

import pytest

from search.analysis.pareto import Objectives
from search.analysis.pick import pick
from tests.search.trials import history, small_search, trial_events
from vattn.errors import UserError

BOTH: Objectives = {"top1": "max", "gflops": "min"}


def test_each_rule_picks_its_trial() -> None:
    search = small_search()

    # Scaled front: (0, 1), (0.75, 2/3), (1, 0).
    assert pick(search, BOTH, "knee").number == 0
    assert pick(search, BOTH, "best").number == 1
    assert pick(search, BOTH, "gflops<=3").number == 0
    assert pick(search, BOTH, "gflops <= 1e0").number == 3
    assert pick(search, {"gflops": "min", "top1": "max"}, "gflops<=4").number == 1
    assert pick(search, BOTH, "trial=2").number == 2


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("elbow", r"pick: must be knee, best, trial=ID or NAME<=X, such as gflops<=0.5 \(got 'elbow'\)$"),
        ("gflops<=0.2", "pick gflops<=0.2: no finished trial is within it; the least gflops is 1$"),
        ("watts<=3", "pick watts<=3: no metric is named so; there are gflops, params_m, top1$"),
        ("gflops<=1e", "pick gflops<=1e: '1e' is not a number$"),
        ("trial=9", "pick trial=9: there is no such trial; finished are 0, 1, 2, 3$"),
        (
            "trial=4",
            "pick trial=4: it was stopped early after 1 epochs, with partial metrics; finished are 0, 1, 2, 3$",
        ),
        ("trial=5", "pick trial=5: it is running after 1 epochs, with partial metrics; finished are 0, 1, 2, 3$"),
    ],
)
def test_a_rule_that_no_finished_trial_satisfies_names_the_possible_values(rule: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pick(small_search(), BOTH, rule)


def test_a_pick_before_the_first_finished_trial_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"pick best: no trial is finished yet \(1 running\); wait, or resume the search"
    ):
        pick(history(trial_events(0, [0.5], 1.0, end="running")), BOTH, "best")
