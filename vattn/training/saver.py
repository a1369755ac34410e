"""Checkpoints that a thread writes while the training goes on."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vattn.config import TrialConfig
from vattn.files import SameFolder, writing
from vattn.training import best
from vattn.training.checkpoint import FILE, PARTIAL_FILE, Epoch, WorkerState, state_of
from vattn.training.optimization import ScaledOptimizer
from vattn.training.state_file import WAY_OUT, StateFile, write_state

#: Name of the threads, for lists of threads.
THREAD = "checkpoint"
#: Least time between two checkpoints at the ends of epochs, as a multiple of the time that the last one took to write.
SPACING = 20.0


class Saver:
    """Writes the checkpoints of one training into ``folder``, which it makes, at most one at a time.

    `save` copies the state to the memory of the host, and a thread writes the copy. A state of the GPU is copied into
    pinned memory, in the order of the GPU's other work, so that the training does not wait for it. The copies stay
    allocated and are used again by the next checkpoint. One failed write is raised by the next call of `check`, `save`
    or `wait`.

    Where `remove` deletes the checkpoints of a training that was stopped, a write that has begun ends without a file.

    With ``keeps_best``, the weights of the best epoch are written too, before the checkpoint that has this epoch: see
    `vattn.training.best`.
    """

    def __init__(self, folder: Path, config: TrialConfig, keeps_best: bool = False) -> None:
        self._folder, self._config, self._keeps_best = folder, config, keeps_best
        with writing(folder, WAY_OUT):
            self._same = SameFolder(folder)
        self._copies: dict[tuple[Any, ...], Tensor] = {}
        # One is written by the thread, while the other takes the weights of a better epoch.
        self._best_copies: list[dict[tuple[Any, ...], Tensor]] = [{}, {}]
        self._best: dict[str, Any] | None = None
        self._thread: threading.Thread | None = None
        self._ended = float("-inf")
        self._took = 0.0
        self._error: Exception | None = None

    def check_folder(self) -> None:
        """Make sure that the folder is still the same one, before something is written to it.

        Raises:
            StorageError: it is not: its disk may be gone.
        """
        with writing(self._folder, WAY_OUT):
            self._same.check()

    @property
    def spacing(self) -> float:
        """Least number of seconds between checkpoints with which writing takes at most 5 % of the time."""
        return SPACING * self._took

    def is_due(self, seconds: float, since: float = float("-inf")) -> bool:
        """Return whether a checkpoint may begin.

        No other one is being written, and ``seconds`` have passed since the end of the last one and since the time
        ``since``, in the seconds of `time.perf_counter`.
        """
        if self._thread and self._thread.is_alive():
            return False
        return time.perf_counter() - max(self._ended, since) >= seconds

    def keep_best(self, net: nn.Module, done: list[Epoch]) -> None:
        """Copy the weights if the last epoch is the best; the next checkpoint writes them."""
        if self._keeps_best and best.best(done) is done[-1]:
            self._best = _copied(best.entry(net.state_dict(), done[-1]), self._best_copies[0])

    def save(
        self, net: nn.Module, optimizer: torch.optim.Optimizer | ScaledOptimizer, done: list[Epoch],
        states: list[WorkerState],
    ) -> None:  # fmt: skip
        """Copy the state and begin to write it: after an epoch if ``states`` is empty, otherwise within one.

        It waits for the checkpoint before it, which `is_due` avoids.

        Raises:
            StorageError: this file cannot be opened, or the one before could not be written.
        """
        self.wait()
        self.check_folder()
        # The file is opened here, not in the thread: `remove` finds it as soon as the epoch is reported.
        file = StateFile(self._folder / (PARTIAL_FILE if states else FILE))
        state = _copied(state_of(self._config, net, optimizer, done, states), self._copies)
        best_state = None
        if self._best:
            best_state, self._best = self._best, None
            self._best_copies.reverse()
        copied = torch.cuda.current_stream().record_event() if torch.cuda.is_initialized() else None
        self._thread = threading.Thread(target=self._write, args=(file, state, best_state, copied), name=THREAD)
        self._thread.start()

    def _write(self, file: StateFile, state: Any, best_state: Any, copied: torch.cuda.Event | None) -> None:
        began = time.perf_counter()
        try:
            if copied:
                copied.synchronize()
            if best_state:
                write_state(best_state, self._folder / best.NEXT_FILE)
            file.write(state)
            if not state["halfway"]:
                best.accept(self._folder)
                (self._folder / PARTIAL_FILE).unlink(missing_ok=True)
        except Exception as error:
            self._error = error
        self._ended = time.perf_counter()
        self._took = self._ended - began

    def check(self) -> None:
        """Raise the error of the last write, if there was one: a StorageError if the file cannot be written."""
        if error := self._error:
            self._error = None
            raise error

    def wait(self) -> None:
        """Wait for the checkpoint that is being written; raise as `check` does."""
        self.close()
        self.check()

    def close(self) -> None:
        """Wait for the checkpoint that is being written."""
        if self._thread:
            self._thread.join()


def _copied(value: Any, copies: dict[tuple[Any, ...], Tensor], place: tuple[Any, ...] = ()) -> Any:
    """Return a tree of mappings, lists and tensors with the tensors copied to the host, into ``copies`` by place."""
    if isinstance(value, Tensor):
        copy = copies.get(place)
        if copy is None or (copy.shape, copy.dtype) != (value.shape, value.dtype):
            copy = copies[place] = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
        return copy.copy_(value, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _copied(item, copies, (*place, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item, copies, (*place, n)) for n, item in enumerate(value))
    return value
