"""The search methods that are compared, each behind the two or three calls of `simulator.Peer`."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from search.analysis.pareto import Direction
from search.ledger.history import History, Trial
from search.samplers.shared.frontier_sampler import FrontierSampler
from search.samplers.shared.optuna_space import distributions, fixed_params, from_optuna, suggest
from search.schedulers.frontier import Frontier
from search.schedulers.halving import Halving
from spaces.space import Params
from tests.benchmarks.outside import MOASHA, MOREA, QNEHVI
from tests.benchmarks.problems import BUDGETS, Problem
from tests.benchmarks.simulator import GRACE, REDUCTION, Peer

#: of NSGA-II: of 10, 20 and 50 the best for it on cifar100, within a budget of 100
POPULATION = 10

#: Told what is known of all trials and the number of the one that has just reported; returns whether it stops.
Verdict = Callable[[History, int], object]


def never(history: History, number: int) -> bool:
    """Train all to the end."""
    return False


class Optuna:
    """An Optuna sampler that minimises the error and the cost.

    If ``flat``, it sees every range in every trial: for samplers that take only what all trials share for a space.
    A trial that was stopped is PRUNED; or, if ``partial``, COMPLETE with the error it had, as Ray Tune's OptunaSearch
    tells it. The user attribute "curve" has its errors. The verdict sees what a scheduler of this project sees: top1
    after each epoch, and the price.
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
        """How many trainings it has proposed."""
        return len(self._history.trials)

    def ask(self, given: Params | None = None) -> tuple[optuna.Trial, Params]:
        """Propose, or enqueue ``given`` and take that."""
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
        if config not in self._configs.values():  # what is known already is not trained, and no trial to a scheduler
            cost = {self._problem.price: float(self._problem.cost[config])}
            why = getattr(self._study.sampler, "why", {})
            whole = {"train": {"epochs": self._problem.epochs}}
            trial = Trial(asked.number, params, whole, identity="", architecture="", cost=cost, why=why)
            asked.set_user_attr("epochs", self._problem.epochs)
            self._history.trials[asked.number] = trial
        self._configs[asked.number] = config
        return asked, params

    def report(self, token: optuna.Trial, errors: Sequence[float]) -> bool:
        """Show the sampler how far it is, and ask the verdict."""
        token.set_user_attr("curve", list(errors))
        self._note(token.number, errors)
        return bool(self._verdict(self._history, token.number))

    def tell(self, token: optuna.Trial, errors: Sequence[float], full: bool) -> None:
        """Tell the study."""
        token.set_user_attr("curve", list(errors))
        if full or self._partial:
            self._study.tell(token, [errors[-1], float(self._problem.cost[self._configs[token.number]])])
        else:
            self._study.tell(token, state=TrialState.PRUNED)
        if token.number in self._history.trials:
            self._note(token.number, errors)
            self._history.trials[token.number].state = "finished" if full else "stopped"

    def _note(self, number: int, errors: Sequence[float]) -> None:
        trial = self._history.trials[number]
        for epoch in range(trial.epoch + 1, len(errors) + 1):
            trial.reports.append({"epoch": epoch, "metrics": {"top1": 1 - errors[epoch - 1]}})


def asha_on_error(history: History, number: int) -> bool:
    """Asynchronous successive halving on the error alone, as Ray Tune's AsyncHyperBandScheduler does it."""
    epoch = history.trials[number].epoch
    at_rung = {
        n: trial.reports[epoch - 1]["metrics"]["top1"] for n, trial in history.trials.items() if trial.epoch >= epoch
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
    "frontier": _frontier,
    "frontier-stopping": _frontier_stopping,
}
#: Methods that stop trainings early; they have something to stop only where epochs are recorded.
STOPPING = ("mo-asha", "tpe-asha", "tpe-halving", "frontier-stopping")
