"""Locks, network file systems, and folders whose disk may be gone."""

import errno
import fcntl
from pathlib import Path

import pytest

from search.ledger.file import Ledger
from search.report.tracking.store import Store, tracking_uri
from vattn import files
from vattn.errors import StorageError, UserError
from vattn.files import SameFolder, locked, network_type


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_taken_for_another_process(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refused)

    with pytest.raises(StorageError, match=r"ledger\.jsonl: cannot be locked \(no locks here\), and without locks two"):
        Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(StorageError, match=r"\.lock: cannot be locked"), locked(tmp_path / "cache"):
        pass


def test_a_lock_that_another_process_has_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EACCES, "as some file systems say")

    monkeypatch.setattr(fcntl, "flock", refused)

    with pytest.raises(UserError, match="another process is running this search"):
        Ledger(tmp_path / "ledger.jsonl")


def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: tuple[str, str]) -> None:
    """Let the system's table of file systems have these places and types."""
    table = [f"{n} 1 0:{n} / {place} rw shared:1 - {kind} source rw" for n, (place, kind) in enumerate(lines)]
    (tmp_path / "table").write_text("\n".join(table))
    monkeypatch.setattr(files, "MOUNTS", tmp_path / "table")


def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts(
        tmp_path, monkeypatch,
        ("/", "ext4"), ("/shared", "nfs4"), ("/shared/a\\040b", "ext4"), ("/fuse", "fuse.sshfs"), ("/x", "nfs"),
        ("/x", "tmpfs"),
    )  # fmt: skip

    assert network_type(Path("/shared/run")) == "nfs4"
    assert network_type(Path("/shared2")) == ""
    assert network_type(Path("/shared/a b/run")) == ""
    assert network_type(Path("/fuse/run/not/yet/there")) == "fuse.sshfs"
    assert network_type(Path("/x/run")) == ""  # the later mount hides the earlier one
    monkeypatch.setattr(files, "MOUNTS", tmp_path / "none")
    assert network_type(Path("/shared")) == ""


def test_on_a_network_file_system_sqlite_lies_elsewhere_and_artifacts_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    output, other = tmp_path / "run", tmp_path / "other"
    assert tracking_uri("auto", output) == f"sqlite:///{output}/mlflow.db"

    mounts(tmp_path, monkeypatch, ("/", "ext4"), (str(tmp_path), "nfs"))

    uri = tracking_uri("auto", output)
    assert uri.startswith(f"sqlite:///{tmp_path / 'home' / 'vattn' / 'mlflow'}/")
    assert uri != tracking_uri("auto", other)
    assert tracking_uri("http://server", output) == "http://server"
    assert Store(output, "auto", "x")._artifacts == (output / "artifacts").as_uri()


def test_an_empty_folder_in_the_place_of_another_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "disk" / "trial"
    same = SameFolder(folder)
    same.check()
    folder.parent.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        same.check()
    folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="is another folder than before"):
        same.check()
