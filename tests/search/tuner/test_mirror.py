"""An output in an object store: what is there at any time, who may write there, and how another machine goes on."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from search.cli import main
from search.commands.export import export
from search.ledger.events import Ended, Finished, Reported, SearchBegan, Started, Stopped
from search.ledger.file import NAME, Ledger, ReplacedError, history, read
from search.ledger.remote import LEDGER_PARTS, Remote, fetch_ledger, work_folder
from search.ledger.runs import resolve_run
from search.spec.validation import parse
from search.tuner import mirror as mirrors
from search.tuner.mirror import LEASE, Mirror, TrainingMirror, fetch_cache
from search.tuner.results import EpochResult
from search.tuner.state import Search
from tests.processes import wait_for
from tests.search.ledger.test_file import Events, written
from tests.search.tuner.test_search import changed, write
from tests.vattn_command import start, vattn
from vattn.data import prepare
from vattn.data.cache import content_of, open_clips
from vattn.errors import UserError

pytestmark = pytest.mark.medium

moto = pytest.importorskip("moto.server", reason="moto, which stands for S3, is not installed")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a server that behaves as S3."""
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(params=["s3", "file"])
def url(request: pytest.FixtureRequest, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty place in a store."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    if request.param == "file":
        return f"file://{tmp_path}/store/first"
    for name, value in s3_environment(s3).items():
        monkeypatch.setenv(name, value)
    from pyarrow.fs import S3FileSystem

    S3FileSystem(endpoint_override=s3, allow_bucket_creation=True, region="us-east-1").create_dir("bucket")
    return f"s3://bucket/{tmp_path.name}"


def s3_environment(address: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "EXPIRY", 1.0)
    monkeypatch.setattr(mirrors, "FLUSH", 0.1)
    monkeypatch.setattr(mirrors, "SETTLING", 0.1)


def taken(url: str, folder: Path) -> Mirror:
    mirror = Mirror(Remote(url), folder)
    mirror.take(lambda text: None)
    return mirror


def test_files_are_whole_or_absent(url: str, tmp_path: Path) -> None:
    remote = Remote(url)
    assert remote.read("trials/0001/model.pt") is None
    assert remote.files("trials") == {}
    assert not remote.download("trials/0001/model.pt", tmp_path / "here" / "model.pt")
    (tmp_path / "model.pt").write_bytes(b"weights" * 1000)

    remote.upload(tmp_path / "model.pt", "trials/0001/model.pt")

    assert remote.files("trials") == {"0001/model.pt": 7000}
    assert remote.download("trials/0001/model.pt", tmp_path / "here" / "model.pt")
    assert (tmp_path / "here" / "model.pt").read_bytes() == b"weights" * 1000
    remote.remove("trials/0001/model.pt")
    remote.remove("trials/0001/model.pt")
    assert remote.files("trials") == {}


@pytest.mark.parametrize("length", [3, 300])
def test_a_file_that_is_replaced_while_it_is_read_is_read_whole(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    remote, other = Remote(url), Remote(url)
    new = bytes(range(100, 103)) * (length // 3)
    opened = remote._fs.open_input_stream
    times = 0

    def open_and_replace(path: str) -> Any:
        nonlocal times
        times += 1
        stream = opened(path)
        if times == 1:
            other.write("lease.json", new)
        return stream

    monkeypatch.setattr(remote, "_fs", SimpleNamespace(open_input_stream=open_and_replace))
    versions = (b"0123456789", new)
    other.write("lease.json", versions[0])
    assert remote.read("lease.json") in versions
    times = 0
    other.write("lease.json", versions[0])
    assert remote.download("lease.json", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() in versions


def test_the_end_of_a_trial_is_in_the_store_before_the_search_goes_on(
    url: str, tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "FLUSH", 1000.0)
    (tmp_path / "a").mkdir()
    written(tmp_path / "a", events)
    mirror = taken(url, tmp_path / "a")
    ledger = Ledger(tmp_path / "a" / NAME)
    remote = Remote(url)
    remote.write("trials/0004/checkpoint.pt", b"state")
    mirror.apply(ledger.append(Reported(trial=4, epoch=2, metrics={"top1": 0.5}, seconds=1.0)))
    assert remote.files(LEDGER_PARTS) == {}

    mirror.apply(ledger.append(Finished(trial=4, epoch=2, seconds=2.0)))

    fetch_ledger(remote, tmp_path / "b" / NAME)
    assert (tmp_path / "b" / NAME).read_bytes() == ledger.path.read_bytes()
    assert remote.files("trials") == {}  # it needs no checkpoint any more
    mirror.apply(ledger.append(Ended(reason="budget")))
    assert len(remote.files(LEDGER_PARTS)) == 2
    mirror.close()
    assert remote.read(LEASE) is None


def test_other_events_follow_soon(url: str, tmp_path: Path, events: Events) -> None:
    (tmp_path / "a").mkdir()
    written(tmp_path / "a", events)
    mirror = taken(url, tmp_path / "a")
    end = time.monotonic() + 20
    while not Remote(url).files(LEDGER_PARTS):
        assert time.monotonic() < end
        time.sleep(0.05)
    mirror.close()


def test_two_processes_never_write(url: str, tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    written(tmp_path / "a", events)
    first = taken(url, tmp_path / "a")
    said: list[str] = []

    with monkeypatch.context() as patient:
        patient.setattr(mirrors, "EXPIRY", 30.0)  # on a busy machine a renewal takes long
        with pytest.raises(UserError, match="another process is running this search"):
            Mirror(Remote(url), tmp_path / "b").take(said.append)
    assert "another process wrote there; waiting" in said[0]

    # One that stood still for long, and whose lease another process took, writes no more.
    first._closed.set()
    assert first._thread is not None
    first._thread.join()  # it may be renewing the lease
    second = taken(url, tmp_path / "b")
    assert history(tmp_path / "b" / NAME).name == "by-hand"
    ledger = Ledger(tmp_path / "a" / NAME)
    ended = ledger.append(Stopped(trial=4, epoch=1, reason="late"))
    with pytest.raises(ReplacedError, match="another process is running this search"):
        first.apply(ended)
    second.close()


def test_a_lease_of_a_dead_process_of_this_machine_is_taken_at_once(url: str, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    lease = {"id": "x", "host": socket.gethostname(), "pid": int(ended.stdout), "time": time.time()}
    Remote(url).write(LEASE, json.dumps(lease).encode())
    said: list[str] = []

    mirror = Mirror(Remote(url), tmp_path)
    mirror.take(said.append)

    assert not said
    mirror.close()


def test_the_ledger_here_and_that_in_the_store_are_put_together(url: str, tmp_path: Path, events: Events) -> None:
    remote, lines = Remote(url), [json.dumps(event).encode() + b"\n" for event in events]
    head, tail = b"".join(lines[:4]), b"".join(lines[4:])
    remote.write(f"{LEDGER_PARTS}/{0:015d}.jsonl", head)
    remote.write(f"{LEDGER_PARTS}/{len(head):015d}.jsonl", tail)
    path = tmp_path / "run" / NAME
    for here in (b"", head, head + tail, head + tail[:30]):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(here)
        assert fetch_ledger(remote, path) == len(head + tail)
        assert path.read_bytes() == head + tail
    # What was not uploaded before a process was killed is kept.
    path.write_bytes(head + tail + b"more\n")
    fetch_ledger(remote, path)
    assert path.read_bytes() == head + tail + b"more\n"

    path.write_bytes(b"another\n")
    with pytest.raises(UserError, match="is the copy of another search"):
        fetch_ledger(remote, path)
    remote.remove(f"{LEDGER_PARTS}/{0:015d}.jsonl")
    with pytest.raises(UserError, match="the part of the ledger at byte 0 is missing"):
        fetch_ledger(remote, path)


def test_a_training_goes_on_on_another_machine(url: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "trials", tmp_path / "there" / "trials"
    (here / "0003").mkdir(parents=True)
    (here / "0003" / "checkpoint.pt").write_bytes(b"first")
    (here / "0003" / ".part-checkpoint.pt").write_bytes(b"half")
    first = TrainingMirror(Remote(url), here / "0003")
    first.copy(wait=True)
    (here / "0003" / "checkpoint.pt").unlink()
    (here / "0003" / "checkpoint.pt").write_bytes(b"second!")
    first.copy(wait=True)
    Remote(url).write("trials/0001/model.pt", b"start")

    second = TrainingMirror(Remote(url), there / "0003")
    second.fetch(there / "0001" / "model.pt")

    assert (there / "0003" / "checkpoint.pt").read_bytes() == b"second!"
    assert (there / "0001" / "model.pt").read_bytes() == b"start"
    assert sorted(path.name for path in (there / "0003").iterdir()) == ["checkpoint.pt"]
    second.copy(wait=True)
    assert Remote(url).files("trials/0003") == {"checkpoint.pt": 7}


def test_a_cache_is_copied_once_to_each_machine(url: str, tmp_path: Path) -> None:
    data = {"kind": "motion", "train_clips": 1, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32}
    model = {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}}
    tree: dict[str, Any] = {
        "schema": 1, "name": "small",
        "trial": {"data": data | {"store": {"size": 32}}, "model": model, "train": {"epochs": 1, "batch": 8, "lr": 1}},
        "search": {"budget": {"trials": 1}},
    }  # fmt: skip
    cache = prepare(parse(tree, Path("spec.yaml")).data, tmp_path / "data", test=False)
    (tmp_path / "a").mkdir()
    mirror = taken(url, tmp_path / "a")
    mirror.upload_cache(cache)
    mirror.close()
    copy = tmp_path / "node" / "cache" / cache.name

    threads = [threading.Thread(target=fetch_cache, args=(Remote(url), copy)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert content_of(copy) == content_of(cache)
    assert (open_clips(copy, "train").clip(0) == open_clips(cache, "train").clip(0)).all()
    assert not fetch_cache(Remote(url), tmp_path / "node" / "cache" / "another")


def test_a_search_in_a_store_is_exported_from_another_machine(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = {
        "schema": 1, "name": "tasks", "output": url,
        "trial": {
            "data": {"kind": "motion"},
            "model": {
                "frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.25},
                "attention": {"choice": [[], [{"kind": "tsm"}]]},
            },
            "train": {"epochs": 1, "batch": 8, "lr": 0.1},
        },
        "search": {"budget": {"trials": 2}, "sampler": {"kind": "random"}},
    }  # fmt: skip
    spec = parse(tree, Path("spec.yaml"))
    output = spec.output_dir()
    assert output == work_folder(url)
    output.mkdir(parents=True)
    mirror = taken(url, output)
    with closing(Ledger(output / NAME)) as ledger:
        search = Search(spec, output, output / "cache", ledger, [], mirror)
        search.record(SearchBegan(id="s", name="tasks", spec=spec.tree(), versions={}))
        while task := search.next_task():
            number = task["number"]
            assert task["remote"] == url
            search.record(Started(trial=number, epoch=0))
            search.folder(number).mkdir(parents=True)
            (search.folder(number) / "model.pt").write_bytes(b"weights %d" % number)
            TrainingMirror(Remote(url), search.folder(number)).copy(wait=True)
            assert search.reported(number, EpochResult(epoch=1, metrics={"top1": 0.5}, seconds=1.0))
        search.record(Ended(reason="budget"))
    mirror.close()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    export(url, "trial=1", tmp_path / "out.yaml", tmp_path / "weights")

    assert (tmp_path / "weights" / "model.pt").read_bytes() == b"weights 1"
    assert yaml.safe_load((tmp_path / "out.yaml").read_text())["model"]["frames"] == 2
    assert list(read(resolve_run(url) / NAME)) == list(read(output / NAME))
    # Other forms of an export fetch the weights too; these are no real ones.
    words = ["--pick", "trial=0", "--out", str(tmp_path / "other.yaml"), "--card", str(tmp_path / "card")]
    assert main(["export", url, *words]) == 2
    assert (resolve_run(url) / "trials" / "0000" / "model.pt").read_bytes() == b"weights 0"


@pytest.mark.parametrize(
    ("output", "rule"),
    [
        ("http://host/x", "output: must be a folder, or a URL of s3://, gs:// or file://"),
        ("s3://key:secret@bucket/x", r"output: has a password or a user.*\(got s3://key:\*\*\*@bucket/x\)"),
        ("s3://", "output: names no bucket or folder"),
        ("file:///", "output: names no bucket or folder"),
    ],
)
def test_urls_that_name_no_store_are_refused(output: str, rule: str) -> None:
    from tests.search.searches import TREE

    with pytest.raises(ValueError, match=rule) as refused:
        parse(TREE | {"output": output}, Path("spec.yaml"))
    assert "secret" not in str(refused.value)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_whose_machine_is_lost_goes_on_on_another_one(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_environment(s3).items():
        monkeypatch.setenv(name, value)
    from pyarrow.fs import S3FileSystem

    S3FileSystem(endpoint_override=s3, allow_bucket_creation=True, region="us-east-1").create_dir("whole")
    url = "s3://whole/first"
    spec = changed({"output": url, "search": {"budget": {"trials": 6}, "inherit": "base"}})
    spec["trial"]["data"]["root"] = str(tmp_path / "data")
    spec["trial"]["train"]["epochs"] = 6
    path = write(tmp_path / "spec.yaml", spec)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first"))
    process = start("run", path)
    stored = tmp_path / "stored" / NAME
    wait_for(lambda: fetch_ledger(Remote(url), stored) and len(history(stored).in_state("finished")) >= 2, 400)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    fetch_ledger(Remote(url), stored)
    lost = history(stored)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    again = vattn("run", path, "--resume", "--json")

    assert again.returncode == 0, again.stderr
    searched = history(work_folder(url) / NAME)
    assert len(searched.trials) == 6  # besides the base, which has a number too
    for trial in [*searched.trials.values(), *searched.extras.values()]:
        assert [report.epoch for report in trial.reports] == list(range(1, 7))
        assert trial.state == "finished"
    for trial in lost.in_state("finished"):
        assert searched.trials[trial.number].reports == trial.reports
        assert len(searched.trials[trial.number].starts) == len(trial.starts)
    # The new machine had the clips from the store; all weights are there.
    assert "ingest" not in again.stderr
    assert not any("checkpoint" in name for name in Remote(url).files("trials"))
    best = json.loads(again.stdout)["front"][0]["trial"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "third"))
    done = vattn("export", url, "--pick", f"trial={best}", "--out", tmp_path / "o.yaml", "--weights", tmp_path / "w")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "w" / "model.pt").stat().st_size > 1000
