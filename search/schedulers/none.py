"""No early stopping."""

from typing import Literal

from typing_extensions import override

from search.analysis.pareto import Objectives
from search.schedulers.base import SchedulerConfig


class NoSchedulerConfig(SchedulerConfig, kind="none"):
    """Train every trial to its last epoch."""

    kind: Literal["none"] = "none"

    @override
    def build(self, objectives: Objectives, measured: str) -> None:
        return None
