"""Timings by a clock that the test moves, and real networks of which only what is certain is checked."""

import subprocess
import sys

import pytest
import torch

from tests.vattn.support import model
from vattn.errors import UserError
from vattn.latency import CPUINFO, ROUND_RUNS, ROUNDS, Mode, Subject, UnmeasurableError, device_name, device_of, timed

CPU = torch.device("cpu")
needs_onnx = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import onnx, onnxruntime, onnxscript"], check=False).returncode != 0,
    reason="the extra export is not installed",
)


class Clock:
    """A clock in milliseconds that a run and the wait for the device move forward."""

    def __init__(self, run: list[float], wait: float = 0.0) -> None:
        self.now, self._run, self._wait, self.runs = 0.0, run, wait, 0

    def __call__(self) -> float:
        return self.now / 1e3

    def run(self) -> None:
        self.now += self._run[min(self.runs, len(self._run) - 1)]
        self.runs += 1

    def wait(self) -> None:
        self.now += self._wait


def test_the_time_of_a_run_ends_when_the_device_has_ended_it() -> None:
    clock = Clock([2.0], wait=1.0)

    timing = timed(clock.run, 6, clock.wait, clock)

    # 6 clips in 3 ms.
    assert timing.p50_ms == pytest.approx(3)
    assert timing.p99_ms == pytest.approx(3)
    assert timing.clips_per_second == pytest.approx(2000)


def test_the_first_runs_are_not_measured() -> None:
    # The first one compiles or chooses algorithms: 10 s.
    clock = Clock([10_000.0, 1.0])

    assert timed(clock.run, 1, clock.wait, clock).p99_ms == pytest.approx(1)


def test_a_disturbed_repetition_does_not_change_the_medians() -> None:
    # A run takes 100 ms: 3 to warm up, then 4 in each repetition. Those of the second one take ten times as long.
    clock = Clock([100.0] * (3 + ROUND_RUNS) + [1000.0] * ROUND_RUNS + [100.0])

    timing = timed(clock.run, 1, clock.wait, clock)

    assert timing.runs == ROUNDS * ROUND_RUNS
    assert timing.p50_ms == pytest.approx(100)
    assert timing.clips_per_second == pytest.approx(10)
    assert timing.p99_ms == pytest.approx(1000)


def test_many_runs_of_a_fast_network_are_measured() -> None:
    # 0.3 s of runs of 3 ms, and one more where rounding leaves a rest.
    clock = Clock([3.0])

    assert 5 * 100 <= timed(clock.run, 1, clock.wait, clock).runs <= 5 * 101


@pytest.mark.medium
@pytest.mark.parametrize("mode", ["eager", pytest.param("onnx", marks=needs_onnx)])
def test_a_network_is_measured_and_nothing_else_changes(mode: Mode) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()

    timing = Subject(model(), 4, CPU, threads=1).measure(mode, 2)

    assert 0 < timing.p50_ms <= timing.p99_ms
    assert timing.runs >= ROUNDS * ROUND_RUNS
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(("mode", "batch", "reason"), [("eager", 10**9, "allocate"), ("onnx", 10**9, "allocate")])
def test_what_cannot_be_run_says_why(mode: Mode, batch: int, reason: str) -> None:
    with pytest.raises(UnmeasurableError, match=reason):
        Subject(model(), 4, CPU, threads=1).measure(mode, batch)


def test_the_device_is_named() -> None:
    assert device_name(CPU)
    if CPUINFO.is_file() and "model name" in (text := CPUINFO.read_text()):
        assert device_name(CPU) in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"^--device: this machine has no GPU .*\(got cuda\)$"):
        device_of("cuda")
