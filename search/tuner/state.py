"""The state of a running search: which training starts next, and when one ends."""

import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

from search.ledger.events import Cause, Event, Failed, Finished, Proposed, Reported, Started, Stopped, Suspended
from search.ledger.file import Ledger
from search.ledger.history import EXHAUSTED, FAILING, LATE, Trial
from search.proposals.confirmation import retrainings
from search.proposals.inheritance import Inheritance, finished_base, result_of
from search.proposals.latency import Measure
from search.proposals.proposer import Proposer
from search.spec.schema import Spec
from search.tuner.byte_budget import ByteBudget
from search.tuner.ladder import next_measure
from search.tuner.late_decisions import overdue
from search.tuner.mirror import Mirror
from search.tuner.results import EpochResult, FailedResult, HaltResult, MemoryResult, Result, StorageResult
from search.tuner.shares import Shares
from search.tuner.storage import Storage, without_resume
from search.tuner.task import Task, task_of, trial_folder
from vattn.files import replacing
from vattn.training.checkpoint import remove

#: failed trials, with none that succeeded, after which a search ends: the mistake is probably in all of its configs
MAX_FAILURES = 5
#: how often a training starts again in one run of a search after the end of its process, by the cause; each time it
#: continues from its last checkpoint. The loss of a node is no fault of a training, and always allowed.
RESTARTS: dict[Cause, float] = {"": 3, "memory": 3, "hang": 1, "node": math.inf, "files": math.inf}


class Projection(Protocol):
    """Something that is derived from the events of a ledger, such as MLflow's runs and the display."""

    def apply(self, event: Event) -> None:
        """Update it by one event."""


class Search:
    """A search, driven by the callbacks of Ray Tune.

    Its knowledge is the ledger's history: every decision is recorded as an event before it takes effect, so that a new
    process can continue from the ledger at any point.

    Args:
        spec: the search.
        output: the folder of everything that the search writes.
        cache: the clip cache.
        ledger: the ledger, whose events are replayed to the projections.
        projections: they follow the events, replayed ones first.
        mirror: copies the files to a store, if the output is one.
        measure: measures the latency of a network, if the spec has a section latency.
    """

    def __init__(
        self, spec: Spec, output: Path, cache: Path, ledger: Ledger, projections: list[Projection],
        mirror: Mirror | None = None, measure: Measure | None = None,
    ) -> None:  # fmt: skip
        self.spec, self.output, self.cache, self.ledger = spec, output.resolve(), cache, ledger
        #: the files of the search
        self.storage = Storage(ledger, cache)
        self._mirror = mirror
        if mirror:
            mirror.patiently = self.storage.patiently
        self._budget = ByteBudget(spec, ledger.history, self.output, mirror)
        self.storage.make_room = self._budget.make_room
        self._proposer = Proposer(spec, output / "study.log", ledger.history, measure)
        self._projections = [self._proposer, *projections]
        events = list(ledger.replay())
        for event in events:
            self._project(event)
        self._inheritance = Inheritance(spec, ledger.history)
        self._scheduler = spec.search.scheduler.build(spec.objectives, spec.measured[0])
        self._overdue = overdue(events, self._scheduler) if self._scheduler else {}
        #: trainings that have not started in this process, in order
        self._waiting = [trial.number for trial in ledger.history.unfinished()]
        #: trainings that may run at once, which changes with the cluster; at most as many wait for their base
        self.slots = 1
        #: workers with which a training begins, if there is room for them
        self.workers = spec.resources.fewest
        #: the GPUs of each training
        self.shares = Shares(spec)
        self._is_measured = spec.latency != "none"
        #: why the search ends
        self.reason = "budget"
        #: why the search has to end at once, with trainings that a resume continues; empty if it does not
        self.halt = ""
        self._closed = False  # no further trial is proposed, although the budget may not be spent
        self._failures = 0  # in this process
        self._losses: Counter[tuple[int, str]] = Counter()  # in this process, by training and cause
        self._succeeded = False  # whether an epoch has ended in this process

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Ray Tune pickles the search for its own resume, which is not used."""
        return {}

    def record(self, event: Event) -> Event:
        """Append an event to the ledger, update all projections, and return the event with its time.

        It waits where the ledger cannot be written. Raises OSError, and halts the search, where to wait does not help.
        """
        try:
            recorded = self.storage.append(event)
            for each in recorded:
                self._project(each)
                if self._mirror:
                    self._mirror.apply(each)
        except OSError as error:
            self.halt = self.halt or str(error)
            raise
        return recorded[0]

    def _project(self, event: Event) -> None:
        for projection in self._projections:
            projection.apply(event)

    def next_task(self) -> Task | None:
        """Return the task of the next training, unfinished ones first; None if none can start now."""
        if not self.halt and not self.storage.is_ready(wait=not self.ledger.history.running()):
            return None
        if self._is_measured and not self.shares.count:
            # The trials of a round start together, as none of them may run while the next one is measured.
            while not self.halt and len(self._waiting) < self.slots and self._propose():
                pass
        while not self.halt and self.shares.count < self.slots:
            for number in self._waiting:  # `_prepare` may append a base
                if self._prepare(number):
                    return self._hand_out(number)
            if len(self._waiting) >= self.slots or not self._propose():
                return None
        return None

    def _hand_out(self, number: int) -> Task | None:
        """Return the task of a training that is ready; None if it has to wait for a GPU, and the others behind it."""
        if self._waits_for_a_whole_gpu():
            return None
        task = task_of(
            self.ledger.history.trial(number), self.spec.data, self.output, self.cache, self.shares,
            self._mirror.remote.url if self._mirror else "", self.workers,
        )  # fmt: skip
        if not self.shares.fits(task["gpus"]):
            return None
        self._waiting.remove(number)
        self.shares.reserve(number, task["gpus"])
        return task

    def _waits_for_a_whole_gpu(self) -> bool:
        """Return whether a training that was handed out waits until a GPU is free of others, which may take long."""
        unfinished = (trial for trial in self.ledger.history.unfinished() if trial.number not in self._waiting)
        return any(trial.memory and trial.memory.alone and trial.state != "running" for trial in unfinished)

    def at_end(self) -> bool:
        """Return whether no training can start any more. A running one may be tried again, or be confirmed."""
        return bool(self.halt) or not self.ledger.history.unfinished()

    def _prepare(self, number: int) -> bool:
        """Choose the initial weights of a training, or propose its base; return whether it can start."""
        decision = self._inheritance.decide(number)
        if decision.event is not None:
            self.record(decision.event)
        if isinstance(decision.event, Proposed):
            self._waiting.append(decision.event.trial)
        return decision.ready

    def _propose(self) -> bool:
        """Propose a trial while budget is left, and the retrainings of the front after the last trial has ended.

        Return whether something was proposed. Nothing is proposed while a training runs that would disturb the
        measurement of a latency.
        """
        if not self._closed and self._proposer.spent() < 1:
            if self._is_measured and self.shares.count:
                return False
            if not self._succeeded and self._failures >= MAX_FAILURES:
                self._closed, self.reason = True, FAILING
            elif (number := self._proposer.propose(self.record)) is not None:
                if not self._copy_base(number):
                    self._waiting.append(number)
                return True
            else:
                self._closed, self.reason = True, LATE if self._proposer.late else EXHAUSTED
        return self._confirm()

    def _copy_base(self, number: int) -> bool:
        """Give a new trial the result of a base with the same identity; return whether there is one."""
        base = finished_base(self.ledger.history, number)
        if base is None:
            return False
        self.storage.patiently(lambda: self._copy_weights(base.number, number))
        for event in result_of(base, number):
            self.record(event)
        return True

    def _copy_weights(self, source: int, number: int) -> None:
        if self._mirror:
            self._mirror.fetch_weights(source)
        self.folder(number).mkdir(parents=True, exist_ok=True)
        with replacing(self.folder(number) / "model.pt") as part:
            shutil.copyfile(self.folder(source) / "model.pt", part)
        if self._mirror:
            self._mirror.upload_weights(number)

    def _confirm(self) -> bool:
        """Propose the retrainings that are left; return whether there are any."""
        events = retrainings(self.spec, self.ledger.history)
        for event in events:
            self.record(event)
            if isinstance(event, Proposed):
                self._waiting.append(event.trial)
        return bool(events)

    def reported(self, number: int, result: Result) -> bool:
        """Record a result of a training; return whether the training ends now."""
        trial = self.ledger.history.trial(number)
        if trial.end is not None:
            return True
        match result:
            case HaltResult(message):
                self.halt = message  # the trial has not ended: a resume continues it
                return True
            case StorageResult(message):
                self._start_later(number, message)
                return True
            case FailedResult(error):
                self.failed(number, error, final=True)
                return True
            case MemoryResult(error):
                self._save_memory(trial, error)
                return True
            case EpochResult():
                self._succeeded = True
                return self._after_epoch(trial, result)

    def failed(self, number: int, error: str, final: bool, cause: Cause = "") -> None:
        """Record that a training failed; if it is not ``final``, it is tried again."""
        self._failures += final
        self.shares.release(number)
        given: dict[str, Any] = {"cause": cause} if cause else {}
        self.record(Failed(trial=number, error=error, final=final, **given))
        if final:
            self.storage.patiently(self._budget.keep)

    def lost(self, number: int, error: str, cause: Cause) -> None:
        """Record that the process of a training ended; start it again unless that happened too often.

        Args:
            number: the training.
            error: what is known of the end.
            cause: as in `search.ledger.events.Failed`.
        """
        self._losses[number, cause] += 1
        final = self._losses[number, cause] > RESTARTS[cause]
        self.failed(number, error, final, cause)
        if not final:
            self._waiting.insert(0, number)

    def _start_later(self, number: int, message: str) -> None:
        """Let a training start again once its files, which could not be read or written, can be."""
        message = without_resume(message)
        self.failed(number, message, final=False, cause="files")
        self.storage.postpone(message)
        self._waiting.insert(0, number)

    def suspend(self, number: int, reason: str) -> None:
        """Let a training give its resources back; it continues when there is room."""
        self.shares.release(number)
        self.record(Suspended(trial=number, epoch=self.ledger.history.trial(number).epoch, reason=reason))
        self._waiting.insert(0, number)

    def wanted(self, most: int) -> int:
        """Return how many trainings this search could run now, if ``most`` were possible."""
        if not self._closed and self._proposer.spent() < 1:
            return most
        return min(most, len(self.ledger.history.unfinished()))

    def _save_memory(self, trial: Trial, error: str) -> None:
        """Let a training that lacked memory start again in a way that needs less; where none is left, it failed."""
        number, workers = trial.number, self.spec.resources.fewest
        measure = next_measure(trial, trial.starts[-1].gpus / workers, workers, self.spec.classes)
        if measure is None:
            self.failed(number, error, final=True)
            return
        self.failed(number, error, final=False)
        self.record(measure)
        if measure.accumulate > 1:
            self.storage.patiently(lambda: remove(self.folder(number)))  # of another training
        self._waiting.insert(0, number)

    def _after_epoch(self, trial: Trial, result: EpochResult) -> bool:
        number, is_new = trial.number, result.epoch == trial.epoch + 1
        self._count_workers(trial, result.workers)
        if is_new:
            epoch, metrics, seconds = result.epoch, result.metrics, result.seconds
            self.record(Reported(trial=number, epoch=epoch, metrics=metrics, seconds=seconds))
        elif result.epoch < trial.epoch:
            return False  # a resumed training reports its earlier epochs again
        if trial.epoch == trial.epochs:
            self.storage.works()
            self.record(Finished(trial=number, epoch=trial.epoch, seconds=round(trial.seconds, 3)))
            return self._remove_checkpoint(number)
        # Bases and retrainings are never stopped early. An epoch that was judged before a resume is not judged again.
        reason = self._overdue.pop(number, None)
        if is_new and self._scheduler and number in self.ledger.history.trials:
            reason = self._scheduler.verdict(self.ledger.history, number)
        if not reason:
            return False
        self.record(Stopped(trial=number, epoch=trial.epoch, reason=reason))
        return self._remove_checkpoint(number)

    def _count_workers(self, trial: Trial, workers: int) -> None:
        """Record that a training goes on with another number of workers, where that follows the cluster."""
        resources, last = self.spec.resources, trial.starts[-1]
        before = last.workers or resources.fewest
        if resources.fewest < resources.most and workers != before:
            gpus = last.gpus * workers / before
            self.record(Started(trial=trial.number, epoch=trial.epoch, gpus=gpus, workers=workers))

    def _remove_checkpoint(self, number: int) -> bool:
        self.shares.release(number)
        self.storage.patiently(lambda: remove(self.folder(number)))
        self.storage.patiently(self._budget.keep)
        return True

    def folder(self, number: int) -> Path:
        """Return the folder of a training's checkpoint and trained weights."""
        return trial_folder(self.output, number)
