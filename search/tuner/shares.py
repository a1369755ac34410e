"""The share of a GPU that each training of a search reserves, and how many of them run at once."""

import math

from cluster.devices import SHARE_STEP, share_of
from search.spec.schema import Spec
from vattn.config import TrialConfig
from vattn.training.memory import training_memory


class Shares:
    """The GPUs of the trainings of a search: those that the spec gives, or for ``gpus: auto`` what each needs.

    With ``auto``, a training with several workers reserves a GPU for each, and on a cluster without GPUs none.

    Args:
        spec: the search.
        gpus: number of GPUs of the cluster.
        memory: bytes of the smallest of them; None if there is none.
    """

    def __init__(self, spec: Spec, gpus: float = 0, memory: int | None = None) -> None:
        self._spec, self._memory = spec, memory
        self.is_auto = spec.resources.gpus == "auto"
        self._gpus = math.inf
        self.limit(gpus, None)
        #: by number: GPUs of each worker of the trainings that were handed out and have not ended
        self._reserved: dict[int, float] = {}

    @property
    def least(self) -> float:
        """The least number of GPUs that a worker of this search may reserve."""
        if self.is_auto:
            return 0.0 if not self._memory else 1.0 if self._spec.resources.fewest > 1 else SHARE_STEP
        return float(self._spec.resources.gpus)

    def of(self, config: TrialConfig, alone: bool) -> float:
        """Return the number of GPUs of each worker of a training.

        Args:
            config: the training as it is run.
            alone: whether no other training may use the same GPU.
        """
        least = self.least
        if not 0 < least < 1:
            return least
        if alone:
            return 1.0
        if not self.is_auto or not self._memory:
            return least
        return share_of(training_memory(config, self._spec.classes).total, self._memory)

    @property
    def count(self) -> int:
        """The number of trainings that were handed out and have not ended."""
        return len(self._reserved)

    def limit(self, gpus: float, trainings: int | None) -> None:
        """Use at most ``gpus`` GPUs, if their memory is known, and no more than ``trainings`` of the smallest would."""
        share = math.inf if trainings is None else trainings * self.least * self._spec.resources.fewest
        self._gpus = min(gpus if self.is_auto and self._memory else math.inf, share)

    def holds(self, number: int) -> bool:
        """Return whether a training was handed out and has not ended."""
        return number in self._reserved

    def fits(self, gpus: float) -> bool:
        """Return whether a training whose workers reserve ``gpus`` GPUs each can probably start now."""
        workers = self._spec.resources.fewest
        return workers * (gpus + sum(self._reserved.values())) <= self._gpus + 1e-9

    def reserve(self, number: int, gpus: float) -> None:
        """Count a training that is handed out."""
        self._reserved[number] = gpus

    def release(self, number: int) -> None:
        """Count a training no more, which has ended or is to be tried in another way."""
        self._reserved.pop(number, None)
