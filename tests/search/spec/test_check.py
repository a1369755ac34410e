"""The size and the costs of a search space, counted by hand where it is small."""

import re
from itertools import chain, combinations
from pathlib import Path

import pytest
import torch

import spaces
from search.report.tables.check import render
from search.spec.check import check
from search.spec.messages import SpecError
from search.spec.schema import Spec
from search.spec.validation import MAX_COMBINATIONS, load, parse
from tests.search.spec.small import SMALL, small
from vattn.canonical import architecture_id, trial_id
from vattn.model import build_model

QUICKSTART = Path(spaces.__file__).parent / "library" / "quickstart.yaml"


@pytest.mark.medium
def test_every_spec_of_the_library_is_valid() -> None:
    files = sorted(QUICKSTART.parent.glob("*.yaml"))
    assert QUICKSTART in files

    for file in files:
        assert check(load(file)).within > 0


def test_a_small_space_is_counted_by_hand() -> None:
    result = check(small())

    # 2 clip lengths times 4: no mechanism, and tsm in res2, res3 or both.
    assert (result.combinations, len(result.architectures), result.exact) == (8, 8, True)
    assert result.trials == 8 * 2


def test_equivalent_ways_to_write_an_architecture_count_once() -> None:
    # Depth 10 has one block a stage: every second block of it is the same block.
    tsm = {"kind": "tsm", "every": {"choice": [1, 2]}, "stages": {"subset": [2, 3]}}

    result = check(small(attention=[tsm]))

    assert (result.combinations, len(result.architectures)) == (2 * 2 * 3, 2 * 3)


def test_the_numbers_are_those_of_distinct_identities() -> None:
    spec = small()

    configs = [spec.trial_config(tree) for _, tree in spec.space.enumerate()]

    assert check(spec).trials == len({trial_id(config) for config in configs})
    assert len(check(spec).architectures) == len({architecture_id(config.model) for config in configs})


def test_only_configs_within_the_limits_count_as_trials() -> None:
    half = sorted(cost["gflops"] for cost in check(small()).architectures)[:4]

    result = check(small(constraints={"gflops": {"max": max(half)}}))

    # The four models of 4 frames cost half of those of 8. A limit admits a cost that is equal to it.
    assert result.within == 4
    assert result.trials == 4 * 2


@pytest.mark.medium
def test_a_space_with_too_many_combinations_is_sampled() -> None:
    result = check(small(frames={"int": [1, MAX_COMBINATIONS]}))

    assert not result.exact
    assert result.combinations == 4 * MAX_COMBINATIONS
    assert result.trials is None


@pytest.mark.medium
def test_with_a_continuous_learning_rate_architectures_are_counted_and_trials_are_not() -> None:
    trial = SMALL["trial"] | {"train": {"epochs": 9, "batch": 4, "lr": {"float": [0.01, 0.1], "log": True}}}

    result = check(small(trial=trial))

    assert (len(result.architectures), result.exact, result.trials) == (8, True, None)


def test_a_limit_that_no_config_meets_is_a_problem_that_names_the_nearest_value() -> None:
    costs = [cost["gflops"] for cost in check(small()).architectures]

    with pytest.raises(SpecError) as error:
        check(small(constraints={"gflops": {"max": 0.001}}))

    (line,) = error.value.lines
    start = "spec.yaml: constraints.gflops.max: no config meets this limit: the lowest gflops is "
    assert line.startswith(start)
    nearest = float(line.removeprefix(start).split(";")[0])
    assert min(costs) <= nearest < 1.001 * min(costs)
    assert line.endswith("raise the limit to that (got 0.001)")
    # The way out works.
    assert check(small(constraints={"gflops": {"max": nearest}})).within > 0


def test_limits_that_exclude_all_configs_only_together_are_a_problem() -> None:
    costs = check(small()).architectures
    least_gflops, most_activations = min(c["gflops"] for c in costs), max(c["activation_mb"] for c in costs)

    with pytest.raises(SpecError, match=r"spec\.yaml: constraints: no config meets all of these limits at once"):
        check(small(constraints={"gflops": {"max": least_gflops}, "activation_mb": {"min": most_activations}}))


@pytest.mark.medium
def test_in_a_sampled_space_a_limit_is_refused_if_even_models_without_mechanisms_are_over_it() -> None:
    stages = [list(some) for some in chain.from_iterable(combinations([2, 3, 4, 5], n) for n in (1, 2, 3, 4))]
    many = [{"kind": "tsm", "stages": {"choice": stages}, "position": {"choice": ["a", "b", "d"]}} for _ in range(4)]
    space = {"attention": many}
    assert not check(small(**space)).exact

    with pytest.raises(SpecError, match=r"constraints\.gflops\.max: no config meets this limit"):
        check(small(**space, constraints={"gflops": {"max": 0.001}}))


@pytest.mark.medium
def test_a_sample_without_a_config_within_the_limits_proves_nothing() -> None:
    # Only 1 of 30,000 clip lengths is within the limit; the model without mechanisms is, too, so there is no proof.
    one_frame = check(small(frames=1)).architectures[0]["gflops"]

    result = check(small(frames={"int": [1, 30_000]}, constraints={"gflops": {"max": 1.01 * one_frame}}))

    assert not result.exact
    assert result.within == 0


def test_with_trained_weights_the_mechanisms_that_cannot_start_as_the_identity_have_their_reason() -> None:
    many = {"choice": [[], [{"kind": "tsm"}], [{"kind": "tea"}, {"kind": "nonlocal"}]]}
    search = {"budget": {"gpu_hours": 3}, "inherit": "base", "confirm": {"top": 4, "seeds": 5}}

    result = check(small(attention=many, search=search, resources={"gpus": 0.5}))

    assert {kind: bool(reason) for kind, reason in result.no_identity.items()} == {
        "tsm": True, "tea": False, "nonlocal": False,
    }  # fmt: skip
    assert (result.budget, result.inherit, result.confirm) == ((None, None, 3), "base", (4, 5))
    assert check(small(attention=many)).no_identity == {}


def test_the_expected_epochs_are_those_of_the_scheduler() -> None:
    # Rungs 1 and 3 of 9 epochs: all trials run 1 epoch, a third runs 2 more, a ninth 6 more.
    halving = {"budget": {"trials": 1}, "scheduler": {"kind": "halving", "min_epochs": 1, "reduction": 3}}

    assert check(small(search=halving)).expected_epochs == pytest.approx(1 + 2 / 3 + 6 / 9)
    assert check(small()).expected_epochs is None


def test_initial_weights_must_exist_and_are_chosen_in_one_place(tmp_path: Path) -> None:
    train = SMALL["trial"]["train"] | {"init": str(tmp_path / "gone.pt")}
    tree = SMALL | {"trial": SMALL["trial"] | {"train": train}}
    with pytest.raises(SpecError, match=r"trial\.train\.init: there is no such file; name another \(got .*gone\.pt\)"):
        check(parse(tree, Path("spec.yaml")))

    both = tree | {"search": {"budget": {"trials": 1}, "inherit": "parent"}}
    with pytest.raises(SpecError, match=r"trial\.train\.init: search\.inherit, parent, chooses the weights"):
        check(parse(both, Path("spec.yaml")))


@pytest.mark.medium
def test_what_the_models_take_from_initial_weights_is_said_and_other_weights_are_refused(tmp_path: Path) -> None:
    def spec(file: Path) -> Spec:
        train = SMALL["trial"]["train"] | {"init": str(file)}
        return parse(SMALL | {"trial": SMALL["trial"] | {"train": train}}, Path("spec.yaml"))

    plain = small(attention=[]).trial_config(next(small(attention=[]).space.one_at_a_time())[1]).model
    for width, name in ((0.5, "same.pt"), (0.25, "narrower.pt")):
        backbone = plain.backbone.model_copy(update={"width": width})
        net = build_model(plain.model_copy(update={"backbone": backbone}), small().classes)
        torch.save(net.state_dict(), tmp_path / name)
    (tmp_path / "text.pt").write_text("no weights")

    text = render(check(spec(tmp_path / "same.pt")))

    count = sum(not name.endswith("num_batches_tracked") for name in torch.load(tmp_path / "same.pt"))
    assert re.search(rf"weights +\S*same\.pt: .*: took {count} of {count} tensors", text)
    with pytest.raises(SpecError, match=r"trial\.train\.init: .*has no layer of this network; name weights"):
        check(spec(tmp_path / "narrower.pt"))
    with pytest.raises(SpecError, match=r"trial\.train\.init: "):
        check(spec(tmp_path / "text.pt"))


def test_a_limit_on_the_cost_of_a_video_counts_each_architecture_with_each_of_the_views() -> None:
    data = {"kind": "motion", "views": {"clips": {"choice": [1, 10]}}}
    tree = SMALL | {"trial": SMALL["trial"] | {"data": data}}
    free = check(parse(tree, Path("spec.yaml")))
    least = min(cost["gflops"] for cost in free.architectures)

    result = check(parse(tree | {"constraints": {"gflops_video": {"max": 10 * least}}}, Path("spec.yaml")))

    # Models of 8 frames cost twice those of 4, and tsm nothing: all 8 are within it with one clip, 4 of them with ten.
    assert result.within == 8
    assert result.trials == 2 * (8 + 4)
    assert len(result.videos) == 8 * 2
    assert max(result.videos) == pytest.approx(20 * least)


def test_views_that_no_objective_counts_are_mentioned() -> None:
    data = {"kind": "motion", "views": {"clips": {"choice": [1, 10]}}}
    tree = SMALL | {"trial": SMALL["trial"] | {"data": data}}

    assert "the objective gflops_video does" in render(check(parse(tree, Path("spec.yaml"))))
    counted = tree | {"objectives": {"top1": "max", "gflops_video": "min"}}
    assert "the objective gflops_video does" not in render(check(parse(counted, Path("spec.yaml"))))
    assert "gflops_video" not in render(check(small()))


def test_views_over_a_limit_are_refused_with_the_lowest_cost_of_a_video() -> None:
    data = {"kind": "motion", "views": {"clips": {"choice": [3, 10]}}}
    tree = SMALL | {"trial": SMALL["trial"] | {"data": data}, "constraints": {"gflops_video": {"max": 1e-6}}}

    with pytest.raises(SpecError, match=r"constraints\.gflops_video\.max: no config meets this limit: the lowest"):
        check(parse(tree, Path("spec.yaml")))
