"""The frontier sampler: what a config costs is known, so only its accuracy is modelled, for the front's sake.

Each proposal is the config, of all within the limits, that is expected to enlarge the hypervolume of the front most,
where cost is a number and the log of the error a Gaussian process (`search.surrogate`). It serves plain Optuna too::

    space = Space({"width": {"int": [8, 64]}, "depth": {"choice": [1, 2, 3]}})
    goals = {"top1": "max", "gflops": "min"}
    sampler = FrontierSampler(space, lambda params: {"gflops": gflops(space.replay(params))}, goals)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(lambda trial: train(suggest(space, trial)[1]), n_trials=100)
"""

import random
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from search.analysis.learning_curves import OFFSET
from search.analysis.pareto import front
from search.samplers.shared.candidates import COMPARED, Array, Candidate, Observation, Pool
from search.samplers.shared.expected_gain import expected_gain
from search.samplers.shared.surrogate import Surrogate

#: proposals at the start, spread over the range of cost instead of taken from the model: so many, and once that share
#: of the budget is gone no more than so few
INITIAL, FEWEST, SHARE = 8, 4, 0.1


#: the model is of so many observations at most, for its time grows with their square and more
LEARNT = 500


#: one in so many proposals goes to the option that was tried least, of those that have ranges of their own
NEGLECTED = 5


#: all candidates are weighed by so many draws of the model's hyperparameters, so many of them by all draws
FEW, LISTED = 2, 1_000


class Frontier:
    """Chooses the config of the greatest expected gain; knows nothing of Optuna.

    Objectives are ``costs`` to minimise, k of them, and one that training measures.
    """

    def __init__(self, pool: Pool, costs: Sequence[str]) -> None:
        self._pool, self._names = pool, list(costs)
        self._groups: list[int] = []  # of the columns of a point
        self._keys: list[str] = []  # of all costs
        self._low = self._span = np.zeros(0)  # of the columns of a point
        self._design: list[tuple[Candidate, dict[str, Any]]] = []  # what is tried first, and why

    def propose(
        self,
        observed: Sequence[Observation],
        running: Sequence[Candidate],
        tried: Sequence[Candidate],
        seen: Collection[Hashable],
        number: int,
        spent: float,
    ) -> tuple[Candidate, dict[str, Any]] | None:
        """Return what to try next, and what is expected of it; None where nothing new within the limits is found.

        ``tried`` are those of this search, stopped ones of which nothing is known included; ``seen`` are the keys of
        configs that are not to be proposed again. Its chance is the proposal's ``number`` and the seed. Of the budget
        ``spent`` is gone, a share.
        """
        rng = np.random.default_rng((self._pool.seed, number))
        finished = [one for one in observed if not one.spread]
        trained = [one.candidate for one in finished]
        best = [trained[i] for i in self._front([one.error for one in finished], trained)]
        everything = self._pool.choice(number, best)
        candidates = [candidate for candidate in everything if candidate.key not in seen]
        if not candidates:
            return None
        if not self._groups:
            self._begin(candidates)
        if len(tried) < (INITIAL if spent < SHARE else FEWEST) or len(finished) < 2:
            return self._first(tried, seen) or self._spread_out(candidates, tried, rng)
        neglected = _neglected(candidates, tried) if number % NEGLECTED == 0 else None
        return self._most_gain(candidates, self._telling(observed, rng), trained, running, rng, neglected)

    def _telling(self, observed: Sequence[Observation], rng: np.random.Generator) -> Sequence[Observation]:
        """Return `LEARNT` at most: those nearest to the front, of which details count, and as many by chance."""
        if len(observed) <= LEARNT:
            return observed
        costs = self._costs([one.candidate for one in observed])
        logs = np.log([one.error + OFFSET for one in observed])
        rivals = (costs <= costs[:, None]).all(axis=2)  # (n, n), itself among them
        behind = logs - np.where(rivals, logs, np.inf).min(axis=1)
        near, others = np.split(np.argsort(behind, kind="stable"), [LEARNT // 2])
        chosen = [*near, *rng.choice(others, LEARNT - len(near), replace=False)]
        return [observed[i] for i in sorted(chosen)]

    def _front(self, errors: Sequence[float], candidates: Sequence[Candidate]) -> list[int]:
        """Return which of the candidates are on their front, if these were their errors."""
        rows = np.column_stack([np.reshape(errors, (-1, 1)), self._costs(candidates)])
        return front(rows, ["min"] * rows.shape[1])

    def _costs(self, candidates: Sequence[Candidate]) -> Array:
        """Return the costs (candidates, k) among the objectives."""
        rows = [[one.costs[name] for name in self._names] for one in candidates]
        return np.array(rows, dtype=float).reshape(len(candidates), len(self._names))

    def _begin(self, candidates: Sequence[Candidate]) -> None:
        """Take the scales of the logarithms of all costs from what the search's first proposal could choose from."""
        everything = self._pool.choice(0, []) or candidates
        self._keys, groups = list(everything[0].costs), self._pool.groups
        if not self._keys or not set(self._names) <= set(self._keys):
            asked = f"{', '.join(self._names)} of each config by name" if self._names else "at least one, by name"
            raise ValueError(f"cost: must return {asked} (got {dict(everything[0].costs)})")
        logs = np.array([one.point[len(groups) :] for one in everything])
        self._low = np.concatenate([np.zeros(len(groups)), logs.min(axis=0)])
        self._span = np.concatenate([np.ones(len(groups)), np.maximum(np.ptp(logs, axis=0), 1e-9)])
        first = groups[-1] + 1 if groups else 0
        self._groups = [*groups, *range(first, first + len(self._keys))]

    def _points(self, candidates: Sequence[Candidate]) -> Array:
        """Return the candidates' points (candidates, columns), every column from about 0 to 1."""
        return (np.stack([one.point for one in candidates]) - self._low) / self._span

    def _first(self, tried: Sequence[Candidate], seen: Collection[Hashable]) -> tuple[Candidate, dict[str, Any]] | None:
        """Return what is left of a design that knows no results; None where there is nothing new for it.

        As it knows none, its order is free: it goes from cheap to dear, so that the first results come soon. The seed
        alone makes it, so it is the same after a resume; parts of the range of cost that others were tried in, such as
        the plainest config, come last.
        """
        while len(self._design) < INITIAL or all(one.key in seen for one, _ in self._design):
            rng = np.random.default_rng((self._pool.seed, len(self._design)))
            before = {one.key: one for one, _ in self._design}
            chance = random.Random(int(rng.integers(2**31)))
            drawn = [one for one in self._pool.drawn(chance) if one.key not in before]
            if not drawn:
                break
            self._design.append(self._spread_out(drawn, list(before.values()), rng))
        left = [(one, why) for one, why in self._design if one.key not in seen]
        if not left:
            return None
        candidates = [one for one, _ in left]
        taken = np.bincount(self._parts(tried), minlength=INITIAL)[self._parts(candidates)]
        return left[np.lexsort((self._share(candidates), taken))[0]]  # by the last of the keys first

    def _spread_out(
        self, candidates: Sequence[Candidate], tried: Sequence[Candidate], rng: np.random.Generator
    ) -> tuple[Candidate, dict[str, Any]]:
        """Choose values that were tried least, in the part of the range of cost (of its logarithm) that was, too."""
        there = self._parts(candidates)
        taken = np.bincount(self._parts(tried), minlength=INITIAL)
        parts = np.unique(there)
        chosen = rng.choice(parts[taken[parts] == taken[parts].min()])
        inside = np.flatnonzero(there == chosen)
        some = [candidates[i] for i in rng.choice(inside, min(COMPARED, len(inside)), replace=False)]
        why = {"initial": True, "part": int(chosen) + 1, "parts": INITIAL, "by": self._keys[self._axis]}
        return min(some, key=lambda one: _familiar(one, tried)), why

    @property
    def _axis(self) -> int:
        """Which column, from the last, is the cost that the first proposals are spread over."""
        return self._keys.index(self._names[0]) - len(self._keys) if self._names else -1

    def _share(self, candidates: Sequence[Candidate]) -> Array:
        """Return where in the range of cost the candidates are, from about 0 to 1."""
        return self._points(candidates)[:, self._axis] if candidates else np.empty(0)

    def _parts(self, candidates: Sequence[Candidate]) -> NDArray[np.intp]:
        """Return in which of `INITIAL` equal parts of the range of cost the candidates are."""
        return np.clip((self._share(candidates) * INITIAL).astype(int), 0, INITIAL - 1)

    def _most_gain(
        self,
        candidates: Sequence[Candidate],
        observed: Sequence[Observation],
        trained: Sequence[Candidate],
        running: Sequence[Candidate],
        rng: np.random.Generator,
        neglected: str | None,
    ) -> tuple[Candidate, dict[str, Any]]:
        model = Surrogate(
            self._groups,
            self._points([one.candidate for one in observed]),
            [one.error for one in observed],
            rng,
            [one.spread for one in observed],
            self._points(running) if running else None,
        )
        # What is measured is noisy: the front is of what the model makes of it, of running trials too.
        known = [*trained, *running]
        smooth = np.exp(model.predict(self._points(known))[0].mean(axis=0)) - OFFSET
        layer = self._front(smooth.tolist(), known)
        costs, errors_of = self._costs([known[i] for i in layer]), smooth[layer]
        points, own = self._points(candidates), self._costs(candidates)
        # A little beyond the dearest, so that its own accuracy counts.
        reference = 1.01 * np.maximum(own.max(axis=0, initial=0), costs.max(axis=0, initial=0))
        worst = max(one.error for one in observed)

        def gain(chosen: NDArray[np.intp], draws: slice) -> Array:
            beliefs = zip(*model.predict(points[chosen], draws), strict=True)
            gains = [expected_gain(own[chosen], *of, costs, errors_of, reference.tolist(), worst) for of in beliefs]
            return np.mean(gains, axis=0)

        # A few draws tell what is not worth the others.
        able = np.array([i for i, one in enumerate(candidates) if neglected is None or neglected in one.options])
        listed = able[np.argsort(-gain(able, slice(FEW)), kind="stable")[:LISTED]]
        gains = gain(listed, slice(None))
        best = int(listed[np.argmax(gains)])
        means, spreads = (found[:, 0] for found in model.predict(points[[best]]))
        rivals = errors_of[(costs <= own[best]).all(axis=1)]
        least = np.log(rivals.min() + OFFSET) if len(rivals) else np.inf
        why = {
            "predicted_error": float(np.exp(means.mean()) - OFFSET),
            "spread": float(np.sqrt(np.mean(spreads**2) + np.var(means))),
            "expected_gain": float(gains.max()),
            "probability_of_front": float(np.mean(ndtr((least - means) / spreads))),
            "pool": len(candidates),
            "learnt_from": len(observed),
        } | ({} if neglected is None else {"neglected": neglected})
        return candidates[best], why


def _neglected(candidates: Sequence[Candidate], tried: Sequence[Candidate]) -> str | None:
    """Return the option that was tried least, of those that have ranges of their own; None where there are not two.

    Such an option is a model with sizes and places of its own, and a few bad ones of these say little of the others,
    however sure a model of all of them may be: the option with most configs would be all that is tried.
    """
    options = set().union(*(one.options for one in candidates))
    if len(options) < 2:
        return None
    counts = Counter(option for one in tried for option in one.options)
    return min(sorted(options), key=lambda option: counts[option])


def _familiar(candidate: Candidate, tried: Sequence[Candidate]) -> float:
    """Return how often the candidate's values were tried before; the mean over its ranges."""
    values = candidate.params.items()
    return sum(other.params.get(name) == value for other in tried for name, value in values) / max(len(values), 1)
