"""Connecting to a cluster in the background, while the caller does other work."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray._raylet import AuthenticationTokenLoader  # pyright: ignore[reportAttributeAccessIssue]

from cluster.connect import connecting
from tests.processes import wait_for
from tests.vattn_command import start
from vattn.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@ray.remote
def is_loaded(module: str) -> bool:
    return module in sys.modules


def processes(root: int) -> Iterator[int]:
    """Yield the ids of a process and of all below it."""
    yield root
    for task in Path(f"/proc/{root}/task").glob("*/children"):
        with suppress(FileNotFoundError):  # it ended meanwhile
            for child in task.read_text().split():
                yield from processes(int(child))


def listening(root: int) -> dict[str, list[str]]:
    """Return the addresses on which a process and those below it accept connections, each with their names."""
    owners: dict[str, str] = {}
    for process in processes(root):
        with suppress(FileNotFoundError):  # it ended meanwhile
            name = Path(f"/proc/{process}/comm").read_text().strip()
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with suppress(FileNotFoundError):  # it was closed meanwhile
                    if (link := str(descriptor.readlink())).startswith("socket:["):
                        owners[link[8:-1]] = name
    found: dict[str, list[str]] = {}
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in owners:  # 0A: it listens
                found.setdefault(local.partition(":")[0], []).append(owners[inode])
    return found


#: 127.0.0.1 and ::ffff:127.0.0.1, as the kernel prints them
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.fixture(autouse=True)
def starts_have_ended() -> Iterator[None]:
    """Wait after a test until no thread starts Ray any more: its late end would disturb the next test."""
    yield
    for thread in threading.enumerate():
        if thread.name == "ray":
            thread.join(120)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the file of a token that this process has not read yet: Ray reads a token once in a process."""
    file = tmp_path / "secrets" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    AuthenticationTokenLoader.instance().reset_cache()
    yield file
    AuthenticationTokenLoader.instance().reset_cache()


def test_a_local_cluster_preloads_modules_and_listens_on_loopback_alone(token: Path) -> None:
    with connecting("local", ["colorsys"]) as wait_for_cluster:
        cpus = wait_for_cluster()["CPU"]
        assert cpus >= 1
        wait_for_cluster.settle()
        names = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
        # Those that still import have the name of Ray's script.
        assert sum(name.startswith("ray::") for name in names) >= cpus
        loaded = [ray.get(is_loaded.remote(module)) for module in ("colorsys", "antigravity")]
        addresses = listening(os.getpid())

    assert loaded == [True, False]
    assert not ray.is_initialized()
    assert addresses.keys() <= LOOPBACK, addresses
    assert {"gcs_server", "raylet"} <= {name for names in addresses.values() for name in names}
    assert token.stat().st_mode & 0o777 == 0o600


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


#: prints the error of a start, and the seconds until it was raised
GIVEN_UP = """
import json, time
from cluster.connect import connecting
from vattn.errors import UserError
began = time.monotonic()
try:
    with connecting("local") as wait_for_cluster:
        wait_for_cluster()
except UserError as error:
    print(json.dumps([str(error), time.monotonic() - began]))
"""


def test_a_cluster_whose_server_ends_at_once_is_given_up() -> None:
    # In a process of its own: the start goes on in its thread for a minute, and would disturb those of other tests.
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_UP], env=os.environ | {"RAY_gcs_storage": "no-such-storage"},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip

    error, seconds = json.loads(done.stdout)
    assert error.startswith("Ray: cannot be started")
    assert "\n" not in error
    assert seconds < 25


@pytest.fixture
def silent_head() -> Iterator[tuple[int, list[socket.socket]]]:
    """Yield the port of a server that greets as a head does, and then says nothing: its process hangs; its clients."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        clients: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                client.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                clients.append(client)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], clients
        server.shutdown(socket.SHUT_RDWR)


SPEC = Path(__file__).parents[2] / "spaces" / "library" / "quickstart.yaml"


def test_a_head_that_hangs_is_given_up(
    silent_head: tuple[int, list[socket.socket]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port, _ = silent_head
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    running = start("run", SPEC, "--output", tmp_path / "out")

    out, _ = running.communicate(60)

    assert running.returncode == 2, out
    assert out.splitlines()[-1].startswith(f"RAY_ADDRESS=127.0.0.1:{port}: a server answers there")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_head_that_hangs(
    silent_head: tuple[int, list[socket.socket]], number: int, tmp_path: Path
) -> None:
    port, clients = silent_head
    running = start("run", SPEC, "--output", tmp_path / "out", "--address", f"127.0.0.1:{port}")
    wait_for(lambda: clients)
    time.sleep(1)
    began = time.monotonic()
    running.send_signal(number)

    out, _ = running.communicate(60)

    assert running.returncode == 130, out
    assert time.monotonic() - began < 15
