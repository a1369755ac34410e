"""The bridge to Ray Tune: it runs the tasks of a search and forwards results, starts and failures."""

import logging
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.devices import smallest_gpu
from cluster.placement import Resources, node_resources, release
from search.ledger.events import Started
from search.spec.schema import Spec
from search.tuner.results import MemoryResult, parse_result
from search.tuner.shares import Shares
from search.tuner.state import Search
from search.tuner.trainable import trainable
from vattn.errors import StorageError, UserError

#: restarts of a trial whose process dies or has a GPU error, each from its last checkpoint
RETRIES = 3
#: number of restarts that marks a process which lacked memory
NO_RETRIES = 0
#: beginning of the line that Tune writes above each failure of a trial
FAILURE = "Failure # "


def tune_search(search: Search, joined: Callable[[], dict[str, float]]) -> None:
    """Run trainings until the budget or the space is spent, or until an interruption.

    Args:
        search: the search.
        joined: waits for the cluster, as `cluster.connect.connecting` yields it.

    Raises UserError if not even one trial fits the cluster, StorageError if a file cannot be written.
    """
    wanted = search.spec.resources
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))  # Tune does not restore it
        joined()
        search.shares = _shares(search.spec)
        resources = Resources(workers=wanted.workers, cpus=wanted.cpus, gpus=search.shares.least)
        concurrent = resources.concurrency(node_resources())
        if wanted.concurrent != "auto":
            concurrent = min(concurrent, wanted.concurrent)
        search.slots = concurrent
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # it warns of the result files that are switched off
        # Tune writes its own state, which nothing reads: a resume replays the ledger.
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="vattn-tune-", ignore_cleanup_errors=True))
        tuner = tune.Tuner(
            trainable(resources),
            tune_config=TuneConfig(
                search_alg=_Tasks(search), scheduler=_Decisions(search), num_samples=-1,
                max_concurrent_trials=concurrent, reuse_actors=wanted.workers == 1,
                trial_name_creator=_name, trial_dirname_creator=_name,
            ),
            run_config=RunConfig(
                name="tune", storage_path=scratch, callbacks=[_Recorder(search)], verbose=0,
                failure_config=FailureConfig(max_failures=RETRIES),
                # Training writes its own checkpoints. If Tune asked for one at the end and failed to get it, the
                # process could not be reused.
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            ),
        )  # fmt: skip
        try:
            tuner.fit()
        except Exception:
            # After a halt, the exception is the one that caused it, wrapped by Tune.
            if not search.halt:
                raise
    if search.halt:
        raise StorageError(search.halt)


def _shares(spec: Spec) -> Shares:
    """Return the GPUs of the trainings on the cluster that this process is connected to.

    Raises UserError if a node cannot use its GPUs, or if a budget of GPU-hours would never be spent.
    """
    if not spec.resources.gpus:
        return Shares(spec)
    memory, gpus = smallest_gpu("resources.gpus"), sum(node.get("GPU", 0) for node in node_resources())
    if spec.resources.gpus == "auto" and memory is None:
        if spec.search.budget.gpu_hours is not None:
            raise UserError(
                "is never spent, as no node has a GPU",
                path="search.budget.gpu_hours",
                way_out="give hours or trials too",
                found=f"{spec.search.budget.gpu_hours:g}",
            )
        print("no node has a GPU, so with gpus: auto the trials train on CPUs", file=sys.stderr)
    return Shares(spec, gpus, memory)


def _name(trial: TuneTrial) -> str:
    return f"{trial.config['number']:04d}"


def _last_error(trial: TuneTrial) -> str:
    """Return the text of a trial's last failure.

    Tune appends each failure to a local file. `TuneTrial.get_error` reads the storage, which gets that file later.
    """
    file = Path(trial.error_file or "")
    if not file.is_file():
        return "its process died"
    _, _, failure = file.read_text().rpartition(FAILURE)
    _, _, error = failure.partition("\n")
    return re.sub(r"\x1b\[\d+m", "", error).strip()  # without the colours of a terminal


class _Tasks(Searcher):
    """Hands the tasks of the search to Tune."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search

    def suggest(self, trial_id: str) -> Any:
        # After None, Tune asks again while trials run.
        return self._search.next_task() or (Searcher.FINISHED if self._search.at_end() else None)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the ledger has the result already."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a resume reads the ledger only."""

    restore = save


class _Decisions(FIFOScheduler):
    """Decides after each result whether a trial continues."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        parsed = parse_result(result)
        ends = self._search.reported(trial.config["number"], parsed)
        if isinstance(parsed, MemoryResult):
            # The next step raises, so that Tune ends the process, whose memory may be in pieces. The search hands out
            # the trial again; Tune must not.
            trial.max_failures = NO_RETRIES
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if ends else TrialScheduler.CONTINUE


class _Recorder(Callback):
    """Records starts and failures, and frees the workers of a distributed trial that has ended."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number = trial.config["number"]
        gpus = self._search.spec.resources.workers * trial.config["gpus"]
        epoch = self._search.ledger.history.trial(number).epoch
        self._search.record(Started(trial=number, epoch=epoch, gpus=gpus))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._release(trial)

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._failed(trial, final=False)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._failed(trial, final=True)

    def _failed(self, trial: TuneTrial, final: bool) -> None:
        self._release(trial)
        if trial.max_failures == NO_RETRIES:
            return  # its lack of memory was recorded
        if self._search.ledger.history.trial(trial.config["number"]).end is not None:
            return  # the process died after its trial had ended
        self._search.failed(trial.config["number"], _last_error(trial), final)

    def _release(self, trial: TuneTrial) -> None:
        release(self._search.folder(trial.config["number"]))
