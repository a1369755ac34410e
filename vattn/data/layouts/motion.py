"""The generated motion data set: its config, and how its files are written. `vattn.data.motion` draws the clips."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from pydantic import Field

from vattn.data import workers
from vattn.data.config import DataConfig, Progress
from vattn.data.layouts._base import OneSplit
from vattn.data.motion import FRAMES_PER_SECOND, LABELS, Video, encode, render
from vattn.errors import StorageError, UserError
from vattn.files import LOCK, locked, part_of, replacing, write_whole

SPLITS = ("train", "val", "test")

#: File with the parameters that the other files depend on; written first.
PARAMETERS = "motion.json"
#: List of the files; written last, so a set that has it is complete.
MANIFEST = "manifest.csv"
#: Version of the drawing; increased when the same parameters give other pixels.
VERSION = 1


class Planned(Protocol):
    """A file of a generated set."""

    @property
    def split(self) -> str:
        """The split that it is in."""
        ...

    @property
    def label(self) -> int:
        """The number of its class."""
        ...

    @property
    def path(self) -> str:
        """The file's path below the root."""
        ...


class GeneratedDataConfig(DataConfig):
    """A data set whose videos are drawn when they are first needed."""

    @abstractmethod
    def planned(self) -> Sequence[Planned]:
        """Return the files of the set."""

    @abstractmethod
    def draw(self, file: Any) -> tuple[Video, float | int]:
        """Return the frames of one of the files, and how many are shown in a second; it depends on nothing else."""

    @abstractmethod
    def parameters(self) -> dict[str, int]:
        """Return everything that the files depend on."""

    def supply(self, root: Path, progress: Progress | None = None) -> None:
        """Generate the set below ``root`` unless it is complete."""
        if not (root / MANIFEST).is_file():
            generate(self, root, progress=progress)

    def manifest(self, root: Path) -> pa.Table:
        """Return (path, label, split) of every file; raise UserError if ``root`` has no complete set, or another."""
        _check_parameters(self, root)
        if not (root / MANIFEST).is_file():
            raise UserError("has no complete motion set", file=root, way_out=f"write it with: vattn motion {root}")
        return _read_manifest(root / MANIFEST)

    def preview(self, root: Path) -> pa.Table:
        """Return (path, label, split) of every file that the set has or will have."""
        if (root / MANIFEST).is_file():
            return self.manifest(root)
        return _read_manifest(BytesIO(_manifest(self.planned()).encode()))


class MotionDataConfig(GeneratedDataConfig, kind="motion"):
    """The generated motion set: 16 classes of motion, in pairs of which one is the other in reverse."""

    kind: Literal["motion"] = "motion"
    split: OneSplit = 1
    modality: Literal["rgb", "diff"] = Field(
        "rgb", description="rgb: colours; diff: difference of each frame to the next"
    )
    train_clips: int = Field(50, ge=1, description="training clips of each class")
    val_clips: int = Field(30, ge=1, description="validation clips of each class")
    test_clips: int = Field(20, ge=1, description="test clips of each class")
    frames: int = Field(24, ge=2, description="frames of each clip")
    size: int = Field(
        80, ge=32, multiple_of=2, description="side of the square frames, pixels; even, as H.264 requires"
    )
    seed: int = Field(0, ge=0, description="random seed of the set")

    def labels(self) -> tuple[str, ...]:
        """Return the names of the motions; label 2k + 1 is label 2k in reverse."""
        return LABELS

    def planned(self) -> "list[Clip]":
        """Return the files of the set."""
        counts = (self.train_clips, self.val_clips, self.test_clips)
        return [
            Clip(split, label, number)
            for split, count in zip(SPLITS, counts, strict=True)
            for label in range(len(LABELS))
            for number in range(count)
        ]

    def draw(self, file: "Clip") -> tuple[Video, float | int]:
        """Return the frames of a clip, and how many are shown in a second."""
        rng = np.random.default_rng([self.seed, SPLITS.index(file.split), file.label, file.number])
        return render(file.label, rng, self.frames, self.size), FRAMES_PER_SECOND

    def clip_shape(self) -> tuple[int, int, int]:
        """Return (frames, height, width) of every clip."""
        return self.frames, self.size, self.size

    def parameters(self) -> dict[str, int]:
        """Return everything that the files depend on."""
        names = ("train_clips", "val_clips", "test_clips", "frames", "size", "seed")
        return {"version": VERSION} | {name: getattr(self, name) for name in names}


class Clip(NamedTuple):
    """One file of the set."""

    split: str
    label: int
    number: int

    @property
    def path(self) -> str:
        """The file's path below the root."""
        name = LABELS[self.label]
        return f"{self.split}/{name}/{name}_{self.number:04}.mp4"


def generate(
    config: GeneratedDataConfig, out: Path, jobs: int | Literal["auto"] = "auto", progress: Progress | None = None
) -> None:
    """Write a motion set: ``{train,val,test}/LABEL/LABEL_NNNN.mp4`` and the manifest.

    A complete set is left as it is, an interrupted one is completed. Each file depends on the config and its own name
    only, whichever process writes it.

    Args:
        config: numbers of clips, and their length and size.
        out: folder of the set.
        jobs: number of processes; auto: one for each processor core.
        progress: called after each file.

    Raises:
        UserError: ``out`` holds something else.
        StorageError: a file cannot be written.
    """
    clips = config.planned()
    with locked(out):
        _check_parameters(config, out)
        if (out / MANIFEST).is_file():
            return
        write_whole(out / PARAMETERS, json.dumps(config.parameters(), indent=2) + "\n")
        missing = [clip for clip in clips if not (out / clip.path).is_file()]
        processes = workers.cores() if jobs == "auto" else jobs
        written = workers.run(partial(write_clip, config, out), missing, processes)
        for done, (clip, outcome) in enumerate(written, start=len(clips) - len(missing) + 1):
            if isinstance(outcome, workers.Failure):
                reason = f"could not be written: {outcome.reason}"
                raise StorageError(f"{out / clip.path}: {reason}; make room and call again: it goes on")
            if progress is not None:
                progress("motion", done, len(clips))
        write_whole(out / MANIFEST, _manifest(clips))


def _manifest(clips: Sequence[Planned]) -> str:
    """Return the text of the list of a set's files."""
    return "path,label,split\n" + "".join(f"{clip.path},{clip.label},{clip.split}\n" for clip in clips)


def _read_manifest(file: Path | BytesIO) -> pa.Table:
    types = {"path": pa.string(), "label": pa.int32(), "split": pa.string()}
    return pa_csv.read_csv(file, convert_options=pa_csv.ConvertOptions(column_types=types))


def write_clip(config: GeneratedDataConfig, out: Path, clip: Planned) -> None:
    """Draw and encode one clip; it depends on the config and on ``clip``, and on nothing else."""
    path = out / clip.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        encode(part, *config.draw(clip))


def _check_parameters(config: GeneratedDataConfig, root: Path) -> None:
    """Raise UserError if ``root`` holds anything but a motion set, complete or not, of these parameters."""
    if (root / PARAMETERS).is_file():
        present, wanted = json.loads((root / PARAMETERS).read_text()), config.parameters()
        differences = [
            f"{name} {present.get(name)} (asked for: {wanted[name]})"
            for name in wanted
            if present.get(name) != wanted[name]
        ]
        if differences:
            raise UserError(
                f"holds a motion set of {', '.join(differences)}",
                file=root,
                way_out="name another folder, or remove it",
            )
    elif root.is_dir() and {entry.name for entry in root.iterdir()} - {LOCK, part_of(root / PARAMETERS).name}:
        raise UserError(f"holds files, but not of a motion set ({PARAMETERS})", file=root, way_out="name a new folder")
