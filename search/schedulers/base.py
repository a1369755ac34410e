"""The base of every scheduler: a config of its ``kind`` that builds a rule for early stopping."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

from search.analysis.pareto import Objectives
from search.ledger.history import History
from vattn.base import Kinded


class Scheduler(Protocol):
    """Decides after each epoch of a trial whether the trial stops.

    A decision is a pure function of the history, so that a replayed ledger gives the same decisions.
    """

    def verdict(self, history: History, number: int) -> str | None:
        """Return the reason why the trial should stop after its last reported epoch, or None."""


class SchedulerConfig(Kinded):
    """Which scheduler stops the trials of a search early.

    A subclass names its ``kind`` and implements `build`. The other methods describe the scheduler to `vattn check` and
    `vattn why`; their defaults are those of a scheduler about which nothing is known in advance.
    """

    kind: str

    forecasts_one_objective: ClassVar[bool] = False
    """Whether it works only with exactly one objective that training measures."""

    @classmethod
    def read(cls, tree: Mapping[str, Any]) -> Self | None:
        """Return the config in the spec of a recorded search; None for a kind that does not exist any more."""
        config = cls.kinds.get(tree["kind"])
        if config is None:
            return None
        assert issubclass(config, cls)
        return config.parse(tree)

    def build(self, objectives: Objectives, measured: str) -> Scheduler | None:
        """Return the scheduler, or None if every trial runs to its last epoch.

        Args:
            objectives: the objectives of the search and their directions.
            measured: the first objective that training measures.
        """
        raise NotImplementedError

    def expected_epochs(self, epochs: int) -> float | None:
        """Return the mean number of epochs of a trial if as many trials stop as can; None if it is not known."""
        return None

    def rungs(self, epochs: int) -> set[int]:
        """Return the epochs before the last of ``epochs`` after which trials are compared with one another."""
        return set()
