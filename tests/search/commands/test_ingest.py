"""`vattn ingest` from the command line."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from search.cli import main
from vattn.data import open_clips


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of two classes, with one video of each in both splits."""
    for label in ("jump", "run"):
        for split in ("train", "val"):
            (tmp_path / "set" / split / label).mkdir(parents=True)
            with av.open(str(tmp_path / "set" / split / label / f"{label}.mp4"), "w") as container:
                stream = container.add_stream("libx264", rate=12)
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
                for _ in range(10):
                    pixels = np.full((48, 64, 3), 8 * len(label + split), np.uint8)
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
    return tmp_path / "set"


def test_ingesting_a_folder_of_classes_prints_the_predicted_size_and_writes_a_cache(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "train" / "run" / "text.mp4").write_text("not a video")
    out = tmp_path / "cache"
    command = ["ingest", "folders", str(root), "--out", str(out), "--size", "48", "--frames", "5", "--jobs", "1"]

    assert main(command) == 2
    output = capsys.readouterr()
    *_, rule, name = output.err.splitlines()
    assert rule.endswith(
        f"{root}: 1 of 5 rows have problems (1 unreadable file); correct them, or accept them with data.max_faults: 1; "
        "what was decoded is kept (got 0)"
    )
    assert name.startswith("  train/run/text.mp4: unreadable file: ")
    assert main([*command, "--set", "max_faults=20 %"]) == 0

    output = capsys.readouterr()
    assert "ingest: " not in output.err  # nothing is decoded again
    # The size is that of the 4 clips that can be read, and one more.
    assert f"about {5 * 5 * 48 * 64 * 3 / 1e3:.3g} kB in {out}, which is complete" in output.out
    assert "folders: 2 classes; clips: 3 training, 2 validation, 0 test" in output.out
    assert "only 2 validation clips: one is 50 points of accuracy" in output.out
    assert "4 clips, " in output.out
    assert "1 files could not be read: " in output.out
    (cache,) = out.glob("*-*")
    assert f"in a spec: data: {{kind: folders, root: {root}, cache: {out}, store: {{size: 48, frames: 5, " in output.out
    assert open_clips(cache, "train").shapes.tolist() == [[5, 48, 64]] * 2
    assert open_clips(cache, "val").labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["folder", "."], "vattn ingest: data.kind: must be one of "),
        (["folders", ".", "--codec", "png"], "vattn ingest: data.store.codec: must be "),
        (["folders", ".", "--frames", "0"], "vattn ingest: data.store.frames"),
        (["folders", "nowhere"], "nowhere does not exist"),
        (["folders", ".", "--set", "max_faults"], "--set max_faults: must be a path"),
    ],
)
def test_invalid_input_is_reported_and_ends_with_status_2(
    arguments: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ingest", *arguments, "--out", str(tmp_path / "cache")]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_the_json_has_classes_splits_and_caches_and_people_read_stderr(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["ingest", "folders", str(root), "--out", str(tmp_path / "cache"), "--size", "48", "--jobs", "1"]

    assert main([*arguments, "--json"]) == 0

    output = capsys.readouterr()
    tree = json.loads(output.out)
    (split,) = tree["splits"]
    assert split["clips"] == {"train": 2, "val": 2, "test": 0}
    assert split["clips_by_class"]["run"] == {"train": 1, "val": 1, "test": 0}
    assert (split["unreadable"], split["problems"]) == ([], [])
    assert Path(split["folder"]).is_dir()
    assert tree["cache"]["bytes"] == 4 * 10 * 48 * 64 * 3
    assert "only 2 validation clips" in output.err


def test_classes_that_look_the_same_are_refused_before_anything_is_decoded(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "val" / "run").rename(root / "val" / "Run")

    assert main(["ingest", "folders", str(root), "--out", str(tmp_path / "cache"), "--size", "48"]) == 2

    output = capsys.readouterr()
    assert "give each class one name (got 'Run' and 'run')" in output.err
    assert "problem        data: classes differ only in capitals" in output.out
    assert not list((tmp_path / "cache").glob("*-*"))
