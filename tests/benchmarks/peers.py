"""The search methods that are compared, each behind the two or three calls of `simulator.Peer`."""

import warnings
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from outside import MOASHA, MOREA, QNEHVI
from problems import Problem
from simulator import GRACE, REDUCTION, Peer

from search.ledger import History, Trial
from search.scheduler import Halving
from search.study import _suggest, _to_optuna
from spaces.space import Domain, Params

#: of NSGA-II: of 10, 20 and 50 the best for it on cifar100, within a budget of 100
POPULATION = 10

#: Told the number of a trial, its cost, and its error after each epoch so far; returns whether it stops here.
Verdict = Callable[[int, float, Sequence[float]], bool]


def never(number: int, cost: float, errors: Sequence[float]) -> bool:
    """Train all to the end."""
    return False


class Optuna:
    """An Optuna sampler that minimises the error and the cost.

    A trial that was stopped is PRUNED; or, if ``partial``, COMPLETE with the error it had, as Ray Tune's OptunaSearch
    tells it.
    """

    def __init__(self, problem: Problem, sampler: BaseSampler, verdict: Verdict = never, partial: bool = False) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self._problem, self._verdict, self._partial = problem, verdict, partial
        self._study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        self._costs: dict[int, float] = {}

    def ask(self, given: Params | None = None) -> tuple[optuna.Trial, Params]:
        """Propose, or enqueue ``given`` and take that."""
        if given is not None:
            domains = self._problem.space.domains
            self._study.enqueue_trial({name: _to_optuna(domains[name], value) for name, value in given.items()})
        trial = self._study.ask()
        params: Params = {}

        def choose(name: str, domain: Domain) -> Any:
            params[name] = _suggest(trial, name, domain)
            return params[name]

        self._problem.space.resolve(choose)
        self._costs[trial.number] = float(self._problem.cost[self._problem.number(params)])
        return trial, params

    def report(self, token: optuna.Trial, errors: Sequence[float]) -> bool:
        """Ask the verdict."""
        return self._verdict(token.number, self._costs[token.number], errors)

    def tell(self, token: optuna.Trial, errors: Sequence[float], full: bool) -> None:
        """Tell the study; the user attribute "curve" has all errors."""
        token.set_user_attr("curve", list(errors))
        if full or self._partial:
            self._study.tell(token, [errors[-1], self._costs[token.number]])
        else:
            self._study.tell(token, state=TrialState.PRUNED)


class AshaOnError:
    """Asynchronous successive halving on the error alone, as Ray Tune's AsyncHyperBandScheduler does it."""

    def __init__(self) -> None:
        self._rungs: dict[int, list[float]] = {}

    def __call__(self, number: int, cost: float, errors: Sequence[float]) -> bool:
        epoch = len(errors)
        if not _is_rung(epoch):
            return False
        seen = self._rungs.setdefault(epoch, [])
        cutoff = np.percentile(seen, 100 / REDUCTION) if seen else inf
        seen.append(errors[-1])
        return errors[-1] > cutoff


class OurHalving:
    """`search.scheduler.Halving`, on the front and its layers."""

    def __init__(self) -> None:
        self._halving = Halving(GRACE, REDUCTION, {"top1": "max", "cost": "min"})
        self._history = History()

    def __call__(self, number: int, cost: float, errors: Sequence[float]) -> bool:
        trial = self._history.trials.setdefault(number, Trial(number, {}, {}, "", "", cost={"cost": cost}))
        trial.reports.append({"epoch": len(errors), "metrics": {"top1": 1 - errors[-1]}})
        return self._halving.verdict(self._history, number) is not None


def _is_rung(epoch: int) -> bool:
    rung = GRACE
    while rung < epoch:
        rung *= REDUCTION
    return rung == epoch


def _random(problem: Problem, seed: int, workers: int) -> Peer:
    return Optuna(problem, RandomSampler(seed=seed))


def _tpe_sampler(seed: int, workers: int) -> TPESampler:
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=workers > 1)


def _tpe(problem: Problem, seed: int, workers: int) -> Peer:
    return Optuna(problem, _tpe_sampler(seed, workers))


def _nsga2(problem: Problem, seed: int, workers: int) -> Peer:
    return Optuna(problem, NSGAIISampler(seed=seed, population_size=POPULATION))


def _gp(problem: Problem, seed: int, workers: int) -> Peer:
    return Optuna(problem, GPSampler(seed=seed, deterministic_objective=False))


def _tpe_asha(problem: Problem, seed: int, workers: int) -> Peer:
    return Optuna(problem, _tpe_sampler(seed, workers), AshaOnError(), partial=True)


def _tpe_halving(problem: Problem, seed: int, workers: int) -> Peer:
    return Optuna(problem, _tpe_sampler(seed, workers), OurHalving())


#: Each makes a method for a problem, a seed and a number of workers.
PEERS: dict[str, Callable[[Problem, int, int], Peer]] = {
    "random": _random,
    "tpe": _tpe,
    "nsga2": _nsga2,
    "gp": _gp,
    "mo-rea": lambda problem, seed, workers: MOREA(problem, seed),
    "qnehvi": lambda problem, seed, workers: QNEHVI(problem, seed),
    "mo-asha": lambda problem, seed, workers: MOASHA(problem, seed),
    "tpe-asha": _tpe_asha,
    "tpe-halving": _tpe_halving,
}
#: Methods that stop trainings early; they have something to stop only where epochs are recorded.
STOPPING = ("mo-asha", "tpe-asha", "tpe-halving")
