"""The frontier sampler as an Optuna sampler, for a search and for plain Optuna.

Example::

    space = Space({"width": {"int": [8, 64]}, "depth": {"choice": [1, 2, 3]}})
    objectives = {"top1": "max", "gflops": "min"}
    sampler = FrontierSampler(space, lambda params: {"gflops": gflops(space.replay(params))}, objectives)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(lambda trial: train(suggest(space, trial)[1]), n_trials=100)

where `suggest` is `search.samplers.shared.optuna_space.suggest`.
"""

import warnings
from collections.abc import Callable, Hashable, Sequence
from math import isfinite
from threading import RLock
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from typing_extensions import override

from search.analysis.learning_curves import OFFSET, Curve, Curves, errors
from search.analysis.pareto import Direction, Objectives
from search.samplers.shared.candidates import Candidate, CandidatePool, Costs, Observation, params_key
from search.samplers.shared.optuna_space import distributions, fixed_params, from_optuna
from search.samplers.shared.selector import FrontierSelector
from spaces.prior import Prior
from spaces.space import Params, Space

#: standard deviation of the log error of an earlier search's trial, which is only a forecast for this search
EARLIER_DEVIATION = 0.1

#: attribute of a trial with the final error that the sampler predicted, and its name in ``why``
PREDICTED = "predicted_error"


class FrontierSampler(BaseSampler):
    """Bayesian optimisation of one measured objective and costs that are known before training.

    Each proposal is the config within the limits with the largest expected hypervolume improvement of the front. Only
    the measured objective is modelled: log(error + `OFFSET`) by a Gaussian process with a Matern-5/2 kernel, one length
    scale for each range (ARD), and hyperparameters sampled from their posterior by elliptical slice sampling; the error
    is 1 - rate, or the loss. So the expectation over the log-normal error has a closed form. Errors are winsorised, and
    running trials are kriging believers. The first configs are an initial design over the range of cost, and then
    the candidates are all configs of a small space, or random configs and neighbours of the front. The modules of
    `search.samplers.shared` describe each part, with sources.

    The sampler reads these user attributes of a trial, which are all optional:

    * ``curve``: the measured objective after each epoch. The final error of a running or pruned trial is forecast from
      it (`search.analysis.learning_curves.Curves`).
    * ``predicted_error``: the final error that was predicted when the trial was proposed. A sampler knows it of its own
      proposals.
    * ``epochs``: the number of epochs of its whole training; if it is missing, that of the longest curve.
    * ``source``: the trial belongs to an earlier search. Its error is an uncertain forecast, and its config may be
      proposed again.

    The attribute ``why`` explains the last proposal: predicted_error, spread (standard deviation of the log error),
    expected_gain (expected hypervolume improvement), probability_of_front (probability of improvement over the front at
    its cost), pool (number of candidates), learnt_from (number of observations), neglected (the option that it was
    limited to), and prior (logarithm of its density under the prior); or initial, part, parts, by and from_prior for a
    config of the initial design.

    Args:
        space: the ranges of a config.
        cost: returns all known costs of a config by its params, or None if it is over a limit and must not be proposed.
        objectives: the objectives of the study in their order, each "max" or "min".
        measured: the objective that training measures, a rate (0 ... 1) to maximise or a loss (at least 0) to
            minimise; all others are costs to minimise, by the names that ``cost`` returns.
        seed: the seed of all draws.
        spent: returns the spent share of the budget, 0 ... 1; a short search has a smaller initial design.
        prior: which values are expected to be good. Half of the initial design is drawn from it, and it raises the
            expected improvement of the configs that it favours (`search.samplers.shared.selector.prior_factor`).

    Raises ValueError if ``measured`` is no objective or a range has too many subsets; when asked, also if ``cost`` does
    not return the costs among the objectives or a trial has an impossible value.
    """

    def __init__(
        self,
        space: Space,
        cost: Callable[[Params], Costs | None],
        objectives: Objectives,
        measured: str = "top1",
        seed: int = 0,
        spent: Callable[[], float] = lambda: 0.0,
        prior: Prior | None = None,
    ) -> None:
        if measured not in objectives:
            raise ValueError(f"measured: must be one of the objectives, {', '.join(objectives)} (got {measured!r})")
        self._space, self._seed, self._spent = space, seed, spent
        self._value = list(objectives).index(measured)
        self._direction: Direction = objectives[measured]
        self._pool = CandidatePool(space, cost, seed, prior)
        self._costs = [name for name in objectives if name != measured]
        self._selector = FrontierSelector(self._pool, self._costs)
        self._distributions = distributions(space)
        self._study = ""  # the name of the study to which the following four belong
        self._asked: dict[int, Candidate] = {}
        #: the number of params by which it was found, and the candidate
        self._candidates: dict[int, tuple[int, Candidate | None]] = {}
        self._keys: dict[int, Hashable] = {}
        self._predicted: dict[int, float] = {}
        self.why: dict[str, Any] = {}
        #: parameters that the objective asks for and the space does not have
        self._strange: set[str] = set()
        self._lock = RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the lock, which cannot be copied."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = RLock()

    @override
    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._distributions

    @override
    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # A second thread (``n_jobs``) waits until this proposal is known, or it would propose the same config.
        with self._lock:
            return self._propose(study, trial)

    def _propose(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        self.why = {}
        if study.study_name != self._study:
            self._study, self._asked, self._candidates = study.study_name, {}, {}
            self._keys, self._predicted = {}, {}
        if "fixed_params" in trial.system_attrs:  # enqueued, so nothing is left to choose
            return {}
        trials = [known for known in study.get_trials(deepcopy=False) if known.number != trial.number]
        running = [self._candidate(known) for known in trials if known.state == TrialState.RUNNING]
        own = [known for known in trials if known.state != TrialState.FAIL and "source" not in known.user_attrs]
        tried = [candidate for candidate in map(self._candidate, own) if candidate]
        seen = {self._key(known) for known in trials if "source" not in known.user_attrs}
        seen |= {candidate.key for candidate in tried}
        pending = [candidate for candidate in running if candidate]
        proposal = self._selector.propose(self._observed(trials), pending, tried, seen, trial.number, self._spent())
        if proposal is None:
            return {}
        candidate, self.why = proposal
        self._asked[trial.number] = candidate
        if PREDICTED in self.why:
            self._predicted[trial.number] = self.why[PREDICTED]
        return fixed_params(self._space, candidate.params)

    @override
    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample at random, where no new config is left or for a parameter that is not in the space.

        Warn of the latter, once a parameter: the sampler learns nothing of it.
        """
        if self._distributions.get(param_name) != param_distribution and param_name not in self._strange:
            self._strange.add(param_name)
            warnings.warn(
                f"{param_name} is not a range of the sampler's space, or has other values there, so it is sampled at "
                "random; call search.samplers.shared.optuna_space.suggest(space, trial) in the objective",
                stacklevel=2,
            )
        return RandomSampler(seed=self._seed + trial.number).sample_independent(
            study, trial, param_name, param_distribution
        )

    def _observed(self, trials: Sequence[FrozenTrial]) -> list[Observation]:
        """Return the final errors of complete trials, and forecasts for pruned and running ones."""
        values = {trial.number: errors(trial.user_attrs.get("curve", ()), self._direction) for trial in trials}
        longest = max(map(len, values.values()), default=0)
        curve_of = {trial.number: self._curve(trial, values[trial.number], longest) for trial in trials}
        curves = Curves([curve for curve in curve_of.values() if curve.errors])
        observed = []
        for trial in trials:
            if trial.state == TrialState.FAIL:
                continue
            candidate = self._candidate(trial)
            if candidate is None:
                continue
            if trial.state == TrialState.COMPLETE:
                deviation = EARLIER_DEVIATION if "source" in trial.user_attrs else 0.0
                (error,) = errors([trial.values[self._value]], self._direction)
                if error + OFFSET <= 0:
                    rule = "a rate must be at most 1" if self._direction == "max" else "a loss must be at least 0"
                    raise ValueError(f"trial {trial.number}: {rule} (got {trial.values[self._value]:g})")
                if isfinite(error):
                    observed.append(Observation(candidate, error, deviation))
            elif forecast := curves.forecast(curve_of[trial.number]):
                mean, deviation = forecast
                observed.append(Observation(candidate, float(np.exp(mean)) - OFFSET, deviation))
        return observed

    def _curve(self, trial: FrozenTrial, values: list[float], longest: int) -> Curve:
        known, candidate = trial.user_attrs, self._candidate(trial)
        cost = candidate.costs[self._costs[0]] if candidate and self._costs else None
        predicted = known.get(PREDICTED, self._predicted.get(trial.number))
        return Curve(values, known.get("epochs", longest), predicted, cost)

    def _params(self, trial: FrozenTrial) -> Params:
        domains = self._space.domains
        return {name: from_optuna(domains[name], value) for name, value in trial.params.items() if name in domains}

    def _candidate(self, trial: FrozenTrial) -> Candidate | None:
        """Return the config of a trial; None if it is over a limit or not known completely."""
        # The params of a running trial are complete when its objective has suggested all of them. A trial can end
        # before that; then its config is the one that was proposed.
        count, candidate = self._candidates.get(trial.number, (-1, None))
        if count != len(trial.params):
            params = self._params(trial)
            complete = self._space.has(params)
            candidate = self._pool.candidate(params) if complete else self._asked.get(trial.number)
            if complete or trial.state.is_finished():
                self._candidates[trial.number] = len(trial.params), candidate
        return candidate

    def _key(self, trial: FrozenTrial) -> Hashable:
        """Return the identity of a trial's params so far."""
        if not trial.state.is_finished():
            return params_key(self._params(trial))
        if trial.number not in self._keys:
            self._keys[trial.number] = params_key(self._params(trial))
        return self._keys[trial.number]
