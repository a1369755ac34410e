"""The page of a running search, over HTTP on loopback."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from search.ledger.file import NAME
from search.report.page.files import read_content
from search.report.page.serve import LivePage, server_of
from tests.search.constructed import trees, write_ledger


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    with server_of(LivePage(folder, lambda: read_content(folder, "x")), 0) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def get(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return answer.read().decode()


def test_the_page_is_made_anew_when_the_ledger_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.report.page.serve._REST", 0)
    write_ledger(tmp_path / NAME, 4)
    with serving(tmp_path) as url:
        first, page = get(f"{url}/version"), get(url)
        again = get(f"{url}/version")
        write_ledger(tmp_path / NAME, 6)
        later = get(f"{url}/version")

        assert first == again != later
        assert f'"version":"{first}"' in page
        assert page.count('"state":"finished"') == 4
        assert get(url).count('"state":"finished"') == 6


def test_an_incomplete_last_line_does_not_matter(tmp_path: Path) -> None:
    write_ledger(tmp_path / NAME, 3)
    with (tmp_path / NAME).open("a") as file:
        file.write('{"event":"prop')
    with serving(tmp_path) as url:
        assert get(url).count('"state":"finished"') == 3
    assert len(trees(3)) > 3


def test_other_hosts_and_paths_are_refused(tmp_path: Path) -> None:
    write_ledger(tmp_path / NAME, 1)
    with serving(tmp_path) as url:
        for path, host, status in (("/", "evil.example", 403), ("/../ledger.jsonl", "127.0.0.1", 404)):
            with pytest.raises(urllib.error.HTTPError) as error:
                get(url + path, Host=host)
            assert error.value.code == status
        assert "<h1>" in get(url, Host="localhost:1")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    write_ledger(tmp_path / NAME, 1)
    with serving(tmp_path) as url, pytest.raises(ValueError, match=r"--port .*name another"):
        server_of(LivePage(tmp_path, lambda: read_content(tmp_path, "x")), int(url.rpartition(":")[2]))
