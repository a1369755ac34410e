"""Spearman's rank correlation, and the partial one at equal cost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.analysis.rank_correlation import correlation


def no_costs(n: int) -> list[list[float]]:
    return [[] for _ in range(n)]


def test_without_costs_it_is_spearmans_rank_correlation() -> None:
    # d = 1, 1, 1, 1, 0: 1 - 6 * 4 / (5 * 24) = 0.8; only the order of the values counts.
    assert correlation([1, 2, 3, 4, 5], [20, 10, 40, 30, 500], no_costs(5)) == pytest.approx(0.8)
    assert correlation([1, 1, 1], [1, 2, 3], no_costs(3)) == 0.0
    # Of 1, 2, 2, 3 the equal values share rank 2.5: with 1, 2, 3, 4 that is 4.5 / sqrt(5 * 4.5).
    assert correlation([1, 2, 2, 3], [1, 2, 3, 4], no_costs(4)) == pytest.approx(4.5 / math.sqrt(5 * 4.5))


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 3), min_size=4, max_size=12))
def test_at_equal_cost_it_is_the_partial_correlation(rows: list[tuple[int, int, int]]) -> None:
    x, y, z = ([float(row[i]) for row in rows] for i in range(3))
    xy, xz, yz = (correlation(a, b, no_costs(len(rows))) for a, b in ((x, y), (x, z), (y, z)))

    partial = correlation(x, y, [[value] for value in z])

    if max(abs(xz), abs(yz)) < 1 - 1e-6 and len(set(x)) > 1 and len(set(y)) > 1:
        assert partial == pytest.approx((xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2)), abs=1e-6)
    else:
        assert partial == pytest.approx(0.0, abs=1e-6)
