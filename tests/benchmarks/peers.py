"""The search methods that are compared, each with the interface of `simulator.Peer`."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from search.analysis.pareto import Direction
from search.ledger.events import Reported
from search.ledger.history import History, Trial
from search.samplers.shared.frontier_sampler import FrontierSampler
from search.samplers.shared.optuna_space import distributions, fixed_params, from_optuna, suggest
from search.schedulers.frontier import Frontier
from search.schedulers.halving import Halving
from spaces.space import Params
from tests.benchmarks.outside import MOASHA, MOREA, QNEHVI
from tests.benchmarks.problems import BUDGETS, Problem
from tests.benchmarks.simulator import GRACE, REDUCTION, Peer

#: population of NSGA-II; the best of 10, 20 and 50 on cifar100 within a budget of 100
POPULATION = 10

#: takes the history of all trials and the number of the trial that has just reported; returns whether it stops
Verdict = Callable[[History, int], object]


def never(history: History, number: int) -> bool:
    """Return False: train every config to the end."""
    return False


class Optuna:
    """An Optuna sampler that minimises the error and the cost.

    The user attribute "curve" of a trial has its errors.

    Args:
        problem: what is searched.
        sampler: proposes configs.
        verdict: decides after each epoch whether a trial stops. It sees what a scheduler of this project sees: top1
            after each epoch, and the price.
        partial: report a trial that was stopped as COMPLETE with its last error, as Ray Tune's OptunaSearch does;
            otherwise as PRUNED.
        flat: show every range to the sampler in every trial. Some samplers only use ranges that all trials have.
    """

    def __init__(
        self,
        problem: Problem,
        sampler: BaseSampler,
        verdict: Verdict = never,
        partial: bool = False,
        flat: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self._problem, self._verdict, self._partial, self._flat = problem, verdict, partial, flat
        self._study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        self._history = History()
        self._configs: dict[int, int] = {}

    @property
    def begun(self) -> int:
        """Return the number of distinct configs that it has proposed."""
        return len(self._history.trials)

    def ask(self, given: Params | None = None) -> tuple[optuna.Trial, Params]:
        """Propose a config; ``given`` is enqueued in the study, so that it is the next one."""
        domains = self._problem.space.domains
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
            cost = {self._problem.price: float(self._problem.cost[config])}
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
            self._study.tell(token, [errors[-1], float(self._problem.cost[self._configs[token.number]])])
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


def asha_on_error(history: History, number: int) -> bool:
    """Return the verdict of asynchronous successive halving on the error only, as in Ray Tune's ASHAScheduler."""
    epoch = history.trials[number].epoch
    at_rung = {
        n: trial.reports[epoch - 1].metrics["top1"] for n, trial in history.trials.items() if trial.epoch >= epoch
    }
    own = at_rung.pop(number)
    return _is_rung(epoch) and bool(at_rung) and own < np.percentile(list(at_rung.values()), 100 - 100 / REDUCTION)


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
    return Optuna(problem, NSGAIISampler(seed=seed, population_size=POPULATION), flat=True)


def _gp(problem: Problem, seed: int, workers: int) -> Peer:
    return Optuna(problem, GPSampler(seed=seed, deterministic_objective=False), flat=True)


def _frontier(problem: Problem, seed: int, workers: int, verdict: Verdict = never) -> Peer:
    def known(params: Params) -> dict[str, float]:
        number = problem.number(params)
        return {name: float(values[number]) for name, values in problem.known.items()}

    def spent() -> float:
        return peer.begun / BUDGETS[problem.name]

    objectives: dict[str, Direction] = {"error": "min", problem.price: "min"}
    sampler = FrontierSampler(problem.space, known, objectives, measured="error", seed=seed, spent=spent)
    peer = Optuna(problem, sampler, verdict)
    return peer


def _frontier_stopping(problem: Problem, seed: int, workers: int) -> Peer:
    scheduler = Frontier(GRACE, 0.03, {"top1": "max", problem.price: "min"}, measured="top1")
    return _frontier(problem, seed, workers, scheduler.verdict)


def _tpe_asha(problem: Problem, seed: int, workers: int) -> Peer:
    return Optuna(problem, _tpe_sampler(seed, workers), asha_on_error, partial=True)


def _tpe_halving(problem: Problem, seed: int, workers: int) -> Peer:
    halving = Halving(GRACE, REDUCTION, {"top1": "max", problem.price: "min"})
    return Optuna(problem, _tpe_sampler(seed, workers), halving.verdict)


#: by name: returns a method for a problem, a seed and a number of workers
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
    "frontier": _frontier,
    "frontier-stopping": _frontier_stopping,
}
#: methods that stop trainings early; they need a problem with more than one epoch
STOPPING = ("mo-asha", "tpe-asha", "tpe-halving", "frontier-stopping")
