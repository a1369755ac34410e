"""Whose connections MLflow's page answers."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.report.tracking.own_user import is_own

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="this system has no table of connections")

#: a user who is not that of the tests
OTHER = 65534


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_a_connection_of_ones_own_is_known(address: str, listener: socket.socket) -> None:
    with socket.create_connection((address, listener.getsockname()[1])):
        accepted, peer = listener.accept()
        with accepted:
            assert is_own(peer, accepted.getsockname())


def test_a_connection_that_its_process_has_closed_is_nobodys(listener: socket.socket) -> None:
    """The system says that user 0 has it: else others could send as root what needs no answer."""
    socket.create_connection(listener.getsockname()).close()
    accepted, peer = listener.accept()

    with accepted:
        assert not is_own(peer, accepted.getsockname())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a process of another user")
def test_a_connection_of_another_user_is_known(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    # bash, as another user may not be able to read this environment's Python
    stranger = subprocess.Popen(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}; read -u 3"], user=OTHER, cwd="/")
    try:
        accepted, peer = listener.accept()
        with accepted:
            assert not is_own(peer, accepted.getsockname())
    finally:
        assert stranger.wait(60) is not None
