"""What is checked before a local cluster is started."""

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from cluster.local import check, hide_token
from vattn.errors import UserError


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_token_is_made_for_its_owner_alone_and_kept(tmp_path: Path) -> None:
    check()
    token = tmp_path / ".ray" / "auth_token"
    text = token.read_text()
    check()

    assert token.stat().st_mode & 0o777 == 0o600
    assert len(text) == 64
    assert token.read_text() == text


@pytest.mark.parametrize("hide", [check, hide_token])
def test_a_token_that_others_can_read_is_hidden_from_them(hide: Any, tmp_path: Path) -> None:
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("0" * 64)
    token.chmod(0o644)

    hide()

    assert token.stat().st_mode & 0o777 == 0o600


def test_without_tokens_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    check()
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_too_long_for_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 107 bytes of a name, less those that Ray adds: /ray/, its session of 43 bytes and /sockets/plasma_store, of 21.
    for length, is_refused in ((39, False), (40, True)):
        folder = Path("/tmp") / ("x" * (length - len("/tmp/")))
        folder.mkdir(exist_ok=True)
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        try:
            if is_refused:
                with pytest.raises(UserError, match="too long; set RAY_TMPDIR to a folder with a shorter name"):
                    check()
            else:
                check()
        finally:
            folder.rmdir()


@pytest.mark.parametrize("folder", ["/no/such/folder", "/proc", "/dev/null"])
def test_a_folder_that_cannot_be_written_is_refused(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", folder)
    if folder == "/proc" and os.access("/proc", os.W_OK):
        pytest.skip("root may write to /proc, as far as the kernel says")
    with pytest.raises(UserError, match="cannot be written; set RAY_TMPDIR"):
        check()


def test_a_user_without_a_home_is_told_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_entry(*_: object) -> Any:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    with pytest.raises(UserError, match="no home folder for its token; set HOME"):
        check()
