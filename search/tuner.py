"""The main job: Ray Tune trains what the study proposes; the ledger hears of everything first."""

import json
import logging
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

# Ray Tune reads these when it is imported: no result files of its own beside the ledger, no screen of its own.
os.environ.update(
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1", TUNE_PRINT_ALL_TRIAL_ERRORS="0", TUNE_GLOBAL_CHECKPOINT_S="100000000",
    TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0", RAY_AIR_NEW_OUTPUT="0",
)  # fmt: skip

import ray
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from typing_extensions import override

from cluster.train import Resources, epochs, release, trainer
from search.confirm import plan
from search.inherit import base_of, nearest
from search.ledger import EXHAUSTED, FAILING, LATE, Event, History, Ledger, Trial
from search.scheduler import Frontier, Halving, Scheduler
from search.spec import Spec
from search.study import Proposer
from vattn.canonical import architecture_id, trial_id
from vattn.config import TrialConfig

# A process with variables of its own is started when a trial needs it, not with the cluster. Tune sets some for
# Lightning, and has no public way to leave them out.
getattr(class_cache, "DEFAULT_ENV_VARS", {}).clear()

#: what the process of a trial needs; the last is what torch imports with the first optimizer
MODULES = ("search.tuner", "torch._dynamo")
#: how often a trial whose process dies is taken up again, from its last checkpoint
RETRIES = 3
#: a search whose first trials all fail, so many in a row, ends: something is wrong with all of them
HOPELESS = 5
#: memory that the process of a distributed trial asks for: it waits for its workers, and must not hold a CPU meanwhile
DRIVER_MEMORY = 256 * 2**20


class Projection(Protocol):
    """Something that follows the events, replayed ones first: the study, MLflow, the screen."""

    def apply(self, event: Event) -> None:
        """Take in one event."""


class Search:
    """One search as Ray Tune's callbacks drive it. All of its knowledge is the ledger's history."""

    def __init__(self, spec: Spec, output: Path, cache: Path, ledger: Ledger, projections: list[Projection]) -> None:
        self.spec, self.output, self.cache, self.ledger = spec, output.resolve(), cache, ledger
        self._proposer = Proposer(spec, output / "study.log", ledger)
        self._projections = [self._proposer, *projections]
        events = list(ledger.replay())
        for event in events:
            self._tell(event)
        self._waiting = [trial.number for trial in ledger.history.under_way()]
        #: trials that may run at once; no more than that wait for others to end
        self.slots = 1
        self._plain = spec.trial_config(spec.space.plain()[1])
        self._scheduler = _scheduler(spec)
        self.reason = "budget"
        self.halt = ""  # why nothing can be written any more
        self._closed = False  # nothing further is proposed, though the budget may not be spent
        self._failures, self._succeeded = 0, False  # in this process
        self._overdue = _overdue(events, self._scheduler) if self._scheduler else {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles itself for a resume of its own, which is never used."""
        return {}

    def record(self, event: str, **fields: Any) -> Event:
        """Write an event to the ledger, then tell everyone who follows it; where that fails, the search halts."""
        try:
            line = self.ledger.append(event, **fields)
            self._tell(line)
        except OSError as error:
            self.halt = self.halt or str(error)
            raise
        return line

    def _tell(self, event: Event) -> None:
        for projection in self._projections:
            projection.apply(event)

    def next_task(self) -> dict[str, Any] | None:
        """Return what the next trial is to do, of those left unfinished first; None: none can start now."""
        while not self.halt:
            for number in self._waiting:  # to which a base may be added meanwhile
                if self._prepare(number):
                    self._waiting.remove(number)
                    return self._task(number)
            if len(self._waiting) >= self.slots or not self._propose():
                return None
        return None

    def at_end(self) -> bool:
        """Whether nothing further can start, even when those that run have ended."""
        confirms = self.spec.search.confirm != "none"
        more = self._waiting or (confirms and self.ledger.history.in_state("proposed", "running"))
        return bool(self.halt) or not more

    def _propose(self) -> bool:
        """Propose a trial while there is budget, and behind the end of the last one what confirms the front."""
        if not self._closed and self._proposer.spent() < 1:
            if not self._succeeded and self._failures >= HOPELESS:
                self._closed, self.reason = True, FAILING
            elif (number := self._proposer.propose(self.record)) is not None:
                if not self._adopt(number):
                    self._waiting.append(number)
                return True
            else:
                self._closed, self.reason = True, LATE if self._proposer.late else EXHAUSTED
        return self._confirm()

    def _adopt(self, number: int) -> bool:
        """Give a new trial what a base came to that is the very same training; return whether there is one."""
        trial = self.ledger.history.trial(number)
        bases = [other for other in self.ledger.history.extras.values() if other.base and other.state == "finished"]
        twin = next((other for other in bases if other.identity == trial.identity), None)
        if twin is None:
            return False
        self.folder(number).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.folder(twin.number) / "model.pt", self.folder(number) / "model.pt")
        self.record("started", trial=number, epoch=0, gpus=0)
        for report in twin.reports:
            self.record("report", trial=number, **{key: report[key] for key in ("epoch", "metrics", "seconds")})
        self.record("finished", trial=number, epoch=twin.epoch, seconds=round(twin.seconds, 3))
        return True

    def _confirm(self) -> bool:
        confirm = self.spec.search.confirm
        if confirm == "none":
            return False
        planned = plan(self.ledger.history, self.spec.objectives, confirm.top, confirm.seeds)
        for trial, seed in planned:
            config = trial.config | {"train": trial.config["train"] | {"seed": seed}}
            number = self._record_extra(TrialConfig.parse(config), trial.cost, trial.params, confirms=trial.number)
            if trial.inherits:
                self.record("inherits", trial=number, **{key: trial.inherits[key] for key in ("source", "reason")})
        return bool(planned)

    def _record_extra(self, config: TrialConfig, cost: dict[str, float], params: dict[str, Any], **why: Any) -> int:
        """Propose a training that is no trial of the search, and return its number."""
        number = self.ledger.history.next_number
        self.record(
            "proposed", trial=number, params=params, config=config.tree(), identity=trial_id(config),
            architecture=architecture_id(config.model), cost=cost, **why,
        )  # fmt: skip
        self._waiting.append(number)
        return number

    def _prepare(self, number: int) -> bool:
        """Choose with whose weights a trial starts; return whether they are there."""
        trial, inherit = self.ledger.history.trial(number), self.spec.search.inherit
        if inherit == "none" or trial.inherits or number in self.ledger.history.extras:
            return True
        return self._choose_parent(trial) if inherit == "parent" else self._choose_base(trial)

    def _choose_parent(self, trial: Trial) -> bool:
        found = nearest(self.ledger.history, trial)
        if found is None:
            self.record("inherits", trial=trial.number, source=None, reason="no finished trial has this backbone")
        else:
            reason = f"the nearest finished trial; choices that differ: {found[1]}"
            self.record("inherits", trial=trial.number, source=found[0].number, reason=reason)
        return True

    def _choose_base(self, trial: Trial) -> bool:
        """Where nothing trains the base of a trial yet, that is proposed."""
        if not trial.config["model"]["attention"]:
            return True
        base = base_of(TrialConfig.parse(trial.config), self._plain)
        identity = trial_id(base)
        known = [other for other in self._trainings() if other.identity == identity and other.state != "stopped"]
        if not known:
            self._record_extra(base, self.spec.cost(base), {}, base=True)
        elif source := next((other for other in known if other.state == "finished"), None):
            reason = "the same model without mechanisms"
            self.record("inherits", trial=trial.number, source=source.number, reason=reason)
        elif all(other.state == "failed" for other in known):
            self.record("inherits", trial=trial.number, source=None, reason="the training without mechanisms failed")
        return trial.inherits is not None

    def _trainings(self) -> list[Trial]:
        """All trainings but those of a fresh seed."""
        everyone = [*self.ledger.history.trials.values(), *self.ledger.history.extras.values()]
        return [trial for trial in everyone if trial.confirms is None]

    def reported(self, number: int, result: dict[str, Any]) -> bool:
        """Take in a result of a trial; return whether it ends here."""
        trial = self.ledger.history.trial(number)
        if trial.end is not None:
            return True
        if "halt" in result:
            self.halt = result["halt"]  # the trial has not ended: a resume takes it up
            return True
        if "error" in result:
            self._failures += 1
            self.record("failed", trial=number, error=result["error"], final=True)
            return True
        self._succeeded = True
        fresh = result["epoch"] == trial.epoch + 1
        if fresh:
            self.record("report", trial=number, **{key: result[key] for key in ("epoch", "metrics", "seconds")})
        elif result["epoch"] < trial.epoch:
            return False  # a trial that was taken up again tells its earlier epochs first
        if trial.epoch == trial.epochs:
            return self._end("finished", trial, seconds=round(trial.seconds, 3))
        # A base and a retraining run to their end; what was judged before a resume is not judged again.
        reason = self._overdue.pop(number, None)
        if fresh and self._scheduler and number in self.ledger.history.trials:
            reason = self._scheduler.verdict(self.ledger.history, number)
        return self._end("stopped", trial, reason=reason) if reason else False

    def _end(self, event: str, trial: Trial, **fields: Any) -> bool:
        """Record the end of a trial, which needs its checkpoint no more."""
        self.record(event, trial=trial.number, epoch=trial.epoch, **fields)
        (self.folder(trial.number) / "checkpoint.pt").unlink(missing_ok=True)
        return True

    def folder(self, number: int) -> Path:
        """Where a trial keeps its checkpoint and its trained weights."""
        return self.output / "trials" / f"{number:04d}"

    def _task(self, number: int) -> dict[str, Any]:
        trial = self.ledger.history.trial(number)
        config = trial.config
        if trial.source is not None:
            weights = self.folder(trial.source) / "model.pt"
            config = config | {"train": config["train"] | {"init": str(weights)}}
        text = json.dumps(config)  # Tune would flatten a tree
        return {
            "number": number, "config": text, "cache": str(self.cache), "folder": str(self.folder(number)),
            "tested": trial.confirms is not None,
        }  # fmt: skip


def _scheduler(spec: Spec) -> Scheduler | None:
    config = spec.search.scheduler
    match config.kind:
        case "none":
            return None
        case "halving":
            return Halving(config.min_epochs, config.reduction, spec.objectives)
        case "frontier":
            return Frontier(config.min_epochs, config.probability, spec.objectives, spec.measured[0])


def undecided(events: list[Event]) -> dict[int, int]:
    """Return the trials whose report was the last thing that a process wrote: it died before it judged them.

    And the number of events until then. Whether the next process came to judge one is not written where it went on.
    """
    found, last, resumed = dict[int, int](), Event(), Event(event="resumed")
    for count, event in enumerate([*events, resumed]):
        if event["event"] == "resumed" and last.get("event") == "report":
            found[last["trial"]] = count
        elif event["event"] == "report":
            found.pop(event["trial"], None)
        last = event
    return found


def _overdue(events: list[Event], scheduler: Scheduler) -> dict[int, str]:
    """Return the reason for each trial that should have stopped when it was left undecided, by what was known then."""
    found: dict[int, str] = {}
    for number, count in undecided(events).items():
        then = History()
        for event in events[:count]:
            then.apply(event)
        if number in then.trials and (reason := scheduler.verdict(then, number)):
            found[number] = reason
    return found


def tune_search(search: Search, joined: Callable[[], dict[str, float]]) -> None:
    """Run trials until the budget or the space is spent, or until it is interrupted.

    ``joined`` waits for the cluster, as `connecting` yields it. Raises ValueError where not even one trial fits that,
    OSError where a trial cannot write its checkpoint.
    """
    wanted = search.spec.resources
    resources = Resources(workers=wanted.workers, cpus=wanted.cpus, gpus=wanted.gpus)
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))  # Tune leaves its own behind
        concurrent = resources.concurrency(joined())
        if wanted.concurrent != "auto":
            concurrent = min(concurrent, wanted.concurrent)
        search.slots = concurrent
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # it misses the result files that we do not let it write
        tuner = tune.Tuner(
            _trainable(resources),
            tune_config=TuneConfig(
                search_alg=_Proposals(search), scheduler=_Verdicts(search), num_samples=-1,
                max_concurrent_trials=concurrent, reuse_actors=wanted.workers == 1,
                trial_name_creator=_name, trial_dirname_creator=_name,
            ),
            run_config=RunConfig(
                name="tune", storage_path=str(search.output), callbacks=[_Bridge(search)], verbose=0,
                failure_config=FailureConfig(max_failures=RETRIES),
                # Our checkpoints are our own; a trial that fails to give Tune one could not hand its process on.
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            ),
        )  # fmt: skip
        try:
            tuner.fit()
        except Exception:
            if not search.halt:  # else it is what became of that on its way through Tune
                raise
    if search.halt:
        raise OSError(search.halt)


def _name(trial: TuneTrial) -> str:
    return f"{trial.config['number']:04d}"


def _trainable(resources: Resources) -> Any:
    if resources.workers == 1:
        bundle: dict[str, float] = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
        return tune.with_resources(InlineTrial, PlacementGroupFactory([bundle]))

    def distributed_trial(task: dict[str, Any]) -> None:
        from ray.train import TrainingFailedError
        from ray.tune.integration.ray_train import TuneReportCallback

        try:
            trainer(
                TrialConfig.parse(json.loads(task["config"])), Path(task["cache"]), Path(task["folder"]), resources,
                [TuneReportCallback()], task["tested"],
            ).fit()  # fmt: skip
        except TrainingFailedError:
            tune.report({"error": traceback.format_exc()})

    return tune.with_resources(distributed_trial, PlacementGroupFactory([{"memory": DRIVER_MEMORY}]))


class InlineTrial(tune.Trainable):
    """A trial on one worker: one step is one epoch, in a process that is used for one trial after another."""

    @override
    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    @override
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._results = _train(new_config)
        return True

    @override
    def step(self) -> dict[str, Any]:
        return next(self._results)


def _train(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a result an epoch. What training raises is a result too: it would raise again in a new process."""
    import torch

    try:
        torch.set_num_threads(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
        config = TrialConfig.parse(json.loads(task["config"]))
        yield from epochs(config, Path(task["cache"]), Path(task["folder"]), task["tested"])
    except OSError as error:
        yield {"halt": str(error)}
    except Exception:
        yield {"error": traceback.format_exc()}


class _Proposals(Searcher):
    """Hands Tune the search's tasks."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search

    def suggest(self, trial_id: str) -> Any:
        # None: Tune asks again while trials run.
        return self._search.next_task() or (Searcher.FINISHED if self._search.at_end() else None)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to do: the ledger knows already."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: the ledger alone decides a resume."""

    restore = save


class _Verdicts(FIFOScheduler):
    """Tells Tune whether a trial goes on."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        tree = trial_result(result)
        return TrialScheduler.STOP if self._search.reported(trial.config["number"], tree) else TrialScheduler.CONTINUE


def trial_result(flat: dict[str, Any]) -> dict[str, Any]:
    """Undo Tune's flattening ("metrics/top1") of a result."""
    metrics = {key.removeprefix("metrics/"): value for key, value in flat.items() if key.startswith("metrics/")}
    return {key: flat[key] for key in ("epoch", "seconds", "error", "halt") if key in flat} | {"metrics": metrics}


class _Bridge(Callback):
    """Records starts and failures, and gives back what the workers of an ended distributed trial still hold."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number = trial.config["number"]
        resources = self._search.spec.resources
        self._search.record(
            "started", trial=number, epoch=self._search.ledger.history.trial(number).epoch,
            gpus=resources.workers * resources.gpus,
        )  # fmt: skip

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._release(trial)

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._failed(trial, final=False)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._failed(trial, final=True)

    def _failed(self, trial: TuneTrial, final: bool) -> None:
        self._release(trial)
        if self._search.ledger.history.trial(trial.config["number"]).end is not None:
            return  # what was left of an ended trial died
        error = str(trial.get_error() or "its process died")
        self._search.record("failed", trial=trial.config["number"], error=error, final=final)

    def _release(self, trial: TuneTrial) -> None:
        release(self._search.folder(trial.config["number"]))
