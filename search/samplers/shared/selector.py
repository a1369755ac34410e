"""The selection of the frontier sampler: the candidate with the largest expected hypervolume improvement."""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from search.analysis.learning_curves import MIN_CURVES, OFFSET
from search.analysis.pareto import front
from search.analysis.rank_correlation import correlation
from search.samplers.shared.acquisition import expected_hypervolume_improvement
from search.samplers.shared.candidates import Array, Candidate, CandidatePool, Observation
from search.samplers.shared.initial_design import InitialDesign
from search.samplers.shared.scaling import Scaling
from search.samplers.shared.surrogate import Surrogate

#: observations that the surrogate is fitted to at most; its time grows with more than their square
MAX_OBSERVATIONS = 500

#: every such proposal takes the option that was tried least, of those with ranges of their own
LEAST_TRIED_EVERY = 5

#: hyperparameter samples by which all candidates are ranked first
SCREENING_SAMPLES = 2

#: best candidates of that ranking, which all hyperparameter samples then rank
SHORTLIST = 1_000

#: ended trials at which the prior multiplies the expected improvement by its density; its exponent is PRIOR_TRIALS / n
PRIOR_TRIALS = 10

#: rank correlation of the prior's density with the errors so far, below which the prior is left out
MIN_AGREEMENT = 0.0

#: the reference point of the hypervolume is this factor above the largest cost, so that the accuracy of the config with
#: the largest cost counts too
REFERENCE_MARGIN = 1.01


class FrontierSelector:
    """Selects the next config; it does not depend on Optuna.

    Objectives are k costs, to be minimised, and one error that training measures.

    Args:
        pool: the candidates.
        costs: the names of the costs among the objectives (k).
    """

    def __init__(self, pool: CandidatePool, costs: Sequence[str]) -> None:
        self._pool, self._names = pool, list(costs)
        self._scaling: Scaling | None = None
        self._design: InitialDesign | None = None

    def propose(
        self,
        observed: Sequence[Observation],
        running: Sequence[Candidate],
        tried: Sequence[Candidate],
        seen: Collection[Hashable],
        number: int,
        spent: float,
    ) -> tuple[Candidate, dict[str, Any]] | None:
        """Return the config to try next, and the reasons for it; None if no new config within the limits was found.

        Args:
            observed: final errors: measured ones, and forecasts for stopped and running trials and earlier searches.
            running: the configs of running trials.
            tried: the configs of all trials of this search, also of stopped ones without an observation.
            seen: the keys of configs that must not be proposed again.
            number: the number of this proposal; with the seed of the pool it determines all random draws.
            spent: the spent share of the budget, 0 ... 1.
        """
        rng = np.random.default_rng((self._pool.seed, number))
        finished = [observation for observation in observed if not observation.deviation]
        trained = [observation.candidate for observation in finished]
        best = [trained[i] for i in self._front([observation.error for observation in finished], trained)]
        # Before the others, which the next proposal uses again.
        first = [] if self._scaling else self._pool.candidates(0, [])
        candidates = [candidate for candidate in self._pool.candidates(number, best) if candidate.key not in seen]
        if not candidates:
            return None
        if self._scaling is None or self._design is None:
            self._scaling = Scaling(first or candidates, self._pool.groups, self._names)
            self._design = InitialDesign(self._pool, self._scaling)
        is_known = len(finished) >= 2 or len(observed) > MIN_CURVES
        if len(tried) < InitialDesign.size(spent) or not is_known or not (finished or running):
            return self._design.next(tried, seen) or self._design.spread(candidates, tried, rng)
        option = _least_tried_option(candidates, tried) if number % LEAST_TRIED_EVERY == 0 else None
        chosen = self._representative(observed, rng)
        ended = len(tried) - len(running)
        return self._most_improvement(candidates, chosen, trained, running, rng, option, self._scaling, ended)

    def _representative(self, observed: Sequence[Observation], rng: np.random.Generator) -> Sequence[Observation]:
        """Return `MAX_OBSERVATIONS` at most: half of them nearest to the front, and as many random ones."""
        if len(observed) <= MAX_OBSERVATIONS:
            return observed
        costs = self._costs([observation.candidate for observation in observed])
        logs = np.log([observation.error + OFFSET for observation in observed])
        # The least error at no more cost is that of a point of the front.
        best = front(np.column_stack([logs, costs]), ["min"] * (1 + costs.shape[1]))
        no_more = np.ones((len(logs), len(best)), dtype=bool)
        for axis in range(costs.shape[1]):
            no_more &= costs[best, axis] <= costs[:, [axis]]
        behind = logs - np.where(no_more, logs[best], np.inf).min(axis=1)
        near, rest = np.split(np.argsort(behind, kind="stable"), [MAX_OBSERVATIONS // 2])
        chosen = [*near, *rng.choice(rest, MAX_OBSERVATIONS - len(near), replace=False)]
        return [observed[i] for i in sorted(chosen)]

    def _agreement(self, observed: Sequence[Observation]) -> float:
        """Return the rank correlation, at equal cost, of the prior's density with low errors; 0 without a prior."""
        candidates = [observation.candidate for observation in observed]
        density = [candidate.log_prior for candidate in candidates]
        return correlation(density, [-observation.error for observation in observed], self._costs(candidates))

    def _front(self, errors: Sequence[float], candidates: Sequence[Candidate]) -> list[int]:
        """Return the indices of the candidates on their front, given these errors."""
        rows = np.column_stack([np.reshape(errors, (-1, 1)), self._costs(candidates)])
        return front(rows, ["min"] * rows.shape[1])

    def _costs(self, candidates: Sequence[Candidate]) -> Array:
        """Return the costs among the objectives (candidates, k)."""
        rows = [[candidate.costs[name] for name in self._names] for candidate in candidates]
        return np.array(rows, dtype=float).reshape(len(candidates), len(self._names))

    def _most_improvement(
        self,
        candidates: Sequence[Candidate],
        observed: Sequence[Observation],
        trained: Sequence[Candidate],
        running: Sequence[Candidate],
        rng: np.random.Generator,
        option: str | None,
        scaling: Scaling,
        ended: int,
    ) -> tuple[Candidate, dict[str, Any]]:
        """Return the candidate with the largest expected hypervolume improvement, and what is expected of it.

        If ``option`` is given, the candidate has that option. With a prior, the improvement of each candidate is
        multiplied by `prior_factor` after ``ended`` trials, unless the errors so far contradict it (`MIN_AGREEMENT`).
        """
        model = Surrogate(
            scaling.groups,
            scaling.points([observation.candidate for observation in observed]),
            [observation.error for observation in observed],
            rng,
            [observation.deviation for observation in observed],
            scaling.points(running) if running else None,
        )
        # Measured errors are noisy, so the front is that of the predicted errors, of running trials too.
        known = [*trained, *running]
        smooth = np.exp(model.means(scaling.points(known)).mean(axis=0)) - OFFSET
        layer = self._front(smooth.tolist(), known)
        front_costs, front_errors = self._costs([known[i] for i in layer]), smooth[layer]
        points, costs = scaling.points(candidates), self._costs(candidates)
        largest = np.maximum(costs.max(axis=0, initial=0), front_costs.max(axis=0, initial=0))
        reference = (REFERENCE_MARGIN * largest).tolist()
        worst = max(observation.error for observation in observed)
        log_prior = np.array([candidate.log_prior for candidate in candidates])
        agrees = self._agreement(observed) >= MIN_AGREEMENT
        prior = prior_factor(log_prior, ended) if agrees else np.ones(len(candidates))

        def improvement(chosen: NDArray[np.intp], samples: slice) -> Array:
            """Return the mean over hyperparameter samples of the expected improvement (chosen)."""
            predictions = zip(*model.predict(points[chosen], samples), strict=True)
            improvements = [
                expected_hypervolume_improvement(
                    costs[chosen], mean, deviation, front_costs, front_errors, reference, worst
                )
                for mean, deviation in predictions
            ]
            return np.mean(improvements, axis=0)

        allowed = np.array(
            [i for i, candidate in enumerate(candidates) if option is None or option in candidate.options]
        )
        screened = improvement(allowed, slice(SCREENING_SAMPLES)) * prior[allowed]
        ranking = np.argsort(-screened, kind="stable")
        shortlist = allowed[ranking[:SHORTLIST]]
        improvements = improvement(shortlist, slice(None))
        first = int(np.argmax(improvements * prior[shortlist]))
        best = int(shortlist[first])
        means, deviations = (predicted[:, 0] for predicted in model.predict(points[[best]]))
        rivals = front_errors[(front_costs <= costs[best]).all(axis=1)]
        target = np.log(rivals.min() + OFFSET) if len(rivals) else np.inf
        why = {
            "predicted_error": float(np.exp(means.mean()) - OFFSET),
            "spread": float(np.sqrt(np.mean(deviations**2) + np.var(means))),
            "expected_gain": float(improvements[first]),
            "probability_of_front": float(np.mean(ndtr((target - means) / deviations))),
            "pool": len(candidates),
            "learnt_from": len(observed),
        } | ({} if option is None else {"neglected": option})
        return candidates[best], why | ({"prior": float(log_prior[best])} if self._pool.prior else {})


def prior_factor(log_density: Array, ended: int) -> Array:
    r"""Return the factor (n) by which the prior changes the expected improvement of configs, relative to the largest.

    .. math:: \pi(x)^{\beta / n}

    with beta = `PRIOR_TRIALS` and n ended trials, so that its effect decays and a wrong prior is overcome. Source: Carl
    Hvarfner, Danny Stoll, Artur Souza, Marius Lindauer, Frank Hutter and Luigi Nardi, "PiBO: Augmenting Acquisition
    Functions with User Beliefs for Bayesian Optimization", International Conference on Learning Representations (ICLR),
    2022, equation 6.

    Args:
        log_density: the logarithm of the density of each config (n).
        ended: the number of ended trials.
    """
    exponents = PRIOR_TRIALS / max(ended, 1) * log_density
    return np.exp(exponents - exponents.max(initial=-np.inf))


def _least_tried_option(candidates: Sequence[Candidate], tried: Sequence[Candidate]) -> str | None:
    """Return the option that was tried least, of those with ranges of their own; None if there are fewer than two.

    Such an option is a family of models. A few bad members say little about the others, although the surrogate may be
    certain about all of them, and then only the option with the most configs would be tried.
    """
    options = set().union(*(candidate.options for candidate in candidates))
    if len(options) < 2:
        return None
    counts = Counter(option for candidate in tried for option in candidate.options)
    return min(sorted(options), key=lambda option: counts[option])
