"""Screening: which proposed configs become trials, and why the others do not."""

from typing import Any

from search.ledger.events import Event, Proposed, Rejected
from search.ledger.history import History
from search.proposals.time_budget import RemainingTime
from search.spec.schema import Spec
from search.spec.sections import LATENCY
from vattn.canonical import trial_id
from vattn.config import TrialConfig


class Screening:
    """Rejects duplicates, configs over a limit, and trials that cannot end within the budget of time.

    The known configs are a projection of the ledger: `apply` builds them from its events.
    """

    def __init__(self, spec: Spec, history: History) -> None:
        self._spec, self._history = spec, history
        #: by identity: the trial with this config, or None if it was over a limit
        self.seen: dict[str, int | None] = {}
        self._time: RemainingTime | None = None
        #: whether a config was passed over since `begin` because it cannot end within the budget
        self.late = False

    def apply(self, event: Event) -> None:
        """Update the known configs by an event of the ledger."""
        match event:
            case Proposed():
                self.seen[event.identity] = event.trial
            case Rejected(late=False):  # a late config may be proposed again: the budget can be raised
                self.seen.setdefault(event.identity, None)
            case _:
                pass

    def begin(self) -> None:
        """Start the search for the next trial: read how much of the budget is left."""
        budget, resources = self._spec.search.budget, self._spec.resources
        gpus = resources.fewest * (self._mean_share() if resources.gpus == "auto" else resources.gpus)
        self._time = RemainingTime.of(self._history, budget.hours, budget.gpu_hours, gpus)
        self.late = False

    def _mean_share(self) -> float:
        """Return the mean share of a GPU of a worker of the trials so far; 1 before the first one."""
        starts = [trial.starts[-1].gpus for trial in self._history.trials.values() if trial.starts]
        return sum(starts) / len(starts) / self._spec.resources.fewest if starts else 1.0

    def rejection(
        self, params: dict[str, Any], config: TrialConfig, cost: dict[str, float], unmeasured: str = ""
    ) -> Rejected | None:
        """Return the event that rejects a config, or None if it may become a trial.

        ``unmeasured`` is the reason why its latency could not be measured.
        """
        identity = trial_id(config)
        common: dict[str, Any] = {"params": params, "identity": identity, "cost": cost}
        if identity in self.seen:
            duplicate_of = self.seen[identity]
            reason = "was over a limit before" if duplicate_of is None else f"is trial {duplicate_of} again"
            return Rejected(**common, reason=reason, duplicate_of=duplicate_of)
        if broken := self._spec.broken_limits(cost):
            return Rejected(**common, reason="; ".join(broken))
        if unmeasured:
            return Rejected(**common, reason=f"its {LATENCY} could not be measured: {unmeasured}")
        if late := self._too_late(config, cost):
            return Rejected(**common, reason=late, late=True)
        return None

    def admits(self, config: TrialConfig, cost: dict[str, float]) -> bool:
        """Return whether a config may become a trial."""
        if trial_id(config) in self.seen or self._spec.broken_limits(cost):
            return False
        return not self._too_late(config, cost)

    def _too_late(self, config: TrialConfig, cost: dict[str, float]) -> str | None:
        reason = self._time and self._time.too_short_for(cost["gflops"], config.train.epochs)
        self.late |= reason is not None
        return reason
