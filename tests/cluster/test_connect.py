"""A cluster that starts while the caller does something else."""

import signal
import sys
from typing import Any

import pytest
import ray

from cluster.connect import connecting

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@ray.remote
def is_loaded(module: str) -> bool:
    return module in sys.modules


def test_processes_of_a_cluster_of_our_own_start_with_the_modules_asked_for() -> None:
    with connecting("local", ["colorsys"]) as joined:
        assert joined()["CPU"] >= 1
        found = [ray.get(is_loaded.remote(module)) for module in ("colorsys", "antigravity")]

    assert found == [True, False]
    assert not ray.is_initialized()


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_who_is_ended_while_a_cluster_starts_leaves_none_behind(handler: Any) -> None:
    # A script that starts something in the background has it ignore Ctrl-C.
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, handler)

    try:
        with pytest.raises(KeyboardInterrupt), connecting("local"):
            signal.raise_signal(signal.SIGTERM)

        assert not ray.is_initialized()
        assert signal.getsignal(signal.SIGTERM) is before[0]
    finally:
        signal.signal(signal.SIGINT, before[1])


def test_an_address_that_nobody_answers_at_is_told_to_who_waits() -> None:
    with (
        connecting("127.0.0.1:1") as joined,
        pytest.raises(ValueError, match=r"--address 127\.0\.0\.1:1: no Ray cluster"),
    ):
        joined()
