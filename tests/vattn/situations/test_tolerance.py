"""One tolerance for missing files, for files that cannot be read, and for clips that differ from their lists."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.cli import main
from tests.vattn.situations.support import Case, check, images, numbers, read, texts, video, videos
from vattn.data import open_clips

HTML = "<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>"
LIST = {"kind": "list", "val": "none"}


def pages(root: Path, num_pages: int = 16, num_videos: int = 4, num_missing: int = 0) -> None:
    """Write a list of videos, of HTML pages that are named as videos, and of files that do not exist."""
    pages = [f"page{number}.mp4" for number in range(num_pages)]
    good = [f"good{number}.mp4" for number in range(num_videos)]
    gone = [f"gone{number}.mp4" for number in range(num_missing)]
    videos(root, *good)
    texts(root, dict.fromkeys(pages, HTML) | {"train.txt": "".join(f"{name} 0\n" for name in pages + good + gone)})


def kinetics(root: Path) -> None:
    """Write Kinetics lists of 400 classes, of which four have a video; all are stated to be 10 seconds long."""
    lines = [f"class {label},id{label},0,10,train" for label in range(400)]
    texts(root, {"train.csv": "\n".join(["label,youtube_id,time_start,time_end,split", *lines])})
    for label, seconds in enumerate((10, 7, 3, 30)):
        video(root / f"id{label}_000000_000010.mp4", range(seconds), rate=1)


CASES = [
    Case(
        name="16 of 20 files are HTML pages",
        make=pages,
        data=LIST,
        says=[
            "data.max_faults: ",
            "16 of 20 rows have problems (16 unreadable file); correct them, or accept them with data.max_faults: 16",
            "; what was decoded is kept (got 0)",
            "page0.mp4: unreadable file: Invalid data found when processing input",
            "page15.mp4: unreadable file: ",
        ],
        status=2,
    ),
    Case(
        name="16 HTML pages are accepted",
        make=pages,
        data=LIST | {"max_faults": 16},
        frames={f"good{number}.mp4": range(12) for number in range(4)},
        says=["16 of 20 rows have problems (16 unreadable file); files that cannot be", "failures.jsonl) are left out"],
    ),
    Case(
        name="16 HTML pages are accepted as a share",
        make=pages,
        data=LIST | {"max_faults": "80 %"},
        frames={f"good{number}.mp4": range(12) for number in range(4)},
        says=["16 of 20 rows have problems (16 unreadable file)"],
    ),
    Case(
        name="one more than the share",
        make=pages,
        data=LIST | {"max_faults": "79.99%"},
        says=["accept them with data.max_faults: 16; what was decoded is kept (got 79.99%)"],
        status=2,
    ),
    Case(
        name="missing files and HTML pages count together",
        make=lambda root: pages(root, 2, 4, 3),
        data=LIST | {"max_faults": 4},
        says=[
            "3 of 9 rows have problems (3 missing file); they are left out",
            "5 of 9 rows have problems (3 missing file, 2 unreadable file); correct them, or accept them with "
            "data.max_faults: 5; what was decoded is kept (got 4)",
        ],
        status=2,
    ),
    Case(
        name="too many missing files are refused before anything is decoded",
        make=lambda root: pages(root, 2, 4, 3),
        data=LIST | {"max_faults": 2},
        says=["(3 missing file); correct them, or leave them out with data.max_faults: 3 (got 2)"],
        status=2,
    ),
    Case(
        name="differences count with the others",
        make=lambda root: (
            images(root / "a", "%d.png", range(4)), videos(root, "b.mp4"), texts(root, {"page.mp4": HTML}),
            texts(root, {"train.txt": "a 20 0\nb.mp4 12 0\npage.mp4 0\ngone.mp4 1\n"}),
        ),
        data=LIST | {"max_faults": "75 %"},
        frames={"a": range(4), "b.mp4": range(12)},
        says=[
            "1 of 4 rows have problems (1 missing file)",
            "3 of 4 rows have problems (1 unreadable file, 1 fewer frames than stated, 1 missing file)",
        ],
    ),
    Case(
        name="no file can be read",
        make=lambda root: pages(root, 3, 0),
        data=LIST | {"max_faults": "100 %"},
        says=["none of its 3 files could be read; the first, page0.mp4: Invalid data"],
        status=2,
    ),
    Case(
        name="Kinetics: the seconds of the lists",
        make=kinetics,
        data={"kind": "kinetics", "max_faults": 398},
        frames={f"id{label}_000000_000010.mp4": range(seconds) for label, seconds in enumerate((10, 7, 3, 30))},
        says=[
            "396 of 400 rows have problems (396 missing file)",
            "398 of 400 rows have problems (396 missing file, 1 shorter than stated, 1 longer than stated)",
            "id2_000000_000010.mp4: shorter than stated: 3.0 seconds, and its list states 10.0",
            "id3_000000_000010.mp4: longer than stated: 30.0 seconds, and its list states 10.0",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_situation(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(case, tmp_path, caplog)


@pytest.mark.parametrize("value", [-1, 1.5, "1", "-1 %", "101 %", "1 percent", "%", True, "nan %"])
def test_a_tolerance_that_is_none_is_refused(value: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outcome = read(tmp_path, tmp_path / "output", LIST | {"max_faults": value}, caplog)

    assert outcome.status == 2
    assert "max_faults" in outcome.text


@pytest.mark.medium
def test_nothing_that_was_decoded_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set").mkdir()
    pages(tmp_path / "set", 2, 3)
    command = ["ingest", "list", str(tmp_path / "set"), "--out", str(tmp_path / "cache"), "--size", "32", "--jobs", "1"]
    command += ["--set", "val=none"]

    assert main(command) == 2
    refused = capsys.readouterr().err
    assert main([*command, "--set", "max_faults=40 %"]) == 0
    accepted = capsys.readouterr().err
    (tmp_path / "set/page0.mp4").write_bytes((tmp_path / "set/good0.mp4").read_bytes())
    assert main([*command, "--set", "max_faults=1"]) == 0
    corrected = capsys.readouterr().err

    assert "ingest: 5 of 5" in refused
    assert "2 of 5 rows have problems (2 unreadable file); correct them" in refused
    assert "ingest: " not in accepted
    # Three clips are taken over, and the two others are read again.
    assert "ingest: 4 of 5" in corrected
    caches = sorted((tmp_path / "cache").glob("*-*"), key=lambda folder: folder.stat().st_mtime_ns)
    assert [len(open_clips(cache, "train")) + len(open_clips(cache, "val")) for cache in caches] == [3, 4]
    assert numbers(open_clips(caches[-1], "train").clip(0)) == list(range(12))


@pytest.mark.medium
def test_all_splits_are_decoded_before_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    videos(root, *(f"{name}/f_{name}_{number}.avi" for name in ("run", "walk") for number in range(3)))
    texts(root, {"walk/f_walk_2.avi": HTML})
    lists: Callable[[str, int], str] = lambda name, test: "".join(  # noqa: E731
        f"f_{name}_{number}.avi {2 if number == test else 1}\n" for number in range(3)
    )
    texts(root, {f"{name}_test_split{k + 1}.txt": lists(name, k) for name in ("run", "walk") for k in range(3)})
    command = ["ingest", "hmdb51", str(root), "--out", str(tmp_path / "cache"), "--size", "32", "--set", "split=all"]

    assert main([*command, "--jobs", "1"]) == 2

    output = capsys.readouterr()
    assert output.out.count("5 clips, ") == 3
    assert "1 of 6 rows have problems (1 unreadable file); correct them" in output.err
    assert len(list((tmp_path / "cache").glob("*-*/index.arrow"))) == 3
