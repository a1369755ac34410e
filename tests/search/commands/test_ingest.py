"""`vattn ingest` from the command line."""

from pathlib import Path

import av
import numpy as np
import pytest

from search.cli import main
from search.commands.ingest import format_bytes
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
                    frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
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
    # 5 clips of 5 frames of 48 x 64 pixels.
    assert output.err.startswith(f"5 clips; about {5 * 5 * 48 * 64 * 3 / 1e3:.3g} kB in {out}, which has ")
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


def test_sizes_are_printed_with_three_digits() -> None:
    assert [format_bytes(count) for count in (999, 1500, 2.5e9, 3e15)] == ["999 bytes", "1.5 kB", "2.5 GB", "3e+03 TB"]
