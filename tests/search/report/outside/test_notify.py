"""Messages reach a real server; a server that is dead, slow or refuses disturbs nobody."""

import logging
import socket
import time

import pytest

import search.report.outside.notify as module
from search.report.outside.notify import Notifier, safe
from tests.search.report.outside.receiver import receiver


def test_messages_arrive_as_json_in_order_with_the_user_of_the_url() -> None:
    with receiver() as (url, requests):
        notifier = Notifier(url.replace("http://", "http://bob:p%40ss@") + "/hook?key=1")
        for number in range(3):
            notifier.send({"event": "help", "number": number})
        notifier.close()

    assert [request["message"]["number"] for request in requests] == [0, 1, 2]
    assert {request["path"] for request in requests} == {"/hook?key=1"}
    # base64 of bob:p@ss
    assert {request["headers"]["Authorization"] for request in requests} == {"Basic Ym9iOnBAc3M="}
    assert {request["headers"]["Content-Type"] for request in requests} == {"application/json"}


def test_a_server_that_refuses_is_tried_twice_and_is_one_warning_without_the_url(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with receiver(status=500) as (url, requests), caplog.at_level(logging.WARNING):
        notifier = Notifier(f"{url}/secret")
        notifier.send({})
        notifier.close()

    assert len(requests) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "notify: 127.0.0.1 takes no message (status 500); the search continues"
    ]


def test_a_dead_server_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    notifier = Notifier(f"http://127.0.0.1:{port}/secret")
    notifier.send({})
    notifier.close()

    assert [record.getMessage() for record in caplog.records] == [
        "notify: 127.0.0.1 takes no message (connection refused); the search continues"
    ]


def test_a_server_that_never_answers_holds_the_end_up_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        notifier = Notifier(f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        for _ in range(20):
            notifier.send({})
        sent = time.monotonic() - began
        notifier.close()

        assert sent < 0.1
        assert time.monotonic() - began < 2 * 0.2 + 1 + 1


def test_a_text_loses_the_passwords_of_its_urls_and_all_but_its_first_line() -> None:
    text = safe("MLflow at postgresql://bob:secret@db/mlflow and http://a:b@c: cannot connect\nTraceback secret")

    assert text == "MLflow at postgresql://***@db/mlflow and http://***@c: cannot connect"
