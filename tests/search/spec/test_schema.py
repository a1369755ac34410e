"""The sections of a spec: defaults, descriptions and rules."""

from pathlib import Path

import pytest

from search.spec.schema import Spec
from search.spec.sections import Budget, Confirm, Limit, Resources, Search, Tracking
from search.spec.validation import load
from tests.search.spec.minimal import Problems
from vattn.base import Config


def test_a_minimal_spec_has_all_defaults(spec_file: Path) -> None:
    spec = load(spec_file)

    assert spec.objectives == {"top1": "max", "gflops": "min"}
    assert (spec.search.sampler.kind, spec.search.scheduler.kind) == ("tpe", "none")
    assert (spec.resources.workers, spec.resources.cpus, spec.resources.gpus) == (1, 1, 0)
    assert spec.output_dir() == Path("runs/small")
    assert spec.data.kind == "motion"
    assert spec.space.size() == 1


def test_a_spec_survives_its_own_tree(spec_file: Path) -> None:
    spec = load(spec_file, ["search.scheduler={kind: halving}", "constraints={gflops: {max: 1}}"])

    assert Spec.parse(spec.tree()).tree() == spec.tree()


@pytest.mark.parametrize("section", [Spec, Limit, Search, Budget, Confirm, Resources, Tracking])
def test_each_field_has_a_description(section: type[Config]) -> None:
    # They are the text of the spec reference in the documentation.
    missing = [name for name, field in section.model_fields.items() if not field.description]

    assert missing == []


def test_limits_are_inclusive_and_a_broken_one_is_named(spec_file: Path) -> None:
    spec = load(spec_file, ["constraints={gflops: {max: 1}, params_m: {min: 2}}"])

    assert spec.broken_limits({"gflops": 1.0, "params_m": 2.0}) == []
    assert spec.broken_limits({"gflops": 1.25, "params_m": 1.0}) == ["gflops 1.25 is above 1", "params_m 1 is below 2"]


def test_the_frontier_kinds_take_one_measured_objective(problems: Problems) -> None:
    two = "objectives={top1: max, loss: min, gflops: min}"

    assert problems(two, "search.sampler.kind=frontier", "search.scheduler={kind: frontier}") == [
        "spec.yaml: objectives: search.sampler and search.scheduler of kind frontier forecast one that training "
        "measures; keep one of top1, loss"
    ]
