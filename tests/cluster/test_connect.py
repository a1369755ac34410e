"""Connecting to a cluster in the background, while the caller does other work."""

import signal
import sys
from typing import Any

import pytest
import ray

from cluster.connect import connecting
from vattn.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@ray.remote
def is_loaded(module: str) -> bool:
    return module in sys.modules


def test_worker_processes_of_a_local_cluster_start_with_the_given_modules_imported() -> None:
    with connecting("local", ["colorsys"]) as wait_for_cluster:
        assert wait_for_cluster()["CPU"] >= 1
        loaded = [ray.get(is_loaded.remote(module)) for module in ("colorsys", "antigravity")]

    assert loaded == [True, False]
    assert not ray.is_initialized()


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_sigterm_while_a_cluster_starts_raises_keyboard_interrupt_and_leaves_no_cluster(handler: Any) -> None:
    # SIG_IGN: a process that a script starts in the background ignores Ctrl-C.
    sigterm, sigint = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, handler)

    try:
        with pytest.raises(KeyboardInterrupt), connecting("local"):
            signal.raise_signal(signal.SIGTERM)

        assert not ray.is_initialized()
        assert signal.getsignal(signal.SIGTERM) is sigterm
    finally:
        signal.signal(signal.SIGINT, sigint)


def test_waiting_for_a_cluster_that_does_not_answer_raises_user_error() -> None:
    with (
        connecting("127.0.0.1:1") as wait_for_cluster,
        pytest.raises(UserError, match=r"--address 127\.0\.0\.1:1: no Ray cluster"),
    ):
        wait_for_cluster()
