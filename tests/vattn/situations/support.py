"""The frame of the situations: a case makes a data set, and says what must come out of it.

Every frame is of one grey level, 8 times its number, so that the number can be read from the decoded frame.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from vattn.config import AnyData
from vattn.data import open_clips, workers
from vattn.data.dataset import listed
from vattn.errors import UserError

#: Difference of the grey levels of two successive numbers; a video of up to 32 frames can be numbered.
STEP = 8
HEIGHT, WIDTH = 32, 48
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One situation. What is None is not compared."""

    name: str
    make: Callable[[Path], object]
    """writes the data set into an empty folder"""
    data: Mapping[str, Any]
    """the section ``data`` of a spec, without root and cache"""
    labels: Sequence[str] | None = None
    """names of the classes"""
    rows: Sequence[tuple[str, ...]] | None = None
    """path, class and, if it matters, split of each stored clip, in any order"""
    frames: Mapping[str, Sequence[int]] | None = None
    """numbers of the stored frames, by path; for several clips of a path, one after another"""
    says: Sequence[str] = ()
    """texts that the error or the warnings must hold; none: there must be no warning"""
    status: int = 0
    """exit status of a command that reads the data set"""


@dataclass
class Outcome:
    """What came out of a data set."""

    status: int = 0
    text: str = ""
    labels: tuple[str, ...] = ()
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    frames: dict[str, list[int]] = field(default_factory=dict)


def check(case: Case, folder: Path, caplog: pytest.LogCaptureFixture) -> Outcome:
    """Make the input of a case below ``folder``, read it, and compare what comes out; return it for further checks."""
    root = folder / "set"
    root.mkdir()
    case.make(root)

    outcome = read(root, folder / "output", case.data, caplog)

    assert outcome.status == case.status, outcome.text
    for text in case.says:
        assert text in outcome.text
    assert "Traceback" not in outcome.text
    if not case.says:
        assert outcome.text == ""
    if case.labels is not None:
        assert list(outcome.labels) == list(case.labels)
    if case.rows is not None:
        assert sorted(row[: len(case.rows[0])] for row in outcome.rows) == sorted(case.rows)
    if case.frames is not None:
        assert outcome.frames == {path: list(numbers) for path, numbers in case.frames.items()}
    return outcome


def read(root: Path, output: Path, data: Mapping[str, Any], caplog: pytest.LogCaptureFixture) -> Outcome:
    """List and decode a data set, as each command does that needs one; errors of the user become status 2.

    Any other exception is not caught: a command would print its traceback.
    """
    caplog.clear()
    outcome = Outcome()
    tree = {"store": {"size": HEIGHT}} | dict(data) | {"root": str(root)}
    with caplog.at_level(logging.WARNING):
        try:
            config = TypeAdapter(AnyData).validate_json(json.dumps(tree))
            outcome.labels = tuple(config.labels())
            cache = listed(config, output).decode(run=run_here)
            _read_clips(cache, outcome)
        except (UserError, ValidationError) as error:
            outcome.status, outcome.text = 2, f"{error}\n"
    outcome.text += "\n".join(record.getMessage() for record in caplog.records)
    return outcome


def run_here(
    work: Callable[[Any], Any], jobs: Sequence[Any], processes: int, time_limit: float
) -> Iterator[tuple[Any, Any]]:
    """Do the jobs of an ingest in this process: to start another one takes longer than most cases."""
    for job in jobs:
        try:
            yield job, work(job)
        except UserError as error:
            yield job, workers.Failure(str(error))


def _read_clips(cache: Path, outcome: Outcome) -> None:
    for split in SPLITS:
        try:
            clips = open_clips(cache, split)
        except UserError:
            continue  # no clip of that split
        for i, path in enumerate(clips.paths):
            outcome.rows.append((path, outcome.labels[clips.labels[i]], split))
            outcome.frames.setdefault(path, []).extend(numbers(clips.clip(i)))


def frame(number: int) -> np.ndarray:
    """Return the frame of a number, uint8 RGB."""
    return np.full((HEIGHT, WIDTH, 3), STEP * number, np.uint8)


def numbers(clip: np.ndarray) -> list[int]:
    """Return the number of each frame of a decoded clip; of flow, that of its horizontal component."""
    return [round(float(pixels[..., 0].mean()) / STEP) for pixels in clip]


def texts(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Write lists and other text files below ``root``."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def images(folder: Path, pattern: str, numbers: Iterable[int], shown: Iterable[int] | None = None) -> None:
    """Write images named ``pattern % number`` that show their numbers, or the numbers ``shown``."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = list(numbers)
    for number, content in zip(numbers, numbers if shown is None else shown, strict=True):
        Image.fromarray(frame(content)).save(folder / (pattern % number), quality=95)


def video(path: Path, numbers: Iterable[int] = range(12), rate: int = 10, codec: str = "libx264") -> None:
    """Write a video whose frames show ``numbers``; files of other names differ, as copies in two splits are refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = f"{path.parent.name}/{path.name}"
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in numbers:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(number), format="rgb24")))
        container.mux(stream.encode(None))


def videos(root: Path, *names: str, frames: int = 12) -> None:
    """Write videos of ``frames`` frames, numbered from 0."""
    for name in names:
        video(root / name, range(frames))
