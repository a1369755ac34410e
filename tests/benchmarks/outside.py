"""Search methods of Syne Tune and BoTorch; requirements-peers.txt lists the packages that they need."""

# pyright: reportMissingImports=false

from collections.abc import Sequence
from typing import Any

import numpy as np

from spaces.space import Choice, Params
from tests.benchmarks.problems import Problem
from tests.benchmarks.simulator import GRACE, REDUCTION

#: population of MO-REA; the best of 10, 20 and 50 on cifar100 within a budget of 100
POPULATION = 20


class MOASHA:
    """Syne Tune's MO-ASHA: random configs, stopped by non-dominated sorting at each rung."""

    def __init__(self, problem: Problem, seed: int) -> None:
        from syne_tune.backend.trial_status import Trial as SyneTrial
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA as MOASHA_SCHEDULER

        np.random.seed(seed)  # Syne Tune samples from the global generator
        self._trial_class, self._problem, self._count = SyneTrial, problem, 0
        self._scheduler = MOASHA_SCHEDULER(
            _flat(problem), metrics=["error", "cost"], time_attr="epoch", max_t=problem.epochs, grace_period=GRACE,
            reduction_factor=REDUCTION, random_seed=seed,
        )  # fmt: skip

    def ask(self, given: Params | None = None) -> tuple[Any, Params]:
        """Propose a random config."""
        params = given or self._problem.active(self._scheduler.suggest().config)
        trial = self._trial_class(self._count, params, None)  # pyright: ignore[reportArgumentType]
        self._count += 1
        self._scheduler.on_trial_add(trial)
        return trial, params

    def report(self, token: Any, errors: Sequence[float]) -> bool:
        """Return the scheduler's decision."""
        return self._scheduler.on_trial_result(token, self._result(token, errors)) == "STOP"

    def tell(self, token: Any, errors: Sequence[float], full: bool) -> None:
        """Report a training that ran to the end; the scheduler knows of those that it stopped."""
        if full:
            self._scheduler.on_trial_complete(token, self._result(token, errors))

    def _result(self, token: Any, errors: Sequence[float]) -> dict[str, float]:
        cost = self._problem.cost[self._problem.number(token.config)]
        return {"error": errors[-1], "cost": float(cost), "epoch": len(errors)}


class MOREA:
    """Syne Tune's MO-REA: multi-objective regularized evolution."""

    def __init__(self, problem: Problem, seed: int) -> None:
        from syne_tune.optimizer.schedulers.multiobjective.multi_objective_regularized_evolution import (
            MultiObjectiveRegularizedEvolution,
        )

        self._problem, self._count = problem, 0
        self._searcher = MultiObjectiveRegularizedEvolution(
            _flat(problem), points_to_evaluate=[], population_size=POPULATION, random_seed=seed
        )  # fmt: skip

    def ask(self, given: Params | None = None) -> tuple[Any, Params]:
        """Propose a random config at first, then a mutation of a member of the population."""
        config = self._searcher.suggest() if given is None else self._problem.everywhere(given)
        self._count += 1
        return (self._count, config), self._problem.active(config)

    def report(self, token: Any, errors: Sequence[float]) -> bool:
        """Return False: train every config to the end."""
        return False

    def tell(self, token: Any, errors: Sequence[float], full: bool) -> None:
        """Add a config to the population."""
        number, config = token
        cost = self._problem.cost[self._problem.number(self._problem.active(config))]
        self._searcher.on_trial_complete(number, config, [errors[-1], float(cost)])


def _flat(problem: Problem) -> dict[str, Any]:
    """Return the space for Syne Tune, which has no conditional ranges: every range is always active."""
    from syne_tune.config_space import choice

    domains = problem.space.domains.items()
    assert all(isinstance(domain, Choice) for _, domain in domains)
    return {name: choice(list(domain.values())) for name, domain in domains}


class QNEHVI:
    """BoTorch's qLogNEHVI: logarithm of the noisy expected hypervolume improvement, over the untried configs.

    Gaussian processes model error and cost on one-hot codes of the ranges. The initial design is random. The candidate
    pool is a random sample of the untried configs.

    Daulton, Balandat and Bakshy, Parallel Bayesian Optimization of Multiple Noisy Objectives with Expected Hypervolume
    Improvement, NeurIPS 2021. Ament, Daulton, Eriksson, Balandat and Bakshy, Unexpected Improvements to Expected
    Improvement for Bayesian Optimization, NeurIPS 2023.
    """

    #: configs of the initial design
    INITIAL = 10
    #: configs of the candidate pool
    CANDIDATES = 1000

    def __init__(self, problem: Problem, seed: int) -> None:
        import torch

        torch.manual_seed(seed)
        self._problem, self._rng = problem, np.random.default_rng(seed)
        sizes = {name: len(list(domain.values())) for name, domain in problem.space.domains.items()}
        self._codes = np.array(
            [
                [float(params.get(name) == value) for name, size in sizes.items() for value in range(size)]
                for params in problem.params
            ]
        )
        self._values: dict[int, list[float]] = {}
        self._pending: set[int] = set()

    def ask(self, given: Params | None = None) -> tuple[int, Params]:
        """Propose the candidate with the highest acquisition value, given the configs that are running."""
        known = self._values.keys() | self._pending
        untried = np.array([n for n in range(len(self._codes)) if n not in known])
        if given is not None:
            config = self._problem.number(given)
        elif len(self._values) < self.INITIAL:
            config = int(self._rng.choice(untried))
        else:
            config = self._best(self._rng.choice(untried, min(self.CANDIDATES, len(untried)), replace=False))
        self._pending.add(config)
        return config, self._problem.params[config]

    def _best(self, candidates: Any) -> int:
        import torch
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.models.transforms import Standardize
        from gpytorch.mlls import SumMarginalLogLikelihood

        x = torch.tensor(self._codes[list(self._values)])
        y = -torch.tensor(list(self._values.values()), dtype=torch.float64)
        model = ModelListGP(*[SingleTaskGP(x, column[:, None], outcome_transform=Standardize(1)) for column in y.T])
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        pending = torch.tensor(self._codes[list(self._pending)]) if self._pending else None
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model, ref_point=y.min(0).values.tolist(), X_baseline=x, X_pending=pending, prune_baseline=True,
        )  # fmt: skip
        with torch.no_grad():
            scores = torch.cat(
                [acquisition(part[:, None]) for part in torch.tensor(self._codes[candidates]).split(128)]
            )
        return int(candidates[int(scores.argmax())])

    def report(self, token: int, errors: Sequence[float]) -> bool:
        """Return False: train every config to the end."""
        return False

    def tell(self, token: int, errors: Sequence[float], full: bool) -> None:
        """Record the error and the cost of a config."""
        self._pending.discard(token)
        self._values[token] = [errors[-1], float(self._problem.cost[token])]
