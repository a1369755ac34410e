"""The user's prior and first configs in a spec."""

from typing import Any

import pytest

from search.report.tables.check import render
from search.spec.check import check
from search.spec.messages import SpecError
from search.spec.schema import Spec
from search.spec.yaml_reader import parse
from tests.search.spec.minimal import MINIMAL, Problems
from tests.search.spec.small import small


def searched(**search: Any) -> Spec:
    return small(search={"budget": {"trials": 100}, "sampler": {"kind": "frontier"}} | search)


def test_the_keys_of_a_prior_may_be_numbers() -> None:
    tree = parse("search: {prior: {model.frames: {8: 3, true: 2, 0.50: 1}}}")

    assert tree == {"search": {"prior": {"model.frames": {"8": 3, "true": 2, "0.5": 1}}}}
    with pytest.raises(ValueError, match="line 2: a key must be a word"):
        parse("prior: {a: {1: 2}}\nb: {1: 2}")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("search.prior={model.frames: {'4': -1}}", "search.prior.model.frames.4: must be above 0 (got -1)"),
        ("search.prior={model.frames: {'4': 0}}", "search.prior.model.frames.4: must be above 0 (got 0)"),
        ("search.prior={model.frames: 4}", "search.prior.model.frames: must be a mapping (got 4)"),
        ("search.prior={model.frames: {'4': 2}}",
         "search.prior: sampler tpe does not use it; write sampler: {kind: frontier}, or leave it out"),
        ("search.start=[{model.size: 3}]", "search.start[0].model.size: is no range of the space; the ranges are none"),
        ("search.start=[4]", "search.start[0]: must be a mapping (got 4)"),
    ],
)  # fmt: skip
def test_what_is_expected_must_fit_the_spec(problems: Problems, change: str, line: str) -> None:
    assert f"spec.yaml: {line}" in problems(change, text=MINIMAL)


def test_all_problems_of_first_configs_are_named() -> None:
    with pytest.raises(SpecError) as error:
        searched(prior={"model.frames": {"5": 1}}, start=[{"model.frames": 5}, {}, {"train.lr": 3}])

    places = [line.split(": ")[1] for line in error.value.lines]
    assert places == ["search.prior.model.frames.5", "search.start[0].model.frames", "search.start[2].train.lr"]


def test_a_first_config_over_a_limit_is_refused_before_the_search() -> None:
    start = {"start": [{"model.frames": 4}, {"model.frames": 8}]}
    costs = sorted(cost["gflops"] for cost in check(searched(**start)).architectures)
    limited = small(search={"budget": {"trials": 9}} | start, constraints={"gflops": {"max": costs[0]}})

    with pytest.raises(
        SpecError, match=r"^spec\.yaml: search\.start\[1\]: is over a limit: gflops .* is above"
    ) as error:
        check(limited)
    assert len(error.value.lines) == 1


def test_check_says_what_the_prior_favours() -> None:
    # Half of the configs have 8 frames. With a weight of 3 they are three quarters; 2,000 draws are within 4 %.
    checked = check(searched(prior={"model.frames": {"8": 3}}, start=[{"model.frames": 8}]))

    assert checked.prior is not None
    assert (checked.prior.among, checked.prior.drawn) == (pytest.approx(0.5, abs=0.04), pytest.approx(0.75, abs=0.04))
    assert "1 config tried first, after the baseline" in render(checked)
    assert "favours" not in render(check(searched()))
