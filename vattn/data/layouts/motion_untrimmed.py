"""Untrimmed videos that are generated: clips of the motion set, joined with background."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from vattn.data.layouts._base import OneSplit
from vattn.data.layouts.motion import SPLITS, GeneratedDataConfig
from vattn.data.motion import LABELS, Video, render, render_background
from vattn.data.untrimmed import Annotations, Metric, Rate, annotation

#: Frames per second of the videos.
FPS = 25.0
#: Shortest and longest background between two actions, frames.
GAP = (8, 32)
#: Shortest and longest action, frames.
ACTION = (16, 64)
#: Version of the drawing; increased when the same parameters give other pixels.
VERSION = 1


class MotionUntrimmedDataConfig(GeneratedDataConfig, kind="motion_untrimmed"):
    """Generated untrimmed videos for temporal detection: motions of the motion set, with background between them.

    Actions are 16 to 64 frames long and the background between them 8 to 32, at 25 frames per second. Each piece has a
    background of its own, so that a cut alone does not say where an action is.
    """

    kind: Literal["motion_untrimmed"] = "motion_untrimmed"
    split: OneSplit = 1
    modality: Literal["rgb", "diff"] = Field(
        "rgb", description="rgb: colours; diff: difference of each frame to the next"
    )
    motions: int = Field(16, ge=1, le=len(LABELS), description="number of classes: the first ones of the motion set")
    train_videos: int = Field(32, ge=1, le=1_000_000, description="training videos")
    val_videos: int = Field(16, ge=1, le=1_000_000, description="validation videos")
    test_videos: int = Field(16, ge=1, le=1_000_000, description="test videos")
    shortest: int = Field(
        128, ge=112, le=1_000_000, description="frames of the shortest video; it has room for an action in any case"
    )
    longest: int = Field(256, ge=112, le=1_000_000, description="frames of the longest video")
    size: int = Field(
        64, ge=32, le=4096, multiple_of=2, description="side of the square frames, pixels; even, as H.264 requires"
    )
    seed: int = Field(0, ge=0, description="random seed of the set")
    fps: Rate = FPS
    metric: Metric = "thumos14"

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(f"shortest: must be at most longest, {self.longest} (got {self.shortest})")
        return self

    def labels(self) -> tuple[str, ...]:
        """Return the names of the motions."""
        return LABELS[: self.motions]

    @property
    def is_untrimmed(self) -> bool:
        """Whether its clips are whole videos."""
        return True

    @property
    def detection(self) -> tuple[float, Metric]:
        """Frames per second that a detector sees, and the rule of the average precision."""
        return self.fps, self.metric

    def planned(self) -> "list[UntrimmedVideo]":
        """Return the files of the set."""
        counts = (self.train_videos, self.val_videos, self.test_videos)
        return [
            UntrimmedVideo(split, number)
            for split, count in zip(SPLITS, counts, strict=True) for number in range(count)
        ]  # fmt: skip

    def pieces(self, video: "UntrimmedVideo") -> "list[Piece]":
        """Return what follows each other in a video."""
        rng = np.random.default_rng([self.seed, SPLITS.index(video.split), video.number, 0])
        left = int(rng.integers(self.shortest, self.longest, endpoint=True))
        pieces: list[Piece] = []
        while left:
            is_action = bool(pieces) and pieces[-1].label is None
            low, high = ACTION if is_action else GAP
            frames = int(rng.integers(low, high, endpoint=True))
            label = int(rng.integers(self.motions)) if is_action else None
            if frames > left or left - frames < GAP[0]:
                # Background to the end: an action is never cut off.
                pieces.append(Piece(None, left))
                break
            pieces.append(Piece(label, frames))
            left -= frames
        return pieces

    def draw(self, file: "UntrimmedVideo") -> tuple[Video, float]:
        """Return the frames of a video, and how many are shown in a second."""
        rng = np.random.default_rng([self.seed, SPLITS.index(file.split), file.number, 1])
        parts = [
            render_background(rng, piece.frames, self.size)
            if piece.label is None
            else render(piece.label, rng, piece.frames, self.size)
            for piece in self.pieces(file)
        ]
        return np.concatenate(parts), FPS

    def annotations(self, paths: Sequence[str]) -> Annotations:
        """Return the actions of each video, which the config determines."""
        found = {}
        for path in paths:
            split, name = PurePosixPath(path).parts
            pieces = self.pieces(UntrimmedVideo(split, int(PurePosixPath(name).stem.rpartition("_")[2])))
            ends = np.cumsum([piece.frames for piece in pieces])
            found[path] = annotation(
                [
                    ((end - piece.frames) / FPS, end / FPS, piece.label)
                    for piece, end in zip(pieces, ends.tolist(), strict=True) if piece.label is not None
                ]
            )  # fmt: skip
        return found

    def clip_shape(self) -> tuple[int, int, int]:
        """Return (frames, height, width) of the longest video."""
        return self.longest, self.size, self.size

    def parameters(self) -> dict[str, int]:
        """Return everything that the files depend on."""
        names = ("motions", "train_videos", "val_videos", "test_videos", "shortest", "longest", "size", "seed")
        return {"untrimmed": VERSION} | {name: getattr(self, name) for name in names}


class Piece(NamedTuple):
    """A part of a video: an action, or background, of ``frames`` frames."""

    label: int | None
    frames: int


class UntrimmedVideo(NamedTuple):
    """One file of the set."""

    split: str
    number: int

    @property
    def label(self) -> int:
        """A video has no class of its own."""
        return 0

    @property
    def path(self) -> str:
        """The file's path below the root."""
        return f"{self.split}/video_{self.number:04}.mp4"
