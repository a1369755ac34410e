"""Shares of a cluster: computed by hand, and what holds for all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.placement import Resources
from cluster.sharing import Wants, fair_shares


def of_cpus(trainings: int, cpus: float = 1) -> Wants:
    return Wants(trainings, cpus, 0)


@pytest.mark.parametrize(
    ("total", "wants", "shares"),
    [
        (8, [of_cpus(8), of_cpus(8)], [4, 4]),
        # The third CPU of each is one too many: the first gets what rounding leaves.
        (8, [of_cpus(8), of_cpus(8), of_cpus(8)], [3, 3, 2]),
        # One wants less than a third of 12, so that the others share 10.
        (12, [of_cpus(2), of_cpus(12), of_cpus(12)], [2, 5, 5]),
        # Trainings of 4 CPUs and of 1: each job gets 8 of 16 CPUs.
        (16, [of_cpus(4, 4), of_cpus(16)], [2, 8]),
        # 5 CPUs each: one training of 4, and 5; the CPU that is left does not hold a second one of 4.
        (10, [of_cpus(9, 4), of_cpus(9)], [1, 6]),
        # More jobs than room: each may run one, and waits for its turn.
        (2, [of_cpus(4), of_cpus(4), of_cpus(4)], [1, 1, 1]),
        (4, [of_cpus(1), of_cpus(1)], [1, 1]),
        (8, [of_cpus(0), of_cpus(8)], [1, 8]),
    ],
)
def test_shares_are_equal_unless_a_job_wants_less(total: float, wants: list[Wants], shares: list[int]) -> None:
    assert fair_shares(total, wants) == shares


@given(
    st.integers(1, 100),
    st.lists(st.builds(of_cpus, st.integers(0, 50), st.sampled_from([0.5, 1, 2, 4])), min_size=1, max_size=6),
)
def test_nobody_could_get_more_without_less_for_one_with_as_little(total: int, wants: list[Wants]) -> None:
    shares = fair_shares(total, wants)
    used = sum(share * want.each for share, want in zip(shares, wants, strict=True))

    assert all(share >= 1 for share in shares)
    assert all(share <= max(want.trainings, 1) for share, want in zip(shares, wants, strict=True))
    if used <= total:  # else some job has its one training although there is no room for it
        for want, share in zip(wants, shares, strict=True):
            if share < want.trainings:
                assert used + want.each > total
                # Its amount is at most one training below that of any other job.
                most = max(s * w.each for s, w in zip(shares, wants, strict=True) if w.trainings)
                assert share * want.each >= most - max(w.each for w in wants) - want.each


def test_gpus_are_what_trainings_on_gpus_compete_for() -> None:
    wants = Wants.of(Resources(workers=2, cpus=4, gpus=1), 3)

    assert wants == Wants(3, 8.0, 2)
    assert (wants.kind, wants.each) == ("GPU", 2)
    assert (of_cpus(3, 4).kind, of_cpus(3, 4).each) == ("CPU", 4)
