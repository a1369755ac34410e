"""Columns of untrained networks: values are worked out by hand."""

from collections.abc import Callable
from math import log, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search.samplers.shared.candidates import CandidatePool
from tests.benchmarks.bench_untrained import (
    EPSILON,
    Net,
    columns,
    gradient_norm,
    jacobian_covariance,
    reversal_change,
    with_columns,
)
from tests.benchmarks.problems import RECORDED, load_problem
from vattn.config import ModelConfig


def net(features: Callable[[Tensor], Tensor], classifier: nn.Module | None = None) -> Net:
    """Return a network with these features (N, C) of clips, and a classifier of them."""

    def run(clips: Tensor, with_features: bool) -> tuple[Tensor, Tensor]:
        own = features(clips)
        return (classifier or nn.Identity())(own), own

    return run


def clips(*values: list[float]) -> Tensor:
    """Return clips of one pixel, from its values in each frame."""
    return torch.tensor(values, dtype=torch.float32).view(len(values), 1, -1, 1, 1)


def last_frame(x: Tensor) -> Tensor:
    return x[:, :, -1].flatten(1)


def test_the_change_by_a_reversal_is_relative_to_the_spread_over_clips() -> None:
    # The features 1 and 3, whose mean is 2, become 0: (1 + 9) / (1 + 1).
    change = reversal_change(net(last_frame), clips([0, 1], [0, 3]))

    assert change == pytest.approx(sqrt(5))


def test_a_network_that_averages_over_frames_does_not_change() -> None:
    assert reversal_change(net(lambda x: x.mean(2).flatten(1)), clips([0, 1], [0, 3])) == 0


def test_a_linear_network_has_the_same_gradient_at_all_clips() -> None:
    # All correlations are 1: the eigenvalues are 3, 0 and 0.
    covariance = jacobian_covariance(net(last_frame), clips([0, 1], [2, 3], [5, 4]))

    score = -(log(3 + EPSILON) + 1 / (3 + EPSILON) + 2 * (log(EPSILON) + 1 / EPSILON))
    assert covariance == pytest.approx(-log(-score - 3))


def test_uncorrelated_gradients_have_the_largest_covariance() -> None:
    # The gradient of half the squared pixels is the clip itself. The eigenvalues are 1 and 1, and the score is at its
    # bound, -2.
    covariance = jacobian_covariance(
        net(lambda x: x.square().flatten(1).sum(1, keepdim=True) / 2), clips([1, -1, 0, 0], [0, 0, 1, -1])
    )

    assert covariance == pytest.approx(-log(EPSILON))


def test_the_gradient_norm_is_summed_over_parameters() -> None:
    classifier = nn.Linear(1, 2)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)

    norm = gradient_norm(
        net(last_frame, classifier), clips([0, 3], [0, 1]), torch.tensor([0, 0]), list(classifier.parameters())
    )

    # Each class has the probability 1/2, so a score has the gradient -1/4 or 1/4 at each clip: those of the weights
    # are -1 and 1, those of the bias -1/2 and 1/2.
    assert norm == pytest.approx(log(sqrt(2) + sqrt(0.5)))


def test_networks_repeat_and_only_those_that_see_the_order_of_frames_change() -> None:
    def model(*attention: dict[str, Any]) -> ModelConfig:
        return ModelConfig.parse({
            "frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125},
            "attention": attention, "head": {"dropout": 0.5},
        })  # fmt: skip

    blind = columns(model({"kind": "se", "reduction": 4}), 0)
    seeing, again = (columns(model({"kind": "tsm"}), 0) for _ in range(2))

    assert blind["reversal"] < 1e-5
    assert seeing["reversal"] > 0.1
    del seeing["seconds"], again["seconds"]
    assert seeing == again


def test_the_sampler_sees_a_column_as_it_is() -> None:
    problem = load_problem(RECORDED)
    values = np.linspace(-1, 1, len(problem.params))
    shown = with_columns(problem, ["column"], {"column": values[None]})
    pool = CandidatePool(
        shown.space, lambda params: {name: float(known[shown.number(params)]) for name, known in shown.known.items()}
    )

    for number in (0, 70, 139):
        candidate = pool.candidate(shown.params[number])
        assert candidate
        assert candidate.point[-1] == pytest.approx(values[number])
