"""Finds trainings that give no sign of life."""

import time
from collections import defaultdict

from search.ledger.history import History, Trial
from search.proposals.time_budget import EpochTime

#: with ``patience: auto``: how many times the longest epoch of a training it may be silent
EPOCHS = 5
#: seconds that it may be silent in any case; an evaluation or a slow disk can delay an epoch
LEAST = 600.0
#: seconds for the first epoch of a search, of which nothing is known
FIRST = 3600.0
#: the longest time between two looks that counts, seconds: this process, or its machine, may have been asleep
LONGEST_STEP = 5.0


class Patience:
    """Counts the seconds for which each running training has been silent.

    Time during which this process did not run, such as while its machine slept, does not count.

    Args:
        seconds: how long a training may be silent; None: several times its epoch.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._silence: defaultdict[int, float] = defaultdict(float)
        self._looked = time.monotonic()

    def heard(self, number: int) -> None:
        """Note a sign of life of a training."""
        self._silence[number] = 0.0

    def hung(self, history: History) -> dict[int, float]:
        """Return the running trainings that have been silent for too long, with their seconds of silence."""
        now = time.monotonic()
        step, self._looked = min(now - self._looked, LONGEST_STEP), now
        found = {}
        for trial in history.running():
            self._silence[trial.number] += step
            silence = self._silence[trial.number]
            # The prediction is made only when it can matter: it looks at all trials.
            if silence > (self._seconds or LEAST) and silence > self._limit(trial, history):
                found[trial.number] = silence
                self._silence[trial.number] = 0.0
        return found

    def _limit(self, trial: Trial, history: History) -> float:
        if self._seconds is not None:
            return self._seconds
        epoch_time = EpochTime.of([*history.trials.values(), *history.extras.values()])
        known = [report.seconds for report in trial.reports]
        known += [epoch_time.seconds(trial.cost["gflops"])] if epoch_time else []
        return max(LEAST, EPOCHS * max(known)) if known else FIRST
