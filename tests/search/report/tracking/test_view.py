"""The saved view of a search: its columns and charts are those of its objectives from the beginning."""

import pytest

from search.report.tracking.view import view
from tests.search.events import history_of


@pytest.mark.parametrize(
    ("objectives", "measured", "cost"),
    [
        ({"top1": "max", "gflops": "min"}, "top1", "gflops"),
        ({"top1": "max", "params_m": "min"}, "top1", "params_m"),
        ({"params_m": "min", "top5": "max"}, "top5", "params_m"),
    ],
)
def test_before_the_first_trial_the_objectives_are_shown_and_ordered(
    objectives: dict[str, str], measured: str, cost: str
) -> None:
    spec = {"objectives": objectives, "search": {"budget": {}}}
    before = [{"event": "search", "spec": spec}]
    costs = {"gflops": 1.0, "params_m": 2.0, "activation_mb": 3.0}
    after = [*before, {"event": "proposed", "trial": 0, "config": {"train": {"epochs": 1}}, "cost": costs}]

    first, later = (view(history_of(events), {}, True) for events in (before, after))

    assert first == later
    text = " ".join(first.values())
    assert all(name in text for name in (measured, cost))
    assert any(f"by {measured}" in value for value in first.values())
