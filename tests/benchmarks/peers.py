"""The search methods that are compared, each with the interface of `simulator.Peer`."""

import random
import warnings
from collections.abc import Callable, Sequence
from math import exp
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState
from typing_extensions import override

from search.analysis.pareto import Direction, Objectives
from search.ledger.events import Reported
from search.ledger.history import History, Trial
from search.samplers.shared.candidates import DESIGN_SAMPLES, Candidate, CandidatePool, Costs
from search.samplers.shared.frontier_sampler import FrontierSampler
from search.samplers.shared.optuna_space import distributions, fixed_params, from_optuna, suggest
from search.samplers.shared.selector import FrontierSelector
from search.schedulers.frontier import FrontierConfig
from search.schedulers.halving import Halving, is_rung
from spaces.prior import Prior
from spaces.space import Params
from tests.benchmarks.outside import MOASHA, MOREA, QNEHVI, SMAC, Ax, NePS
from tests.benchmarks.priors import prior_of
from tests.benchmarks.problems import Problem, UntriedConfigs
from tests.benchmarks.simulator import GRACE, REDUCTION, Peer, first_rung

#: population of NSGA-II; the best of 10, 20 and 50 on cifar100 within a budget of 100
POPULATION = 10
#: trials that may dominate a trial after its first epoch without stopping it
TOP = 3

#: takes the history of all trials and the number of the trial that has just reported; returns whether it stops
Verdict = Callable[[History, int], object]


def never(history: History, number: int) -> bool:
    """Return False: train every config to the end."""
    return False


class Optuna:
    """An Optuna sampler that minimises the error and the costs.

    The user attribute "curve" of a trial has its errors.

    Args:
        problem: what is searched.
        sampler: proposes configs.
        verdict: decides after each epoch whether a trial stops. It sees what a scheduler of this project sees: top1
            after each epoch, and the price.
        partial: report a trial that was stopped as COMPLETE with its last error, as Ray Tune's OptunaSearch does;
            otherwise as PRUNED.
        flat: show every range to the sampler in every trial. Some samplers only use ranges that all trials have.
        snap: train the nearest config of the table that was not proposed yet in place of the proposed one, which may
            not be in the table. The sampler is shown the config that is trained.
    """

    def __init__(
        self,
        problem: Problem,
        sampler: BaseSampler,
        verdict: Verdict = never,
        partial: bool = False,
        flat: bool = False,
        snap: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self._problem, self._verdict, self._partial, self._flat = problem, verdict, partial, flat
        self._table = UntriedConfigs(problem) if snap else None
        self._study = optuna.create_study(
            directions=[StudyDirection.MINIMIZE] * (1 + len(problem.prices)), sampler=sampler
        )
        self._history = History()
        self._configs: dict[int, int] = {}

    @property
    def begun(self) -> int:
        """Return the number of distinct configs that it has proposed."""
        return len(self._history.trials)

    def ask(self, given: Params | None = None) -> tuple[optuna.Trial, Params]:
        """Propose a config; ``given`` is enqueued in the study, so that it is the next one."""
        domains = self._problem.space.domains
        if self._table and given is None:
            wanted = self._study.ask()
            given = self._table.nearest(suggest(self._problem.space, wanted)[0], self._configs.values())
            self._study.tell(wanted, state=TrialState.FAIL)
        if given is not None:
            fixed = self._problem.everywhere(given) if self._flat else given
            self._study.enqueue_trial(fixed_params(self._problem.space, fixed))
        if self._flat:
            asked = self._study.ask(distributions(self._problem.space))
            values = {name: from_optuna(domains[name], value) for name, value in asked.params.items()}
            params = self._problem.active(values)
        else:
            asked = self._study.ask()
            params, _ = suggest(self._problem.space, asked)
        config = self._problem.number(params)
        if config not in self._configs.values():  # a repeated config is not trained, so a scheduler does not see it
            cost = dict(zip(self._problem.prices, self._problem.costs[config].tolist(), strict=True))
            why = getattr(self._study.sampler, "why", {})
            tree = {"train": {"epochs": self._problem.epochs}}
            trial = Trial(asked.number, params, tree, identity="", architecture="", cost=cost, why=why)
            asked.set_user_attr("epochs", self._problem.epochs)
            self._history.trials[asked.number] = trial
        self._configs[asked.number] = config
        return asked, params

    def report(self, token: optuna.Trial, errors: Sequence[float]) -> bool:
        """Record the errors so far, and return the verdict."""
        token.set_user_attr("curve", list(errors))
        self._record(token.number, errors)
        return bool(self._verdict(self._history, token.number))

    def tell(self, token: optuna.Trial, errors: Sequence[float], full: bool) -> None:
        """Report the end of a training to the study."""
        token.set_user_attr("curve", list(errors))
        if full or self._partial:
            self._study.tell(token, [errors[-1], *self._problem.costs[self._configs[token.number]].tolist()])
        else:
            self._study.tell(token, state=TrialState.PRUNED)
        if token.number in self._history.trials:
            self._record(token.number, errors)
            self._history.trials[token.number].state = "finished" if full else "stopped"

    def _record(self, number: int, errors: Sequence[float]) -> None:
        trial = self._history.trials[number]
        for epoch in range(trial.epoch + 1, len(errors) + 1):
            metrics = {"top1": 1 - errors[epoch - 1]}
            trial.reports.append(Reported(trial=number, epoch=epoch, metrics=metrics, seconds=0.0))


class TablePool(CandidatePool):
    """The configs of a table as the candidates of each proposal, where the space has more than the table."""

    def __init__(
        self, problem: Problem, cost: Callable[[Params], Costs], seed: int, prior: Prior | None = None
    ) -> None:
        super().__init__(problem.space, cost, seed, prior)
        self._enumerated = self._within_limits(problem.params)
        self._rows = list(self._enumerated.values())

    @override
    def sample(self, rng: random.Random, prior: Prior | None = None) -> list[Candidate]:
        if prior is None:
            return rng.sample(self._rows, min(DESIGN_SAMPLES, len(self._rows)))
        most = max(row.log_prior for row in self._rows)
        return rng.choices(self._rows, [exp(row.log_prior - most) for row in self._rows], k=DESIGN_SAMPLES)


class TableSampler(FrontierSampler):
    """The frontier sampler with the configs of a table as candidates."""

    def __init__(self, problem: Problem, cost: Callable[[Params], Costs], **options: Any) -> None:
        super().__init__(problem.space, cost, **options)
        self._pool = TablePool(problem, cost, options["seed"], options.get("prior"))
        self._selector = FrontierSelector(self._pool, problem.prices)


class AnyUntried:
    """Proposes the configs of a table in random order, and trains each to the end."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem = problem
        order = np.random.default_rng(seed).permutation(len(problem.params)).tolist()
        self._order = iter(order)

    def ask(self, given: Params | None = None) -> tuple[None, Params]:
        """Propose the next config of the order."""
        return None, self._problem.params[next(self._order)] if given is None else given

    def report(self, token: None, errors: Sequence[float]) -> bool:
        """Return False: train every config to the end."""
        return False

    def tell(self, token: None, errors: Sequence[float], full: bool) -> None:
        """Ignore the result."""


def top_k(history: History, number: int, price: str) -> bool:
    """Return whether a trial stops because `TOP` others dominate it after the first epoch, by error and price.

    The best K after one epoch go on, for several objectives: "best" is by the number of trials that dominate. Romain
    Egele, Felix Mohr, Tom Viering and Prasanna Balaprakash, "The Unreasonable Effectiveness of Early Discarding after
    One Epoch in Neural Network Hyperparameter Optimization", Neurocomputing 597, 2024.
    """
    if history.trials[number].epoch != 1:
        return False
    first = {
        n: (trial.reports[0].metrics["top1"], trial.cost[price]) for n, trial in history.trials.items() if trial.epoch
    }
    top1, cost = first.pop(number)
    return sum(other[0] >= top1 and other[1] <= cost and other != (top1, cost) for other in first.values()) >= TOP


def asha_on_error(history: History, number: int, first: int = GRACE) -> bool:
    """Return the verdict of asynchronous successive halving on the error only, as in Ray Tune's ASHAScheduler.

    ``first`` is the epoch of the first rung.
    """
    epoch = history.trials[number].epoch
    at_rung = {
        n: trial.reports[epoch - 1].metrics["top1"] for n, trial in history.trials.items() if trial.epoch >= epoch
    }
    own = at_rung.pop(number)
    return (
        is_rung(epoch, first, REDUCTION)
        and bool(at_rung)
        and own < np.percentile(list(at_rung.values()), 100 - 100 / REDUCTION)
    )


def _random(problem: Problem, seed: int, workers: int) -> Peer:
    return AnyUntried(problem, seed) if problem.is_partial else Optuna(problem, RandomSampler(seed=seed))


def _optuna(problem: Problem, sampler: BaseSampler, verdict: Verdict = never, **options: bool) -> Peer:
    if problem.is_partial:  # all ranges are numbers, so all are active
        options |= {"snap": True, "flat": False}
    return Optuna(problem, sampler, verdict, **options)


def _tpe_sampler(seed: int, workers: int) -> TPESampler:
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=workers > 1)


def _tpe(problem: Problem, seed: int, workers: int) -> Peer:
    return _optuna(problem, _tpe_sampler(seed, workers))


def _nsga2(problem: Problem, seed: int, workers: int) -> Peer:
    return _optuna(problem, NSGAIISampler(seed=seed, population_size=POPULATION), flat=True)


def _gp(problem: Problem, seed: int, workers: int) -> Peer:
    return _optuna(problem, GPSampler(seed=seed, deterministic_objective=False), flat=True)


def frontier_peer(
    problem: Problem, seed: int, workers: int, verdict: Verdict = never, prior: Prior | None = None
) -> Peer:
    def known(params: Params) -> dict[str, float]:
        number = problem.number(params)
        return {name: float(values[number]) for name, values in problem.known.items()}

    def spent() -> float:
        return peer.begun / problem.budget

    objectives: dict[str, Direction] = dict.fromkeys(("error", *problem.prices), "min")
    options: dict[str, Any] = {
        "objectives": objectives,
        "measured": "error",
        "seed": seed,
        "spent": spent,
        "prior": prior,
    }
    if problem.is_partial:
        sampler = TableSampler(problem, known, **options)
    else:
        sampler = FrontierSampler(problem.space, known, **options)
    peer = Optuna(problem, sampler, verdict)
    return peer


def objectives_of(problem: Problem) -> Objectives:
    return {"top1": "max", problem.price: "min"}


def _frontier_stopping(problem: Problem, seed: int, workers: int) -> Peer:
    config = FrontierConfig(min_epochs=first_rung(problem))
    return frontier_peer(problem, seed, workers, config.build(objectives_of(problem), "top1").verdict)


def _frontier_right_prior(problem: Problem, seed: int, workers: int) -> Peer:
    return frontier_peer(problem, seed, workers, prior=prior_of(problem))


def _frontier_wrong_prior(problem: Problem, seed: int, workers: int) -> Peer:
    return frontier_peer(problem, seed, workers, prior=prior_of(problem, wrong=True))


def _frontier_halving(problem: Problem, seed: int, workers: int) -> Peer:
    halving = Halving(first_rung(problem), REDUCTION, objectives_of(problem))
    return frontier_peer(problem, seed, workers, halving.verdict)


def _frontier_top_k(problem: Problem, seed: int, workers: int) -> Peer:
    return frontier_peer(problem, seed, workers, lambda history, number: top_k(history, number, problem.price))


def _tpe_asha(problem: Problem, seed: int, workers: int) -> Peer:
    def verdict(history: History, number: int) -> bool:
        return asha_on_error(history, number, first_rung(problem))

    return _optuna(problem, _tpe_sampler(seed, workers), verdict, partial=True)


def _tpe_halving(problem: Problem, seed: int, workers: int) -> Peer:
    halving = Halving(first_rung(problem), REDUCTION, objectives_of(problem))
    return _optuna(problem, _tpe_sampler(seed, workers), halving.verdict)


#: by name: returns a method for a problem, a seed and a number of workers
PEERS: dict[str, Callable[[Problem, int, int], Peer]] = {
    "random": _random,
    "tpe": _tpe,
    "nsga2": _nsga2,
    "gp": _gp,
    "mo-rea": lambda problem, seed, workers: MOREA(problem, seed),
    "qnehvi": lambda problem, seed, workers: QNEHVI(problem, seed),
    "ax": lambda problem, seed, workers: Ax(problem, seed),
    "smac": lambda problem, seed, workers: SMAC(problem, seed),
    "mo-asha": lambda problem, seed, workers: MOASHA(problem, seed),
    "neps-mo-asha": lambda problem, seed, workers: NePS(problem, seed, "moasha"),
    "neps-mo-hyperband": lambda problem, seed, workers: NePS(problem, seed, "mo_hyperband"),
    "primo": lambda problem, seed, workers: NePS(problem, seed, "primo"),
    "tpe-asha": _tpe_asha,
    "tpe-halving": _tpe_halving,
    "frontier": frontier_peer,
    "frontier-right-prior": _frontier_right_prior,
    "frontier-wrong-prior": _frontier_wrong_prior,
    "frontier-top-k": _frontier_top_k,
    "frontier-halving": _frontier_halving,
    "frontier-stopping": _frontier_stopping,
}
#: methods for more than two objectives
SEVERAL = ("random", "tpe", "nsga2", "gp", "qnehvi", "frontier")
#: methods that stop trainings early; they need a problem with more than one epoch
STOPPING = (
    "mo-asha", "neps-mo-asha", "neps-mo-hyperband", "primo", "tpe-asha", "tpe-halving", "frontier-top-k",
    "frontier-halving", "frontier-stopping",
)  # fmt: skip
