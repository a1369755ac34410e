"""The frontier sampler: what a config costs is known, so only its accuracy is modelled, for the front's sake.

Each proposal is the config, of all within the limits, that is expected to enlarge the hypervolume of the front most,
where cost is a number and the log of the error a Gaussian process (`search.surrogate`). It serves plain Optuna too::

    space = Space({"width": {"int": [8, 64]}, "depth": {"choice": [1, 2, 3]}})
    goals = {"top1": "max", "gflops": "min"}
    sampler = FrontierSampler(space, lambda params: {"gflops": gflops(space.replay(params))}, goals)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(lambda trial: train(suggest(space, trial)[1]), n_trials=100)
"""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from typing_extensions import override

from search.analysis.learning_curves import OFFSET, Curves, errors
from search.analysis.pareto import Direction, Objectives
from search.samplers.shared.acquisition import Frontier
from search.samplers.shared.candidates import Candidate, Costs, Observation, Pool, params_key
from search.samplers.shared.optuna_space import distributions, fixed_params, from_optuna
from spaces.space import Params, Space

#: the spread of the log error of an earlier search's trial: what it was there is no more than a forecast here
EARLIER = 0.1


class FrontierSampler(BaseSampler):
    """Proposes configs by the gain in hypervolume that is expected of them.

    ``cost`` returns all known costs of the params of a config, and None for one over a limit, which is never proposed.
    ``objectives`` names the study's directions in their order: ``measured`` is a rate to maximise or a loss to
    minimise, all others are costs to minimise. The user attribute ``curve`` of a trial may have the measured objective
    after each epoch, and ``epochs`` how many there are in all (else, as many as the longest has): what a running one
    will come to, or a pruned one would have, is forecast from all that went on from there. Trials with the attribute
    ``source`` are another search's, and forecasts too. ``spent`` returns which share of the budget is gone, by which a
    short search asks the model sooner. `why` says what was expected of the last proposal.
    """

    def __init__(
        self,
        space: Space,
        cost: Callable[[Params], Costs | None],
        objectives: Objectives,
        measured: str = "top1",
        seed: int = 0,
        spent: Callable[[], float] = lambda: 0.0,
    ) -> None:
        if measured not in objectives:
            raise ValueError(f"measured: must be one of the objectives, {', '.join(objectives)} (got {measured!r})")
        self._space, self._seed, self._spent = space, seed, spent
        self._value = list(objectives).index(measured)
        self._direction: Direction = objectives[measured]
        self._pool = Pool(space, cost, seed)
        self._frontier = Frontier(self._pool, [name for name in objectives if name != measured])
        self._distributions = distributions(space)
        self._study = ""  # what is kept of trials is of this one
        self._asked: dict[int, Candidate] = {}
        self._candidates: dict[int, Candidate | None] = {}
        self.why: dict[str, Any] = {}

    @override
    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._distributions

    @override
    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self.why = {}
        if study.study_name != self._study:
            self._study, self._asked, self._candidates = study.study_name, {}, {}
        if "fixed_params" in trial.system_attrs:  # enqueued: all is said already
            return {}
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        running = [self._candidate(other) for other in others if other.state == TrialState.RUNNING]
        here = [other for other in others if other.state != TrialState.FAIL and "source" not in other.user_attrs]
        tried = [one for one in map(self._candidate, here) if one]
        # What another search has trained is known, but may be tried here.
        seen = {params_key(self._params(other)) for other in others if "source" not in other.user_attrs}
        seen |= {one.key for one in tried}
        known = self._observed(others)
        asked = [one for one in running if one]
        found = self._frontier.propose(known, asked, tried, seen, trial.number, self._spent())
        if found is None:
            return {}
        candidate, self.why = found
        self._asked[trial.number] = candidate
        return fixed_params(self._space, candidate.params)

    @override
    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Choose by chance: asked where nothing new is left, or for what is not in the space."""
        return RandomSampler(seed=self._seed + trial.number).sample_independent(
            study, trial, param_name, param_distribution
        )

    def _observed(self, trials: Sequence[FrozenTrial]) -> list[Observation]:
        """Return what finished trials showed, and what stopped and running ones promise."""
        found = {trial.number: self._curve(trial) for trial in trials}
        longest = max(map(len, found.values()), default=0)
        epochs = {trial.number: trial.user_attrs.get("epochs", longest) for trial in trials}
        curves = Curves([(curve, epochs[number]) for number, curve in found.items() if curve])
        observed = []
        for trial in trials:
            if trial.state == TrialState.FAIL:
                continue
            candidate = self._candidate(trial)
            if candidate is None:
                continue
            if trial.state == TrialState.COMPLETE:
                spread = EARLIER if "source" in trial.user_attrs else 0.0
                (error,) = errors([trial.values[self._value]], self._direction)
                if error + OFFSET <= 0:
                    rule = "a rate must be at most 1" if self._direction == "max" else "a loss must be at least 0"
                    raise ValueError(f"trial {trial.number}: {rule} (got {trial.values[self._value]:g})")
                if isfinite(error):
                    observed.append(Observation(candidate, error, spread))
            elif forecast := curves.forecast(found[trial.number], epochs[trial.number]):
                mean, spread = forecast
                observed.append(Observation(candidate, float(np.exp(mean)) - OFFSET, spread))
        return observed

    def _curve(self, trial: FrozenTrial) -> list[float]:
        return errors(trial.user_attrs.get("curve", ()), self._direction)

    def _params(self, trial: FrozenTrial) -> Params:
        return {name: from_optuna(self._space.domains[name], value) for name, value in trial.params.items()}

    def _candidate(self, trial: FrozenTrial) -> Candidate | None:
        # A running trial's params are complete as soon as its objective has asked for all; some end before they have.
        if trial.number not in self._candidates or not trial.state.is_finished():
            params = self._params(trial)
            whole = self._space.has(params)
            found = self._pool.candidate(params) if whole else self._asked.get(trial.number)
            self._candidates[trial.number] = found
        return self._candidates[trial.number]
