"""Latency of a network: the measured time of a forward pass on one device, with a stated number of threads.

Networks have random weights, which do not change the time, and compute in float32 (on a GPU in TF32, as in training).
The clips are on the device already: reading and augmenting them is not part of the time.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vattn.config import ModelConfig
from vattn.errors import UserError
from vattn.model import VideoModel, build_model
from vattn.training.batches.ahead import torch_threads
from vattn.training.device import use_tf32
from vattn.training.memory import empty_clips

#: How the network is run: as torch runs it, by torch.compile, by ONNX Runtime.
Mode = Literal["eager", "compiled", "onnx"]

#: runs before the measurement, and seconds that they take at least: memory is allocated, and algorithms are chosen
WARM_UP_RUNS, WARM_UP_SECONDS = 3, 0.3
#: repetitions of the measurement
ROUNDS = 5
#: seconds of a repetition, and the fewest runs in it
ROUND_SECONDS, ROUND_RUNS = 0.3, 4
#: the file in which Linux names the processor
CPUINFO = Path("/proc/cpuinfo")


class Timing(NamedTuple):
    """The time of a forward pass."""

    p50_ms: float
    """median over the repetitions of the median of each one, milliseconds"""
    p99_ms: float
    """99th percentile of all runs, milliseconds"""
    clips_per_second: float
    """clips of a repetition by its duration; the median over the repetitions"""
    runs: int
    """number of measured runs"""


class UnmeasurableError(Exception):
    """A network cannot be run in one way, for the reason in its text."""


def timed(
    run: Callable[[], object], batch: int, wait: Callable[[], None], clock: Callable[[], float] = time.perf_counter
) -> Timing:
    """Return the time of a forward pass by `ROUNDS` repetitions after a warm-up.

    A run ends when the device has ended it. A disturbance that is shorter than two repetitions does not change the
    medians.

    Args:
        run: runs the network once.
        batch: number of clips of a run.
        wait: waits until the device has done all work.
        clock: the time in seconds.
    """

    def one() -> float:
        began = clock()
        run()
        wait()
        return clock() - began

    began, runs = clock(), 0
    while runs < WARM_UP_RUNS or clock() - began < WARM_UP_SECONDS:
        one()
        runs += 1
    rounds: list[list[float]] = []
    rates: list[float] = []
    for _ in range(ROUNDS):
        seconds: list[float] = []
        began = clock()
        while len(seconds) < ROUND_RUNS or clock() - began < ROUND_SECONDS:
            seconds.append(one())
        rounds.append(seconds)
        rates.append(batch * len(seconds) / (clock() - began))
    together = [1e3 * second for seconds in rounds for second in seconds]
    middle = median(median(seconds) for seconds in rounds)
    return Timing(1e3 * middle, float(np.percentile(together, 99)), median(rates), len(together))


def device_of(name: str, path: str = "--device", file: Path | None = None) -> torch.device:
    """Return the device ``cpu`` or ``cuda``. Raises UserError, about ``path``, if this machine has none."""
    if name == "cuda" and not torch.cuda.is_available():
        rule, way_out = "this machine has no GPU that torch can use", "take cpu, or a machine with one"
        raise UserError(rule, file=file, path=path, way_out=way_out, found=name)
    return torch.device("cuda", 0) if name == "cuda" else torch.device("cpu")


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    import platform

    lines = CPUINFO.read_text(errors="replace").splitlines() if CPUINFO.is_file() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


class Subject:
    """A network on a device, of which one forward pass after the other is timed.

    Args:
        model: its config.
        classes: number of labels.
        device: where it runs.
        threads: number of threads on a CPU, also of ONNX Runtime.
    """

    def __init__(self, model: ModelConfig, classes: int, device: torch.device, threads: int) -> None:
        self._model, self._device, self._threads = model, device, threads
        with torch.random.fork_rng(devices=[]):  # the weights are nobody's: the draws of this process stay as they are
            torch.manual_seed(0)
            self._net = build_model(model.without_weights(), classes).to(device).eval()
        self._session: Any = None
        if device.type == "cuda":
            use_tf32()
            torch.backends.cudnn.benchmark = True

    def measure(self, mode: Mode, batch: int) -> Timing:
        """Return the time of a forward pass on ``batch`` clips. Raises UnmeasurableError if it cannot be run so."""
        with torch.random.fork_rng(devices=[]), torch.inference_mode(), torch_threads():
            torch.set_num_threads(self._threads)
            torch.manual_seed(0)
            run = {"eager": self._eager, "compiled": self._compiled, "onnx": self._onnx}[mode]
            try:
                clips = empty_clips(self._model, batch, self._device).normal_()
                return timed(run(clips), batch, self._wait)
            except (RuntimeError, ImportError, OSError) as error:
                # torch.OutOfMemoryError, a compiler that is missing, and an operator without a kernel.
                raise UnmeasurableError(_first_line(error)) from error

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _eager(self, clips: Tensor) -> Callable[[], object]:
        return lambda: _forward(self._net, clips)

    def _compiled(self, clips: Tensor) -> Callable[[], object]:
        torch.compiler.reset()  # or the graph of another batch would be made for any size
        compiled = torch.compile(lambda batch: _forward(self._net, batch))
        return lambda: compiled(clips)

    def _onnx(self, clips: Tensor) -> Callable[[], object]:
        if self._session is None:
            self._session = self._onnx_session()
        binding, device = self._session.io_binding(), self._device.type
        import onnxruntime

        binding.bind_ortvalue_input("clips", onnxruntime.OrtValue.ortvalue_from_numpy(clips.cpu().numpy(), device, 0))
        binding.bind_output("scores", device)
        return lambda: self._session.run_with_iobinding(binding)

    def _onnx_session(self) -> Any:
        """Return a session of ONNX Runtime for any number of clips."""
        from vattn.trained.graph import PACKAGES, onnx_of, single_precision

        if missing := [package for package in PACKAGES if find_spec(package) is None]:
            raise UnmeasurableError(f"{', '.join(missing)} not installed: pip install 'vattn-search[export]'")
        if self._model.detector != "none":
            raise UnmeasurableError("a detector has no graph")
        import onnxruntime

        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[self._device.type]
        if provider not in onnxruntime.get_available_providers():
            raise UnmeasurableError(f"this onnxruntime has no {provider}; onnxruntime-gpu has")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        net = self._net.cpu()
        try:
            with torch.inference_mode(False), torch.no_grad(), single_precision(net):
                proto = onnx_of(net, empty_clips(self._model, 2, torch.device("cpu")).zero_())
            return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=[provider])
        except Exception as error:  # neither torch nor ONNX Runtime has a narrower class
            raise UnmeasurableError(f"{type(error).__name__}: {_first_line(error)}") from error
        finally:
            self._net.to(self._device)


def _forward(net: VideoModel, clips: Tensor) -> Tensor:
    # The number of regions that a detector finds depends on its weights; in `scores` it is that of its config.
    return net.scores(clips) if net.takes_targets else net(clips)


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]
