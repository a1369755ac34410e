"""Which weights and checkpoints a search keeps where its disk, or its budget of bytes, has no room for all."""

import logging
import os
import shutil
from pathlib import Path

from search.analysis.confirmation import to_confirm
from search.analysis.front import front_of
from search.ledger.history import History, Trial
from search.spec.schema import Spec
from search.tuner.mirror import Mirror
from search.tuner.task import trial_folder

_logger = logging.getLogger(__name__)


def needed(spec: Spec, history: History) -> set[int]:
    """Return the trainings whose files may still be needed.

    These are the unfinished ones, which a resume continues; the front, and the trials that confirmation would retrain
    as things are, which are exported; with ``search.inherit``, those that other trials may start with; and all that the
    others here have started with, as without its initial weights a trial cannot be trained again.
    """
    confirm, inherit = spec.search.confirm, spec.search.inherit
    finished, trainings = history.in_state("finished"), [*history.trials.values(), *history.extras.values()]
    keep = {trial.number for trial in [*history.unfinished(), *front_of(history, spec.objectives)]}
    keep |= {t.number for t in to_confirm(finished, spec.objectives, 0 if confirm == "none" else confirm.top)}
    if inherit == "parent":
        keep |= {trial.number for trial in finished}
    if inherit == "base":
        keep |= {
            t.number for t in trainings if t.state == "finished" and (t.base or not t.config["model"]["attention"])
        }
    return keep | {source for n in keep if (source := history.trial(n).source) is not None}


class ByteBudget:
    """The bytes of the trainings of a search.

    Args:
        spec: the search; ``resources.storage_gb`` is the budget.
        history: its history.
        output: its folder.
        mirror: its store, whose bytes count then.
    """

    def __init__(self, spec: Spec, history: History, output: Path, mirror: Mirror | None = None) -> None:
        self._spec, self._history, self._output, self._mirror = spec, history, output, mirror
        #: bytes of the files of trainings that have ended; 0 once they are removed
        self._ended: dict[int, int] = {}
        self._has_warned = False

    def keep(self) -> None:
        """Remove what is not needed, until the rest is within the budget; do nothing without one."""
        budget = self._spec.resources.storage_gb
        if budget == "auto":
            return
        left = self._collect(self._taken() - round(1e9 * budget))
        if left > 0 and not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "resources.storage_gb: weights and checkpoints that are still needed take %.3g GB more than %g; they "
                "are kept", left / 1e9, budget,
            )  # fmt: skip

    def make_room(self) -> None:
        """Remove what is not needed, until a full disk has room for the files of two trainings for each that runs.

        With a store, the copies on this machine are removed: the store has them.
        """
        if self._mirror:
            for trial in self._trainings():
                if trial.end is not None:
                    shutil.rmtree(trial_folder(self._output, trial.number), ignore_errors=True)
            return
        largest = max((self._bytes(trial) for trial in self._trainings()), default=0)
        self._collect(2 * largest * max(1, len(self._history.running())))

    def _trainings(self) -> list[Trial]:
        return [*self._history.trials.values(), *self._history.extras.values()]

    def _taken(self) -> int:
        return sum(map(self._bytes, self._trainings()))

    def _bytes(self, trial: Trial) -> int:
        if trial.end is None:
            return self._size(trial.number) if trial.starts else 0
        if trial.number not in self._ended:
            self._ended[trial.number] = self._size(trial.number)
        return self._ended[trial.number]

    def _size(self, number: int) -> int:
        return self._mirror.size(number) if self._mirror else _size(trial_folder(self._output, number))

    def _collect(self, excess: int) -> int:
        """Remove what is not needed: of failed trainings, of retrainings, then the oldest; return what is left over."""
        if excess <= 0:
            return 0
        keep = needed(self._spec, self._history)
        removable = [trial for trial in self._trainings() if trial.number not in keep and self._bytes(trial)]
        removable.sort(key=lambda trial: (trial.state == "finished", trial.confirms is None, trial.number))
        for trial in removable:
            if excess <= 0:
                break
            if self._mirror:
                self._mirror.remove(trial.number)
            shutil.rmtree(trial_folder(self._output, trial.number), ignore_errors=True)
            excess -= self._ended[trial.number]
            self._ended[trial.number] = 0
        return excess


def _size(folder: Path) -> int:
    """Return the bytes of all files in a folder; those that another process removes meanwhile do not count."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).lstat().st_size
            except OSError:
                continue
    return total
