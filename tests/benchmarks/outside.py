"""Search methods of Syne Tune, BoTorch, SMAC, Ax and NePS; requirements-*.txt list what they need."""

# pyright: reportMissingImports=false

import random
import warnings
from collections.abc import Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from spaces.space import Choice, Float, Params
from tests.benchmarks.problems import Problem, UntriedConfigs
from tests.benchmarks.simulator import REDUCTION, first_rung

#: name of the number of a row of a table
ROW = "row"
#: population of MO-REA; the best of 10, 20 and 50 on cifar100 within a budget of 100
POPULATION = 20


class MOASHA:
    """Syne Tune's MO-ASHA: random configs, stopped by non-dominated sorting at each rung.

    Where the space has configs that are not in the table, it draws from the rows of the table.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        from syne_tune.backend.trial_status import Trial as SyneTrial
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA as MOASHA_SCHEDULER

        np.random.seed(seed)  # Syne Tune samples from the global generator
        self._trial_class, self._problem, self._count = SyneTrial, problem, 0
        self._scheduler = MOASHA_SCHEDULER(
            _rows(problem) if problem.is_partial else _flat(problem), metrics=["error", "cost"], time_attr="epoch",
            max_t=problem.epochs, grace_period=first_rung(problem), reduction_factor=REDUCTION, random_seed=seed,
        )  # fmt: skip

    def ask(self, given: Params | None = None) -> tuple[Any, Params]:
        """Propose a random config."""
        if given is not None:
            params = given
        else:
            config = self._scheduler.suggest().config
            params = self._problem.params[config[ROW]] if self._problem.is_partial else self._problem.active(config)
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
    """Syne Tune's MO-REA: multi-objective regularized evolution.

    Where the space has configs that are not in the table, the nearest one that is left takes the place of each.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        from syne_tune.optimizer.schedulers.multiobjective.multi_objective_regularized_evolution import (
            MultiObjectiveRegularizedEvolution,
        )

        self._problem, self._count = problem, 0
        self._table = UntriedConfigs(problem) if problem.is_partial else None
        self._tried: set[int] = set()
        self._searcher = MultiObjectiveRegularizedEvolution(
            _flat(problem), points_to_evaluate=[], population_size=POPULATION, random_seed=seed
        )  # fmt: skip

    def ask(self, given: Params | None = None) -> tuple[Any, Params]:
        """Propose a random config at first, then a mutation of a member of the population."""
        config = self._searcher.suggest() if given is None else self._problem.everywhere(given)
        if self._table and given is None:
            wanted = self._problem.active(config)
            config = self._problem.everywhere(self._table.nearest(wanted, self._tried))
        params = self._problem.active(config)
        self._tried.add(self._problem.number(params))
        self._count += 1
        return (self._count, config), params

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


def _rows(problem: Problem) -> dict[str, Any]:
    """Return the space of the rows of a table for Syne Tune."""
    from syne_tune.config_space import choice

    return {ROW: choice(list(range(len(problem.params))))}


class QNEHVI:
    """BoTorch's qLogNEHVI: logarithm of the noisy expected hypervolume improvement, over the untried configs.

    Gaussian processes model error and costs on one-hot codes of the ranges. The initial design is random. The candidate
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
        """Record the error and the costs of a config."""
        self._pending.discard(token)
        self._values[token] = [errors[-1], *self._problem.costs[token].tolist()]


class SMAC:
    """SMAC's multi-objective optimisation: ParEGO on random forests, with SMAC's settings for hyperparameters.

    It asks for configs of a space without conditions. The nearest untried config of the table is trained and reported
    in place of each.

    Lindauer et al., SMAC3: A Versatile Bayesian Optimization Package for Hyperparameter Optimization, JMLR 2022.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        from ConfigSpace import Categorical, ConfigurationSpace
        from ConfigSpace import Float as FloatRange
        from smac import HyperparameterOptimizationFacade as Facade
        from smac import Scenario

        self._problem, self._table, self._tried = problem, UntriedConfigs(problem), set[int]()
        self._space = ConfigurationSpace(seed=seed)
        for name, domain in problem.space.domains.items():
            if isinstance(domain, Float):
                self._space.add(FloatRange(name, (domain.lo, domain.hi)))
            else:
                self._space.add(Categorical(name, list(domain.values())))
        self._folder = TemporaryDirectory()
        scenario = Scenario(
            self._space, objectives=["error", "cost"], n_trials=100 * len(problem.params), deterministic=True,
            seed=seed, output_directory=self._folder.name,
        )  # fmt: skip
        self._facade = Facade(
            scenario, lambda config, seed=0: 0.0, logging_level=False, overwrite=True,
            multi_objective_algorithm=Facade.get_multi_objective_algorithm(scenario),
            intensifier=Facade.get_intensifier(scenario, max_config_calls=1),
        )  # fmt: skip

    def ask(self, given: Params | None = None) -> tuple[Any, Params]:
        """Propose the untried config of the table that is nearest to SMAC's proposal."""
        from ConfigSpace import Configuration

        info = self._facade.ask()
        wanted = {name: _plain(value) for name, value in dict(info.config).items()}
        params = given or self._table.nearest(self._problem.active(wanted), self._tried)
        config = self._problem.number(params)
        self._tried.add(config)
        asked = Configuration(self._space, values=self._problem.everywhere(params))
        return (replace(info, config=asked), config), params

    def report(self, token: Any, errors: Sequence[float]) -> bool:
        """Return False: train every config to the end."""
        return False

    def tell(self, token: Any, errors: Sequence[float], full: bool) -> None:
        """Report the error and the cost of a config."""
        from smac.runhistory import TrialValue

        info, config = token
        self._facade.tell(info, TrialValue(cost=[errors[-1], float(self._problem.cost[config])]), save=False)


class Ax:
    """Ax's own choice for two objectives: qLogNEHVI on a Gaussian process, after a Sobol design of five trials.

    It asks for configs of a space without conditions. The nearest untried config of the table is trained and reported
    in place of each.

    Olson et al., Ax: A Platform for Adaptive Experimentation, AutoML 2025.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        import logging

        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
        from ax.utils.common.logger import set_ax_logger_levels

        set_ax_logger_levels(logging.ERROR)  # it prints three lines about each trial
        self._problem, self._table, self._tried = problem, UntriedConfigs(problem), set[int]()
        # Names have slashes, which its expressions read as divisions.
        self._names = {name: f"x{number}" for number, name in enumerate(problem.space.domains)}
        self._client = Client(random_seed=seed)
        self._client.configure_experiment(
            [
                RangeParameterConfig(self._names[name], bounds=(domain.lo, domain.hi), parameter_type="float")
                if isinstance(domain, Float)
                else ChoiceParameterConfig(
                    self._names[name], values=list(domain.values()), parameter_type="int", is_ordered=False
                )
                for name, domain in problem.space.domains.items()
            ]
        )
        self._client.configure_optimization("-error, -cost")
        # With many workers, more than the initial design is asked for until the first of it has ended.
        self._client.configure_generation_strategy(
            initialization_random_seed=seed, allow_exceeding_initialization_budget=True
        )

    def ask(self, given: Params | None = None) -> tuple[Any, Params]:
        """Propose the untried config of the table that is nearest to Ax's proposal."""
        if given is None:
            ((asked, values),) = self._client.get_next_trials(max_trials=1).items()
            wanted = {name: values[short] for name, short in self._names.items()}
            given = self._table.nearest(self._problem.active(wanted), self._tried)
            self._client.mark_trial_abandoned(asked)
        config = self._problem.number(given)
        self._tried.add(config)
        everywhere = self._problem.everywhere(given)
        number = self._client.attach_trial({short: everywhere[name] for name, short in self._names.items()})
        return (number, config), given

    def report(self, token: Any, errors: Sequence[float]) -> bool:
        """Return False: train every config to the end."""
        return False

    def tell(self, token: Any, errors: Sequence[float], full: bool) -> None:
        """Report the error and the cost of a config."""
        number, config = token
        self._client.complete_trial(number, {"error": errors[-1], "cost": float(self._problem.cost[config])})


class NePS:
    """A method of NePS that stops trainings and goes on with some of them later.

    Its space has no conditions: all ranges are always active. Where it samples a config, the nearest one of the table
    that has not been tried takes its place. Both objectives are scaled to the range that they have on the table. What
    differs from the released methods:

    * MO-ASHA and Hyperband fail where none of the trials of a rung has reported yet, as can be with many workers. A
      random config takes the place of such a proposal.
    * PriMO draws the weights of its objectives for each proposal, as otherwise all of a search is for one point of the
      front. It samples without a prior, and in the initial design until a training has run to its end.

    PriMO: Basu et al., Prior-informed multi-objective optimisation, NePS 0.17.

    Args:
        problem: what is searched.
        seed: seed of all random numbers.
        method: name of the method in NePS.
    """

    #: a config that NePS promotes goes on where it was stopped
    resumes = True

    def __init__(self, problem: Problem, seed: int, method: Literal["moasha", "mo_hyperband", "primo"]) -> None:
        import torch
        from neps.optimizers import algorithms
        from neps.optimizers.ask_and_tell import AskAndTell
        from neps.space import HPOCategorical, HPOFloat, HPOInteger, SearchSpace

        random.seed(seed)
        np.random.seed(seed)  # NePS samples from the global generators
        torch.manual_seed(seed)
        self._problem, self._table = problem, UntriedConfigs(problem)
        self._random = random.Random(seed)
        ranges = {
            name: HPOFloat(domain.lo, domain.hi) if isinstance(domain, Float) else HPOCategorical(list(domain.values()))
            for name, domain in problem.space.domains.items()
        }
        self._first = first_rung(problem)
        fidelity = HPOInteger(self._first, problem.epochs, is_fidelity=True)
        space = SearchSpace(ranges | {FIDELITY: fidelity})
        self._is_primo = method == "primo"
        options: dict[str, Any] = {"prior_centers": {}} if self._is_primo else {}
        self._optimizer: Any = getattr(algorithms, method)(space, eta=REDUCTION, **options)
        self._driver = AskAndTell(self._propose)
        self._given: Params | None = None
        self._tried: set[int] = set()
        #: trained to the end, or running
        self._taken: set[int] = set()
        self._lowest = {"error": float(problem.truth.min()), "cost": float(problem.cost.min())}
        self._width = {"error": float(np.ptp(problem.truth)) or 1.0, "cost": float(np.ptp(problem.cost)) or 1.0}

    def ask(self, given: Params | None = None) -> tuple[Any, Params]:
        """Propose a new config, or one whose training shall go on."""
        self._given = given
        trial = self._driver.ask()
        params = self._params(trial.config)
        config = self._problem.number(params)
        self._tried.add(config)
        self._taken.add(config)
        return (trial, config), params

    def _params(self, config: Any) -> Params:
        values = {name: _plain(value) for name, value in config.items() if name != FIDELITY}
        return values if self._problem.is_partial else self._problem.active(values)

    def _propose(self, trials: Any, budget: None = None, n: None = None) -> Any:
        from neps.optimizers.optimizer import SampledConfig

        if self._given is not None:
            return self._new(trials, self._given)
        optimizer = self._optimizer
        if self._is_primo:
            finished = any(trial.report and trial.config[FIDELITY] == self._problem.epochs for trial in trials.values())
            optimizer.scalarization_weights = None
            optimizer = optimizer if finished else optimizer.bracket_optimizer
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sampled = optimizer(trials, None, None)
        except ValueError as error:  # NumPy's, where a rung has no result
            if "need at least one array" not in str(error):
                raise
            numbers = range(len(self._problem.params))
            untried = [number for number in numbers if number not in self._tried] or list(numbers)
            return self._new(trials, self._problem.params[self._random.choice(untried)])
        if sampled.previous_config_id is not None:
            return sampled
        # PriMO does not count running trials, so its numbers are not unique.
        is_model_based = "_" not in sampled.id
        params = self._table.nearest(self._params(sampled.config), self._taken if is_model_based else self._tried)
        config = {**self._problem.everywhere(params), FIDELITY: sampled.config[FIDELITY]}
        return SampledConfig(str(len(trials) + 1) if is_model_based else sampled.id, config)

    def _new(self, trials: Any, params: Params) -> Any:
        """Return a config at the lowest rung."""
        from neps.optimizers.optimizer import SampledConfig

        number = 1 + max((int(name.split("_")[0]) for name in trials), default=0)
        rungs = (self._optimizer.bracket_optimizer if self._is_primo else self._optimizer).rung_to_fid
        rung = min(rungs)
        return SampledConfig(f"{number}_rung_{rung}", {**self._problem.everywhere(params), FIDELITY: rungs[rung]})

    def report(self, token: Any, errors: Sequence[float]) -> bool:
        """Return whether the epochs of the rung are done."""
        trial, _ = token
        return len(errors) >= trial.config[FIDELITY]

    def tell(self, token: Any, errors: Sequence[float], full: bool) -> None:
        """Report both objectives, and that the training has ended or was stopped."""
        trial, config = token
        if not full:
            self._taken.discard(config)
        # The result of a config that is known already may be of more epochs than this rung has.
        values = {"error": errors[: trial.config[FIDELITY]][-1], "cost": float(self._problem.cost[config])}
        scaled = [(values[name] - self._lowest[name]) / self._width[name] for name in values]
        self._driver.tell(trial.id, {"objective_to_minimize": scaled})


#: name of the range of epochs in NePS
FIDELITY = "epochs"


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a number of Python."""
    return value.item() if isinstance(value, np.generic) else value
