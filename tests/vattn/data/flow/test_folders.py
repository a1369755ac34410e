"""Folders of flow have the layout of TSN's code, and are the flow data set of `kind: list`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from search.cli import main
from tests.vattn.data.flow.test_methods import moved
from tests.vattn_command import vattn
from vattn.data import open_clips, prepare
from vattn.data.flow import FlowFolders, Method
from vattn.data.flow import methods as module
from vattn.data.layouts.lists import ListDataConfig
from vattn.data.motion import encode
from vattn.errors import StorageError, UserError


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute a flow of 2 pixels to the right and 1 upwards, without OpenCV."""

    def flows(frames: Sequence[np.ndarray]) -> Any:
        return (np.broadcast_to(np.array([2, -1], np.float32), (*frame.shape[:2], 2)) for frame in frames[1:])

    monkeypatch.setattr(module, "_opencv", lambda: None)
    monkeypatch.setattr(module, "_tvl1_flows", flows)


def here(work: Callable[[Any], Any], jobs: Sequence[Any], processes: int, time_limit: float) -> Any:
    """Run jobs in this process, as `vattn.data.workers.run` does in others."""
    from vattn.data.workers import _outcome

    return ((job, _outcome(work, job)) for job in jobs)


def manifest(*rows: tuple[Any, ...]) -> pa.Table:
    """Return a manifest of (path, label, split, first, last)."""
    columns = ("path", "label", "split", "first", "last")
    return pa.table({name: [row[i] if i < len(row) else None for row in rows] for i, name in enumerate(columns)})


def video(path: Path, frames: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, np.zeros((frames, 32, 48, 3), np.uint8))


def folders(root: Path, out: Path, **options: Any) -> FlowFolders:
    return FlowFolders(root, out, **{"method": Method("tvl1"), "size": 32, "quality": 95} | options)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))


@pytest.mark.usefixtures("constant")
def test_a_video_becomes_a_folder_of_pairs_of_images(tmp_path: Path) -> None:
    video(tmp_path / "in/clap/a.mp4")

    outcome = folders(tmp_path / "in", tmp_path / "out").write([manifest(("clap/a.mp4", 0, "train"))], 1, run=here)

    assert (outcome.written, outcome.present, outcome.failures) == (1, 0, [])
    assert files(tmp_path / "out") == [f"clap/a/flow_{axis}_0000{n}.jpg" for axis in "xy" for n in (1, 2, 3)]
    x, y = (np.asarray(Image.open(tmp_path / f"out/clap/a/flow_{axis}_00001.jpg")) for axis in "xy")
    assert x.shape == (32, 48)
    # (2 + 20) / 40 * 255 = 140.25, (-1 + 20) / 40 * 255 = 121.1, and JPEG.
    assert np.abs(x.astype(int) - 140).max() <= 1
    assert np.abs(y.astype(int) - 121).max() <= 1


@pytest.mark.usefixtures("constant")
def test_what_is_done_is_skipped_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    rows = manifest(*((f"{name}.mp4", 0, "train") for name in "abc"))
    for name in "ab":
        video(tmp_path / f"in/{name}.mp4")
    (tmp_path / "in/c.mp4").write_bytes(b"no video")
    first = folders(tmp_path / "in", tmp_path / "out").write([rows], 1, run=here)
    before = (tmp_path / "out/a").stat().st_mtime_ns
    assert (first.written, [path for path, _ in first.failures]) == (2, ["c.mp4"])
    assert [json.loads(line)["path"] for line in (tmp_path / "out/failures.jsonl").read_text().splitlines()] == [
        "c.mp4"
    ]
    video(tmp_path / "in/c.mp4")

    second = folders(tmp_path / "in", tmp_path / "out").write([rows], 1, run=here)

    assert (second.written, second.present, second.failures) == (1, 2, [])
    assert (tmp_path / "out/a").stat().st_mtime_ns == before
    assert (tmp_path / "out/failures.jsonl").read_text() == ""


@pytest.mark.usefixtures("constant")
def test_a_video_of_one_frame_has_no_flow(tmp_path: Path) -> None:
    video(tmp_path / "in/a.mp4", frames=1)

    outcome = folders(tmp_path / "in", tmp_path / "out").write([manifest(("a.mp4", 0, "train"))], 1, run=here)

    assert "has a single frame, and flow needs two" in outcome.failures[0][1]


@pytest.mark.usefixtures("constant")
def test_the_lists_are_a_data_set_of_flow(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    for name in ("a b.mp4", "c.d.avi", "e.mp4"):
        video(root / "walk" / name, frames=7)
    (root / "run/f").mkdir(parents=True)
    for number in (5, 10, 15, 20):  # a folder of frames whose numbers are multiples
        Image.new("RGB", (48, 32)).save(root / f"run/f/img_{number:05}.jpg")
    rows = manifest(
        ("walk/a b.mp4", 0, "train"), ("walk/c.d.avi", 0, "train", 1, 3), ("walk/c.d.avi", 1, "test", 4, 6),
        ("walk/e.mp4", 0, "val", 0, None), ("run/f", 1, "train"), ("walk/gone.mp4", 1, "train"),
    )  # fmt: skip
    flow = folders(root, out)
    flow.write([rows], 1, run=here)

    counts = flow.write_lists(rows, ["walk", "run"])

    assert counts == {"train": 3, "val": 1, "test": 1}
    assert (out / "train.txt").read_text().splitlines() == ["walk/a b\t6\t0", "walk/c.d\t2\t3\t0", "run/f\t3\t1"]
    # The flow of the last frame is missing: images 5 and 6 of frames 4 to 6.
    assert (out / "test.txt").read_text() == "walk/c.d\t5\t2\t1\n"
    names = {"train": "train.txt", "val": "val.txt", "test": "test.txt", "names": "classes.txt"}
    data = ListDataConfig.parse(
        {"kind": "list", "root": str(out), "modality": "flow", "store": {"size": 32}, "max_faults": "100 %"} | names
    )
    assert list(data.labels()) == ["walk", "run"]
    cache = prepare(data, tmp_path)
    clips = open_clips(cache, "train")
    assert clips.shapes[:, 0].tolist() == [6, 3, 3]
    assert clips.names == ["walk/a b", "walk/c.d", "run/f"]
    assert np.abs(clips.clip(0)[0, ..., 0].astype(int) - 140).max() <= 1


@pytest.mark.usefixtures("constant")
def test_a_folder_that_cannot_be_written_ends_the_call(tmp_path: Path) -> None:
    video(tmp_path / "in/a/b.mp4")
    (tmp_path / "out").mkdir()
    flow = folders(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out/flow.json").write_text(json.dumps(flow._parameters))
    (tmp_path / "out/a").touch()  # a file in the place of a folder makes writing fail, as a full disk does

    with pytest.raises(StorageError, match=r"out: cannot be written: .*; make room and call again: it goes on"):
        flow.write([manifest(("a/b.mp4", 0, "train"))], 1, run=here)


@pytest.mark.usefixtures("constant")
def test_a_folder_of_other_parameters_or_files_is_refused(tmp_path: Path) -> None:
    video(tmp_path / "in/a.mp4")
    rows = manifest(("a.mp4", 0, "train"))
    folders(tmp_path / "in", tmp_path / "out").write([rows], 1, run=here)

    with pytest.raises(UserError, match=r"out: holds flow of size 32 \(asked for: 64\); name another folder"):
        folders(tmp_path / "in", tmp_path / "out", size=64).write([rows], 1, run=here)
    with pytest.raises(UserError, match=r"in: holds files, but no flow \(flow\.json\); name a new folder"):
        folders(tmp_path / "in", tmp_path / "in").write([rows], 1, run=here)
    video(tmp_path / "in/a.avi")
    both = manifest(("a.mp4", 0, "train"), ("a.avi", 0, "train"))
    with pytest.raises(UserError, match=r"a\.avi and a\.mp4 would have the same folder of flow; rename one"):
        folders(tmp_path / "in", tmp_path / "new").write([both], 1, run=here)


# The command, with OpenCV


@pytest.fixture
def translations(tmp_path: Path) -> Path:
    """A data set of class folders, whose videos move to the right, or to the left."""
    for split, count in (("train", 2), ("val", 1)):
        for name, shift in (("left", (-3, 0)), ("right", (3, 0))):
            for number in range(count):
                path = tmp_path / "set" / split / name / f"{number}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                encode(path, np.stack(moved([shift] * 2, size=48, seed=10 * count + number)))
    return tmp_path / "set"


@pytest.mark.medium
def test_the_command_writes_flow_that_a_spec_can_use(
    translations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2")
    (translations / "train/left/bad.mp4").write_bytes(b"damaged")
    command = [
        "ingest",
        "folders",
        str(translations),
        "--flow",
        "tvl1",
        "--out",
        str(tmp_path / "flow"),
        "--size",
        "48",
    ]

    assert main([*command, "--json", "--jobs", "1"]) == 0

    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["written"], result["present"], len(result["unreadable"])) == (6, 0, 1)
    assert result["lists"][0]["clips"] == {"train": 4, "val": 2, "test": 0}
    line = next(line for line in printed.err.splitlines() if line.startswith("in a spec: data: "))
    assert line.endswith("test: none, names: classes.txt, modality: flow}")
    names = {"train": "train.txt", "val": "val.txt", "names": "classes.txt"}
    tree = {"kind": "list", "root": str(tmp_path / "flow"), "modality": "flow", "store": {"size": 48}} | names
    clips = open_clips(prepare(ListDataConfig.parse(tree), tmp_path), "train")
    for number, label in enumerate(clips.labels.tolist()):
        x, y = np.median(clips.clip(number)[:, 12:-12, 12:-12, :2], axis=(0, 1, 2)) / 255 * 40 - 20
        assert x == pytest.approx(3 if label else -3, abs=0.35)  # a level is 0.16 pixels, and H.264 blurs
        assert y == pytest.approx(0, abs=0.35)
    assert main(command) == 0
    assert "flow of 6 videos" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_command_goes_on_and_leaves_no_half_folder(translations: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    words = ["ingest", "folders", str(translations), "--flow", "tvl1", "--out", str(tmp_path / "flow"), "--size", "48"]
    process = subprocess.Popen([sys.executable, "-m", "search", *words, "--jobs", "1"], env=os.environ)
    deadline = time.monotonic() + 100
    while not any((tmp_path / "flow").glob("*/*/[0-9]")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()

    done = vattn(*words, "--json")

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["present"] >= 1
    assert result["written"] + result["present"] == 6
    whole = {len(list(folder.iterdir())) for folder in (tmp_path / "flow").glob("*/*/[0-9]")}
    assert whole == {4}


def test_flow_of_flow_is_refused(translations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "ingest",
        "folders",
        str(translations),
        "--flow",
        "tvl1",
        "--modality",
        "flow",
        "--out",
        str(tmp_path / "x"),
    ]

    assert main(words) == 2
    assert "--flow: is computed from frames of colours; leave --modality out (got flow)" in capsys.readouterr().err
