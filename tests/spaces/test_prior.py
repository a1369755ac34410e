"""A prior over a space: densities by hand, draws with these densities, and the refusal of what is not in the space."""

import random
from collections import Counter
from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.prior import Prior
from spaces.space import Params, Space, SpaceError
from tests.spaces.support import MODEL


def density(prior: Prior, params: Params) -> float:
    return exp(prior.log_density(params))


def problems(tree: object, weights: dict[str, dict[str, float]]) -> list[str]:
    with pytest.raises(SpaceError) as error:
        Prior(Space({"x": tree}), weights, ("search", "prior"))
    return str(error.value).splitlines()


def test_the_weights_of_a_choice_are_relative_to_their_mean() -> None:
    # Weights 1, 3 and 1: their mean is 5/3.
    prior = Prior(Space({"x": {"choice": [1, 2, 4]}}), {"x": {"2": 3}})

    assert [density(prior, {"x": n}) for n in range(3)] == pytest.approx([3 / 5, 9 / 5, 3 / 5])


def test_a_subset_has_the_product_of_the_weights_of_its_items() -> None:
    # Of a, b, c with weights 2, 3, 1: the pairs have 6, 2 and 3, their mean is 11/3.
    prior = Prior(Space({"x": {"subset": ["a", "b", "c"], "min": 2, "max": 2}}), {"x": {"a": 2, "b": 3}})

    ab, ac, bc = (density(prior, {"x": pair}) for pair in ((0, 1), (0, 2), (1, 2)))

    assert (ab, ac, bc) == pytest.approx((18 / 11, 6 / 11, 9 / 11))


def test_an_interval_counts_with_its_share_of_the_range_also_on_a_log_scale() -> None:
    # From 0.1 to 1 is half of 0.01 ... 1 on a log scale: the mean of 4 and 1.
    prior = Prior(Space({"x": {"float": [0.01, 1.0], "log": True}}), {"x": {"0.1..1": 4}})

    assert density(prior, {"x": 0.5}) == pytest.approx(4 / 2.5)
    assert density(prior, {"x": 0.05}) == pytest.approx(1 / 2.5)


def test_an_option_is_as_probable_as_before_whatever_the_weights_inside_of_it() -> None:
    prior = Prior(Space(MODEL), {"model.attention/tam/alpha": {"4": 100}})
    rng = random.Random(0)

    draws = [prior.sample(rng) for _ in range(3_000)]

    options = Counter(params["model.attention"] for params in draws)
    alphas = Counter(params["model.attention/tam/alpha"] for params in draws if params["model.attention"] == 2)
    # 1,000 of each are expected, with a standard deviation of 26; of the alphas 100 / 102.
    assert all(870 < count < 1_130 for count in options.values())
    assert alphas[2] > 0.95 * sum(alphas.values())


WEIGHTS = st.floats(0.01, 100)
RANGES = [
    ({"choice": ["a", "b", "c"]}, ("a", "c")),
    ({"subset": ["a", "b", "c", "d"], "min": 1, "max": 3}, ("b", "d")),
    ({"int": [2, 20], "step": 3}, ("5", "9..20")),
    ({"int": [1, 30], "log": True}, ("1", "8..20")),
    ({"float": [0.1, 0.9], "step": 0.1}, ("0.1..0.3", "0.7")),
    ({"float": [0.0, 1.0]}, ("0.2..0.3", "0.3..0.9")),
    ({"float": [1e-4, 1.0], "log": True}, ("1e-4..1e-3", "0.1..0.2")),
]


@pytest.mark.parametrize(("tree", "keys"), RANGES)
@given(first=WEIGHTS, second=WEIGHTS)
def test_the_density_is_1_on_average(tree: object, keys: tuple[str, str], first: float, second: float) -> None:
    space = Space({"x": tree})
    prior = Prior(space, {"x": {keys[0]: first, keys[1]: second}})
    size, rng = space.size(), random.Random(0)
    is_uniform = size is not None and not (isinstance(tree, dict) and tree.get("log"))
    params = [p for p, _ in space.enumerate()] if is_uniform else [space.sample(rng)[0] for _ in range(2_000)]

    mean = sum(density(prior, p) for p in params) / len(params)

    # A mean of 2,000 draws of a value up to 1 / share of its interval, which is 7 % or more.
    assert mean == pytest.approx(1, abs=1e-9 if is_uniform else 0.35)


@pytest.mark.parametrize(("tree", "keys"), RANGES)
def test_draws_have_the_density(tree: object, keys: tuple[str, str]) -> None:
    space = Space({"x": tree})
    prior = Prior(space, {"x": {keys[0]: 6, keys[1]: 0.2}})
    rng = random.Random(1)
    plain = [space.sample(rng)[0] for _ in range(4_000)]
    drawn = [prior.sample(rng) for _ in range(4_000)]

    # E[w] of draws from the prior is E[w^2] / E[w] of draws without it, here compared in logarithms.
    without = [density(prior, params) for params in plain]
    expected = sum(d * log(d) for d in without) / sum(without)
    assert sum(map(prior.log_density, drawn)) / len(drawn) == pytest.approx(expected, abs=0.12)


@pytest.mark.parametrize(
    ("tree", "weights", "lines"),
    [
        ({"choice": [1, 2]}, {"y": {"1": 2}}, ["search.prior.y: is no range of the space; the ranges are x"]),
        ({"choice": [1, 2]}, {"x": {"3": 2}}, ["search.prior.x.3: is no value of this range; take one of 1, 2"]),
        ({"subset": ["a", "b"]}, {"x": {"a+b": 2}},
         ["search.prior.x.a+b: is no value of this range; take one of a, b"]),
        ({"int": [1, 9], "step": 4}, {"x": {"2..4": 2}},
         ["search.prior.x.2..4: has no value of the range, which goes from 1 in steps of 4"]),
        ({"int": [1, 9]}, {"x": {"0..4": 2, "b": 1}},
         ["search.prior.x.0..4: is outside of the range, [1, 9]; name values inside of it",
          "search.prior.x.b: must be a number, or an interval from low to high such as 1..2"]),
        ({"float": [0, 9]}, {"x": {"4": 2}},
         ["search.prior.x.4: is one number of a continuous range; write an interval around it, such as 4..HIGH"]),
        ({"int": [1, 9]}, {"x": {"1..4": 2, "4..5": 3}},
         ["search.prior.x: has two weights for 4; write intervals that do not overlap (got 1..4, 4..5)"]),
    ],
)  # fmt: skip
def test_what_is_not_in_the_space_is_refused(
    tree: object, weights: dict[str, dict[str, float]], lines: list[str]
) -> None:
    assert problems(tree, weights) == lines
