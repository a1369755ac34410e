"""The main job: Ray Tune trains what the study proposes; the ledger hears of everything first."""

import json
import logging
import os
import signal
import traceback
from collections.abc import Iterator
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
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from typing_extensions import override

from cluster.connect import connected
from cluster.train import Resources, release, trainer
from search.ledger import EXHAUSTED, FAILING, Event, Ledger, Trial
from search.scheduler import Halving
from search.spec import Spec
from search.study import Proposer
from vattn.config import TrialConfig

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
        self._undecided = undecided(events)
        self._unfinished = [trial.number for trial in ledger.history.in_state("proposed", "running")]
        scheduler = spec.search.scheduler
        self._halving = (
            Halving(scheduler.min_epochs, scheduler.reduction, spec.objectives) if scheduler.kind == "halving" else None
        )
        self.reason = "budget"
        self._failures, self._succeeded = 0, False  # in this process

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles itself for a resume of its own, which is never used."""
        return {}

    def record(self, event: str, **fields: Any) -> Event:
        """Write an event to the ledger, then tell everyone who follows it."""
        line = self.ledger.append(event, **fields)
        self._tell(line)
        return line

    def _tell(self, event: Event) -> None:
        for projection in self._projections:
            projection.apply(event)

    def next_task(self) -> dict[str, Any] | None:
        """Return what the next trial is to do: what an earlier process left unfinished comes first; None: no more."""
        if self._unfinished:
            return self._task(self._unfinished.pop(0))
        budget = self.spec.search.budget
        if self.ledger.history.spent(budget.trials, budget.hours):
            return None
        if not self._succeeded and self._failures >= HOPELESS:
            self.reason = FAILING
            return None
        number = self._proposer.propose(self.record)
        if number is None:
            self.reason = EXHAUSTED
        return None if number is None else self._task(number)

    def reported(self, number: int, result: dict[str, Any]) -> bool:
        """Take in a result of a trial; return whether it ends here."""
        trial = self.ledger.history.trials[number]
        if trial.end is not None:
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
        if trial.epoch == trial.config["train"]["epochs"]:
            return self._end("finished", trial, seconds=round(trial.seconds, 3))
        judged = not fresh and number not in self._undecided
        if self._halving and not judged and (reason := self._halving.verdict(self.ledger.history, number)):
            return self._end("stopped", trial, reason=reason)
        self._undecided.discard(number)
        return False

    def _end(self, event: str, trial: Trial, **fields: Any) -> bool:
        """Record the end of a trial, which needs its checkpoint no more."""
        self.record(event, trial=trial.number, epoch=trial.epoch, **fields)
        (self.folder(trial.number) / "checkpoint.pt").unlink(missing_ok=True)
        return True

    def folder(self, number: int) -> Path:
        """Where a trial keeps its checkpoint and its trained weights."""
        return self.output / "trials" / f"{number:04d}"

    def _task(self, number: int) -> dict[str, Any]:
        config = json.dumps(self.ledger.history.trials[number].config)  # as text: Tune would flatten a tree
        return {"number": number, "config": config, "cache": str(self.cache), "folder": str(self.folder(number))}


def undecided(events: list[Event]) -> set[int]:
    """Return the trials whose report was the last thing that a process wrote: it died before it judged them."""
    found, last = set[int](), Event()
    for event in [*events, {"event": "resumed"}]:
        if event["event"] == "resumed" and last.get("event") == "report":
            found.add(last["trial"])
        elif event["event"] == "report":
            found.discard(event["trial"])
        last = event
    return found


def tune_search(search: Search, address: str | None) -> None:
    """Run trials until the budget or the space is spent, or until it is interrupted.

    Raises ValueError where not even one trial fits the cluster.
    """
    wanted = search.spec.resources
    resources = Resources(workers=wanted.workers, cpus=wanted.cpus, gpus=wanted.gpus)
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))  # Tune leaves its own behind
        have = stack.enter_context(connected(address))
        concurrent = resources.concurrency(have)
        if wanted.concurrent != "auto":
            concurrent = min(concurrent, wanted.concurrent)
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # it misses the result files that we do not let it write
        tune.Tuner(
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
        ).fit()  # fmt: skip


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
                [TuneReportCallback()],
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

    from vattn.train import fit

    try:
        torch.set_num_threads(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
        config = TrialConfig.parse(json.loads(task["config"]))
        for epoch in fit(config, Path(task["cache"]), Path(task["folder"])):
            yield {"epoch": epoch.number, "metrics": epoch.metrics, "seconds": epoch.seconds}
    except Exception:
        yield {"error": traceback.format_exc()}


class _Proposals(Searcher):
    """Hands Tune the search's tasks."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search

    def suggest(self, trial_id: str) -> Any:
        return self._search.next_task() or Searcher.FINISHED

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
    return {key: flat[key] for key in ("epoch", "seconds", "error") if key in flat} | {"metrics": metrics}


class _Bridge(Callback):
    """Records starts and failures, and gives back what the workers of an ended distributed trial still hold."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number = trial.config["number"]
        self._search.record("started", trial=number, epoch=self._search.ledger.history.trials[number].epoch)

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._release(trial)

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._failed(trial, final=False)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._failed(trial, final=True)

    def _failed(self, trial: TuneTrial, final: bool) -> None:
        self._release(trial)
        if self._search.ledger.history.trials[trial.config["number"]].end is not None:
            return  # what was left of an ended trial died
        error = str(trial.get_error() or "its process died")
        self._search.record("failed", trial=trial.config["number"], error=error, final=final)

    def _release(self, trial: TuneTrial) -> None:
        release(self._search.folder(trial.config["number"]))
