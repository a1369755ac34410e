"""The bridge to Ray Tune: it runs the tasks of a search and forwards results, starts and failures."""

import logging
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.devices import smallest_gpu
from cluster.failures import cause_of
from cluster.placement import Resources, node_resources, release
from search.ledger.events import Started
from search.spec.schema import Spec
from search.tuner.patience import Patience
from search.tuner.results import MemoryResult, parse_result
from search.tuner.room import Room
from search.tuner.shares import Shares
from search.tuner.state import Search
from search.tuner.trainable import trainable
from vattn.errors import StorageError, UserError

#: trials that may wait for their process at the same time; no limit
MAX_PENDING = 1_000_000
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
        resources = Resources(
            workers=wanted.fewest,
            most=wanted.most if wanted.most > wanted.fewest else 0,
            cpus=wanted.cpus,
            gpus=search.shares.least,
        )
        room = Room(search, resources)
        stack.callback(room.close)
        watch = _Watch(search, room)
        # Without it Tune starts one process after another. `Search.next_task` limits their number.
        os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(MAX_PENDING))
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # it warns of the result files that are switched off
        # Tune writes its own state, which nothing reads: a resume replays the ledger.
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="vattn-tune-", ignore_cleanup_errors=True))
        tuner = tune.Tuner(
            trainable(resources),
            tune_config=TuneConfig(
                search_alg=_Tasks(search), scheduler=_Decisions(search, watch), num_samples=-1,
                reuse_actors=wanted.most == 1, trial_name_creator=_name, trial_dirname_creator=_name,
            ),
            run_config=RunConfig(
                name="tune", storage_path=scratch, callbacks=[_Recorder(search, watch)], verbose=0,
                failure_config=FailureConfig(max_failures=0),  # the search hands out a training again
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


class _Watch:
    """What both callbacks of Tune know of the processes: silent ones, and those whose end is accounted for.

    Args:
        search: the search.
        room: how many trainings may run.
    """

    def __init__(self, search: Search, room: Room) -> None:
        seconds = search.spec.resources.patience
        self.room, self.patience = room, Patience(None if seconds == "auto" else seconds)
        #: Tune's ids of trials whose process ends with an error that is recorded already
        self.settled: set[str] = set()
        #: Ray's ids of the processes of running trials, by Tune's ids of these; Tune forgets a process that has died
        self.processes: dict[str, str] = {}
        #: seconds of silence, by Tune's ids of the trials that were ended for it
        self.silent: dict[str, float] = {}


class _Decisions(FIFOScheduler):
    """Decides after each result whether a trial continues."""

    def __init__(self, search: Search, watch: _Watch) -> None:
        super().__init__()
        self._search, self._watch = search, watch

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        number, parsed = trial.config["number"], parse_result(result)
        self._watch.patience.heard(number)
        ends = self._search.reported(number, parsed)
        if isinstance(parsed, MemoryResult):
            # The next step raises, so that Tune ends the process, whose memory may be in pieces.
            self._watch.settled.add(trial.trial_id)
            return TrialScheduler.CONTINUE
        if not ends and not self._search.halt and (reason := self._watch.room.must_leave(result.get("node_ip", ""))):
            self._search.suspend(number, reason)
            ends = True
        return TrialScheduler.STOP if ends else TrialScheduler.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> TuneTrial | None:
        """Follow the cluster, and free what this search may no longer use. Tune calls it in each of its steps."""
        room = self._watch.room
        # Tune keeps the process of an ended trial, with what it reserves, for the next one. There is no public way to
        # change that while it runs.
        controller = tune_controller._tune_controller
        room.look(is_starting=bool(controller._pending_trials))
        controller._reuse_actors = self._search.spec.resources.most == 1 and not room.is_exceeded
        if room.is_idle:
            controller._cleanup_cached_actors(force_all=True)
        return super().choose_trial_to_run(tune_controller)


class _Recorder(Callback):
    """Records starts and failures, ends hung trials, and frees the workers of a distributed trial that has ended."""

    def __init__(self, search: Search, watch: _Watch) -> None:
        self._search, self._watch = search, watch

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        hung = self._watch.patience.hung(self._search.ledger.history)
        for trial in trials if hung else ():
            actor = trial.temporary_state.ray_actor
            if actor is not None and (silence := hung.get(trial.config["number"])) is not None:
                self._watch.silent[trial.trial_id] = silence
                ray.kill(actor)

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number = trial.config["number"]
        self._watch.patience.heard(number)
        if actor := trial.temporary_state.ray_actor:
            self._watch.processes[trial.trial_id] = actor._actor_id.hex()
        gpus = self._search.spec.resources.fewest * trial.config["gpus"]
        epoch = self._search.ledger.history.trial(number).epoch
        self._search.record(Started(trial=number, epoch=epoch, gpus=gpus))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._release(trial)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._release(trial)
        number = trial.config["number"]
        if trial.trial_id in self._watch.settled or self._search.ledger.history.trial(number).end is not None:
            return  # it was recorded, or the process died after its training had ended
        actor = self._watch.processes.get(trial.trial_id)
        if (silence := self._watch.silent.get(trial.trial_id)) is None:
            error = _last_error(trial)
            self._search.lost(number, error, cause_of(error, actor))
        elif cause_of("", actor) == "node":  # its network is cut, and Ray waits longer for it than the patience
            self._search.lost(number, f"no sign of life for {silence:.0f} s, and its node does not answer", "node")
        else:
            self._search.lost(number, f"no sign of life for {silence:.0f} s; its process was ended", "hang")

    def _release(self, trial: TuneTrial) -> None:
        release(self._search.folder(trial.config["number"]))
