"""The results that a training process sends to the search."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EpochResult:
    """An epoch has ended: its number, counted from 1, its metrics, its duration in seconds, and its workers."""

    epoch: int
    metrics: dict[str, float]
    seconds: float
    workers: int = 1


@dataclass(frozen=True)
class FailedResult:
    """Training raised an exception, of which ``error`` is the traceback; a new process would raise it again."""

    error: str


@dataclass(frozen=True)
class MemoryResult:
    """The memory of the GPU was too small, of which ``error`` is the traceback; the trial can be tried with more."""

    error: str


@dataclass(frozen=True)
class StorageResult:
    """The process cannot read or write its files; ``message`` has the reason. The trial is started again later."""

    message: str


@dataclass(frozen=True)
class HaltResult:
    """The process cannot use its GPU; ``message`` has the reason. The trial can be resumed."""

    message: str


Result = EpochResult | FailedResult | MemoryResult | StorageResult | HaltResult


def parse_result(flat: dict[str, Any]) -> Result:
    """Return a result as Ray Tune reports it: one flat mapping, with keys such as ``metrics/top1``."""
    if "halt" in flat:
        return HaltResult(flat["halt"])
    if "storage" in flat:
        return StorageResult(flat["storage"])
    if "memory" in flat:
        return MemoryResult(flat["memory"])
    if "error" in flat:
        return FailedResult(flat["error"])
    metrics = {key.removeprefix("metrics/"): value for key, value in flat.items() if key.startswith("metrics/")}
    return EpochResult(flat["epoch"], metrics, flat["seconds"], flat.get("workers", 1))
