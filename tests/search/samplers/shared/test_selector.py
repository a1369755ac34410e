"""The selection of observations for the surrogate."""

import numpy as np

from search.samplers.shared.candidates import Candidate, CandidatePool, Observation
from search.samplers.shared.selector import MAX_OBSERVATIONS, FrontierSelector
from spaces.space import Space


def test_of_many_trials_the_surrogate_is_fitted_to_those_near_the_front_and_to_random_others() -> None:
    # At cost n the front has an error of 1 / (n + 1); a trial's error is k + 1 times that, k = 0 ... 9.
    observed = [
        Observation(Candidate({"n": n, "k": k}, np.zeros(0), {"gflops": float(n)}), (k + 1) / (n + 1))
        for n in range(100)
        for k in range(10)
    ]
    pool = CandidatePool(Space({"width": {"int": [1, 12]}}), lambda params: {"gflops": float(params["width"])})
    selector = FrontierSelector(pool, ["gflops"])

    chosen = selector._representative(observed, np.random.default_rng(0))
    ranks = [observation.candidate.params["k"] for observation in chosen]

    assert len({id(observation) for observation in chosen}) == len(chosen) == MAX_OBSERVATIONS
    # A quarter of all are the nearest: k = 0 and 1, and half of those with 2. Of the others a third is taken.
    assert ranks.count(0) == ranks.count(1) == 100
    assert 50 < ranks.count(2) < 90
    assert all(15 < ranks.count(k) < 50 for k in range(3, 10))
    few = observed[:MAX_OBSERVATIONS]
    assert selector._representative(few, np.random.default_rng(0)) == few
