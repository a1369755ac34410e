"""What to try next: an Optuna study, fed from the ledger's events."""

import json
import random
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from typing_extensions import override

from search.ledger.events import Event
from search.ledger.file import Ledger
from search.proposals.time_budget import Rest
from search.proposals.trust import Guard
from search.proposals.warm_start import Source, moved, repeats
from search.samplers.shared.optuna_space import distributions, fixed_params, suggest
from search.spec.schema import Spec
from spaces.space import Params, Tree
from vattn.canonical import architecture_id, trial_id
from vattn.config import TrialConfig
from vattn.files import writing

#: proposals of the sampler in a row that may be over a limit or known already, before chance takes over
PATIENCE = 20


#: draws by chance in a space that cannot be counted, before the search says that it finds nothing new
DRAWS = 10_000


class Proposer:
    """Asks an Optuna study for configs that are new and within the limits, and tells it how they end.

    The study is a projection: `apply` builds it from the events alone, whether they happen now or are replayed. It lies
    in ``storage``, where optuna-dashboard can open it, and is written anew from the ledger at each start. Finished
    trials are COMPLETE, those stopped early are PRUNED with their partial values as the attribute "partial"; failed and
    rejected ones are FAIL. The attribute "curve" has the measured objective after each epoch. Trials of an earlier
    search that is believed (see `search.warm`) are COMPLETE, their accuracies moved to the level of those here, and
    have it as the attribute "source".
    """

    def __init__(self, spec: Spec, storage: Path, ledger: Ledger) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self._spec, self._ledger = spec, ledger
        self._seen: dict[str, int | None] = {}  # identity -> its trial, None if it was over a limit
        self._asked: optuna.Trial | None = None
        self._rest: Rest | None = None
        #: whether the last `propose` passed over a config that could not end within the budget
        self.late = False
        self._open: dict[int, optuna.Trial] = {}
        self._rejected = 0  # in a row
        distributions(spec.space)  # refuses what a sampler cannot choose from
        self._storage = storage
        self._study = self._begin()
        self._told: list[Event] = []
        self._sources: dict[str, Source] = {}
        self._guards: dict[str, Guard] = {}
        self._judged = 0  # finished trials at the last verdict on the earlier searches

    def _begin(self) -> optuna.Study:
        self._storage.unlink(missing_ok=True)
        study = optuna.create_study(
            study_name=self._spec.name,
            storage=JournalStorage(_Journal(self._storage)),
            directions=["maximize" if way == "max" else "minimize" for way in self._spec.objectives.values()],
            sampler=self._sampler(0),
        )
        study.set_metric_names(list(self._spec.objectives))
        return study

    def apply(self, event: Event) -> None:
        """Take in one event of the ledger; bases and retrainings are none of the study's trials."""
        if event.get("trial") in self._ledger.history.extras:
            return
        match event["event"]:
            case "warm_start":
                self._sources[event["source"]] = Source.of(event)
                self._guards[event["source"]] = Guard(self._spec, self._sources[event["source"]])
            case "guard" if not event["trusted"]:
                # A study forgets nothing, so it is made anew of what is left.
                told = [old for old in self._told if old["event"] != "guard" or old["source"] != event["source"]]
                self._study, self._told = self._begin(), []
                self._open.clear()
                for old in told:
                    self.apply(old)
            case "proposed" | "rejected" | "finished" | "stopped" | "failed" | "guard":
                self._told.append(event)
                self._tell(event)

    def _tell(self, event: Event) -> None:
        """Bring the study up to date by an event that is news to it."""
        match event["event"]:
            case "guard":
                for earlier in self._sources[event["source"]].trials:
                    trial = self._replay(earlier.params)
                    trial.set_user_attr("source", event["source"])
                    trial.set_user_attr("earlier", earlier.trial)
                    values = moved(earlier.metrics, event["offset"])
                    self._study.tell(trial, [values[name] for name in self._spec.objectives])
            case "proposed":
                self._rejected = 0
                trial = self._asked or self._replay(event["params"])
                self._asked = None
                self._seen[event["identity"]] = event["trial"]
                self._open[event["trial"]] = trial
                trial.set_user_attr("trial", event["trial"])
                trial.set_user_attr("epochs", event["config"]["train"]["epochs"])
            case "rejected":
                self._rejected += 1
                trial = self._asked or self._replay(event["params"])
                self._asked = None
                if not event.get("late"):  # a budget may be raised
                    self._seen.setdefault(event["identity"], None)
                trial.set_user_attr("rejected", event["reason"])
                self._study.tell(trial, state=TrialState.FAIL)
            case "finished":
                metrics = self._ledger.history.trials[event["trial"]].metrics
                values = [metrics[name] for name in self._spec.objectives]
                self._study.tell(self._curved(event["trial"]), values)
            case "stopped":
                trial = self._curved(event["trial"])
                trial.set_user_attr("partial", self._ledger.history.trials[event["trial"]].reports[-1]["metrics"])
                trial.set_user_attr("epoch", event["epoch"])
                self._study.tell(trial, state=TrialState.PRUNED)
            case "failed" if event["final"]:
                trial = self._open.pop(event["trial"])
                trial.set_user_attr("error", event["error"])
                self._study.tell(trial, state=TrialState.FAIL)

    def _curved(self, number: int) -> optuna.Trial:
        """Return a trial that ended, with its curve."""
        trial = self._open.pop(number)
        self._curve(trial, number)
        return trial

    def _curve(self, trial: optuna.Trial, number: int) -> None:
        """Let the sampler see what a trial has reported."""
        if curve := self._ledger.history.trials[number].curve(self._spec.measured[0]):
            trial.set_user_attr("curve", curve)

    def propose(self, record: Callable[..., Event]) -> int | None:
        """Record a new trial (and what was rejected on the way to it) and return its number; None: nothing is left.

        The very first is the space's plainest config, so that a search has a baseline to compare with. Then come the
        best of earlier searches, by which these are judged.
        """
        budget, each = self._spec.search.budget, self._spec.resources
        self._rest = Rest.of(self._ledger.history, budget.hours, budget.gpu_hours, each.workers * each.gpus)
        self.late = False
        self._judge_sources(record)
        first = not self._ledger.history.trials and not self._ledger.history.rejected
        if first and (number := self._judge(*self._plain(), record, {"plain": True})) is not None:
            return number
        for source, earlier in repeats(list(self._sources.values()), self._spec.objectives):
            if earlier.identity not in self._seen:
                self._asked = self._replay(earlier.params)
                why = {"earlier": {"source": source.source, "trial": earlier.trial}}
                return self._judge(earlier.params, self._spec.space.replay(earlier.params), record, why)
        while self._rejected < PATIENCE:
            self._asked = self._ask()
            number = self._judge(*suggest(self._spec.space, self._asked), record, self._why())
            if number is not None:
                return number
        for params, tree in self._by_chance():
            self._asked = self._replay(params)
            return self._judge(params, tree, record, {"chance": True})
        return None

    def _ask(self) -> optuna.Trial:
        """Ask the sampler, whose chance is that of the ledger: a resumed search proposes what it would have, whole."""
        # The frontier sampler has its chance by trial, and keeps its pool; it alone learns from trials that run.
        if self._spec.search.sampler.kind == "frontier":
            for number, trial in self._open.items():
                self._curve(trial, number)
        else:
            attempts = len(self._ledger.history.trials) + len(self._ledger.history.rejected)
            self._study.sampler = self._sampler(attempts)
        return self._study.ask()

    def _why(self) -> dict[str, Any]:
        return getattr(self._study.sampler, "why", {})  # of ours alone

    def _judge_sources(self, record: Callable[..., Event]) -> None:
        """Record which earlier searches are believed from now on, and which no more."""
        own = self._ledger.history.in_state("finished")
        if len(own) == self._judged:
            return
        self._judged = len(own)
        for source, guard in self._guards.items():
            trusted = self._ledger.history.guards.get(source, {"trusted": False})["trusted"]
            if verdict := guard.verdict(own, trusted):
                record("guard", **asdict(verdict))

    def _plain(self) -> tuple[dict[str, Any], dict[str, Any]]:
        params, tree = self._spec.space.plain()
        self._asked = self._replay(params)
        return params, tree

    def _judge(self, params: Params, tree: Tree, record: Callable[..., Event], why: dict[str, Any]) -> int | None:
        """Record what was proposed, as a trial with the reason ``why``, or as rejected; return the trial's number."""
        config = self._spec.trial_config(tree)
        identity, cost = trial_id(config), self._spec.cost(config)
        if identity in self._seen:
            twin = self._seen[identity]
            reason = "was over a limit before" if twin is None else f"is trial {twin} again"
            record("rejected", params=params, identity=identity, cost=cost, reason=reason, duplicate_of=twin)
            return None
        if broken := self._spec.broken_limits(cost):
            record("rejected", params=params, identity=identity, cost=cost, reason="; ".join(broken))
            return None
        if late := self._too_late(config, cost):
            record("rejected", params=params, identity=identity, cost=cost, reason=late, late=True)
            return None
        number = self._ledger.history.next_number
        record(
            "proposed", trial=number, params=params, config=config.tree(), identity=identity,
            architecture=architecture_id(config.model), cost=cost, why=why,
        )  # fmt: skip
        return number

    def _by_chance(self) -> Any:
        """Yield new configs within the limits in random order; all of them if the space can be counted."""
        rng = random.Random(f"{self._spec.search.sampler.seed} {len(self._seen)}")
        size = self._spec.space.size()
        if size is not None and size <= 100_000:
            candidates = list(self._spec.space.enumerate())
            rng.shuffle(candidates)
        else:
            candidates = (self._spec.space.sample(rng) for _ in range(DRAWS))
        for params, tree in candidates:
            config = self._spec.trial_config(tree)
            cost = self._spec.cost(config)
            if trial_id(config) in self._seen or self._spec.broken_limits(cost):
                continue
            if not self._too_late(config, cost):
                yield params, tree

    def _too_late(self, config: TrialConfig, cost: dict[str, float]) -> str | None:
        reason = self._rest and self._rest.too_short_for(cost["gflops"], config.train.epochs)
        self.late |= reason is not None
        return reason

    def _replay(self, params: dict[str, Any]) -> optuna.Trial:
        self._study.enqueue_trial(fixed_params(self._spec.space, params))
        trial = self._study.ask()
        if self._spec.search.sampler.kind == "nsga2":
            _ = trial.relative_params  # which are of no use, but to ask for them gives the trial its generation
        suggest(self._spec.space, trial)
        return trial

    def _sampler(self, attempts: int) -> BaseSampler:
        """Return the sampler for the proposal after so many; no two proposals, nor two searches, share their chance."""
        config = self._spec.search.sampler
        seed = random.Random(f"{config.seed} {attempts}").randrange(2**31)
        match config.kind:
            case "random":
                return RandomSampler(seed=seed)
            case "nsga2":
                return NSGAIISampler(seed=seed)
            case "gp":
                return GPSampler(seed=seed)
            case "tpe":
                # Grouped, because a space is conditional; running trials count as bad ones, so that workers spread out.
                return _TPE(seed=seed, multivariate=True, group=True, constant_liar=True)
            case "frontier":
                from search.samplers.shared.frontier_sampler import (
                    FrontierSampler,  # scikit-learn takes a second to import
                )

                spec = self._spec
                return FrontierSampler(
                    spec.space, self._cost_within, spec.objectives, spec.measured[0], config.seed, self.spent
                )

    def spent(self) -> float:
        """Return which share of the search's budget is gone."""
        budget = self._spec.search.budget
        return self._ledger.history.spent(budget.trials, budget.hours, budget.gpu_hours)

    def _cost_within(self, params: Params) -> dict[str, float] | None:
        """Return what a config costs; None if that is over a limit."""
        cost = self._spec.cost(self._spec.trial_config(self._spec.space.replay(params)))
        return None if self._spec.broken_limits(cost) else cost


class _TPE(TPESampler):
    """TPE that takes of a running trial the values that it has.

    Optuna notes beside them what it drew for ranges that the trial's choices then made inactive, for others that ask
    meanwhile. Here no trial is asked while another one is, and a replay does not know those values.
    """

    @override
    def _get_params(self, trial: FrozenTrial, study: optuna.Study) -> dict[str, Any]:
        return trial.params


class _Journal(JournalFileBackend):
    """Optuna's journal without its lock and its waits for the disk: one process writes, and the ledger has it all."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._journal = path

    @override
    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with writing(self._journal, "make room and go on with --resume"), self._journal.open("ab") as file:
            file.writelines(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
