"""Which cluster is meant, and which addresses are refused before Ray is asked to connect."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cluster import address
from cluster.address import resolve
from vattn.errors import UserError


@contextmanager
def server(answer: bytes | None) -> Iterator[int]:
    """Yield the port of a server that sends ``answer`` to each client; None: it accepts and stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            clients = []
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                clients.append(client)
                if answer is not None:
                    client.sendall(answer)
                    client.close()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # a socket that a thread accepts from stays open without it


def refusal(text: str | None) -> str:
    with pytest.raises(UserError) as refused:
        resolve(text).probe()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture(autouse=True)
def no_cluster_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)


def test_without_an_address_a_cluster_is_started_here() -> None:
    assert resolve(None).text == "local"


def test_a_job_joins_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert resolve(None).text == "auto"


@pytest.mark.parametrize("given", [None, "", "auto"])
def test_ray_address_counts_where_no_address_is_given(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert resolve(given).text == "head:6379"


def test_an_address_counts_more_than_ray_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert resolve("other:6379").text == "other:6379"


@pytest.mark.parametrize("url", ["http://head:8265", "https://me:secret@head", "ray://head:10001"])
@pytest.mark.parametrize("place", ["--address", "RAY_ADDRESS"])
def test_a_url_is_refused_with_the_way_out(url: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", url)

    text = refusal(url if place == "--address" else None)

    assert text.startswith(place)
    assert "HOST:6379" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    "text", ["head", "head:", "head:x", ":6379", "[::1]", "head:70000", "head:6379/x", "a b:6379", "head:1:2", "\x00:1"]
)
def test_what_is_no_host_and_port_is_refused(text: str) -> None:
    assert refusal(text).startswith("--address")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_port_on_which_nothing_listens_is_refused(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert "no Ray cluster answers there" in refusal(f"{host}:{port}")


def test_a_web_server_such_as_the_dashboard_is_told_from_a_head() -> None:
    web = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        text = refusal(f"127.0.0.1:{web.server_port}")
    finally:
        web.shutdown()
        web.server_close()
    assert "web server" in text or "no head" in text
    assert "6379" in text


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 9])
def test_another_server_is_refused(answer: bytes) -> None:
    with server(answer) as port:
        assert refusal(f"127.0.0.1:{port}").startswith(f"--address 127.0.0.1:{port}: ")


def test_a_server_of_grpc_is_let_through() -> None:
    # A frame of settings without content: length 0, type 4, no flags, stream 0 (RFC 9113, section 6.5).
    with server(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])) as port:
        resolve(f"127.0.0.1:{port}").probe()


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "PROBE_TIMEOUT", 0.2)
    began = time.monotonic()
    with server(None) as port:
        assert "within 0.2 seconds" in refusal(f"127.0.0.1:{port}")
    assert time.monotonic() - began < 5
