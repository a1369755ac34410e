"""What every data set is: a recipe that finds labelled files, and how clips are stored and drawn from it."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import pyarrow as pa
from pydantic import Field, model_validator

from vattn.base import Config, Kinded

#: Told as (stage, done, total) while work goes on; stages are "motion" and "ingest".
Progress = Callable[[str, int, int], None]


#: Words of class names that a mirror image turns into each other; as parts of longer words they mean something else.
_SIDES = re.compile(r"(?<![a-z])(?:left|right)(?![a-z])")
_OTHER = {"left": "right", "right": "left"}


class StoreConfig(Config):
    """How frames stand in the clip cache."""

    size: int = Field(80, ge=8, description="shorter side, pixels")
    frames: Annotated[
        Literal["all"] | Annotated[int, Field(ge=1)],
        Field(description="how many are kept of a clip, evenly over its length"),
    ] = "all"
    codec: Annotated[
        Literal["raw", "jpeg"], Field(description="raw: reads fastest; jpeg: a ninth of the size, slightly lossy")
    ] = "raw"


class SamplingConfig(Config):
    """Which frames make a clip; `vattn.data.sampling` has the rules."""

    kind: Annotated[
        Literal["segments", "dense", "uniform", "window"],
        Field(description="one of each segment; evenly of 64 frames; evenly of all; successive ones"),
    ] = "segments"
    frames_per_segment: Annotated[
        Literal["auto", 1, 5],
        Field(description="the chosen frame and its neighbours; auto: as the backbone takes them"),
    ] = "auto"


class ViewsConfig(Config):
    """Views of one video in evaluation, whose softmax is averaged: 10 x 3 are clips x crops."""

    clips: int = Field(1, ge=1, le=100, description="clips of a video, evenly over its length")
    crops: Annotated[Literal[1, 3], Field(description="the centre, or also both ends of the longer side")] = 1


class AugmentConfig(Config):
    """What training does to a clip, the same for all of its frames; `vattn.data.augment` has the rules."""

    crop: Annotated[
        Literal["random", "center", "multiscale", "resized", "stretched"],
        Field(description="as stored, at random or central; TSN's scales; any area and shape; of 256 x 342 pixels"),
    ] = "random"
    flip: Annotated[bool, Field(description="mirror half of the clips; classes that know sides change places")] = False
    color: float = Field(
        0, ge=0, le=1, description="jitter of brightness, contrast, saturation; a quarter of it of hue"
    )
    randaugment: int = Field(0, ge=0, le=10, description="RandAugment's N, operations on a clip")
    magnitude: int = Field(9, ge=0, le=30, description="RandAugment's M, strength of each, of 30")
    mixup: float = Field(0, ge=0, description="alpha of the share of a second clip; 0: none is blended in")
    cutmix: float = Field(0, ge=0, description="alpha of the area of a second clip; 0: none is pasted")

    def canonical(self) -> Self:
        """Return the same augmentation with what has no effect at its default."""
        return self if self.randaugment else self.model_copy(update={"magnitude": 9})


class DataConfig(Kinded):
    """One data set and how clips are drawn from it."""

    kind: str
    root: Annotated[str, Field(description="folder as its owners publish it")] = "auto"
    split: int | Literal["all"] = 1
    cache: Annotated[str, Field(description="folder of the clip cache")] = "auto"
    store: StoreConfig = StoreConfig()
    modality: Annotated[
        Literal["rgb", "diff", "flow"],
        Field(description="colours; their change to the next frame; flow_x_NNNNN.jpg and flow_y_NNNNN.jpg in folders"),
    ] = "rgb"
    sampling: SamplingConfig = SamplingConfig()
    views: ViewsConfig = ViewsConfig()
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _colours_are_there(self) -> Self:
        if self.modality != "rgb" and (self.augment.color or self.augment.randaugment):
            raise ValueError(
                f"augment: color and randaugment change colours, which there are in modality rgb; set both to 0 "
                f"(got modality {self.modality})"
            )
        return self

    def labels(self) -> Sequence[str]:
        """Names of the classes; label i is the i-th."""
        raise NotImplementedError

    def num_classes(self) -> int:
        """Number of labels; they are 0 ... num_classes - 1."""
        return len(self.labels())

    def each_split(self) -> Sequence[Self]:
        """Return the data that are trained and tested on one by one: these, or of ``split: all`` the three splits."""
        if self.split != "all":
            return [self]
        return [self.model_copy(update={"split": number}) for number in (1, 2, 3)]

    def supply(self, root: Path, progress: Progress | None = None) -> None:
        """Make sure that the files are below ``root``; raises ValueError where they must be put there by hand."""
        if not root.is_dir():
            raise ValueError(
                f"data.root: must be the folder of the {self.kind} files as their owners publish it; "
                f"{root} {'is a file' if root.exists() else 'does not exist'}"
            )

    def mirrored(self) -> Sequence[int]:
        """Return for each label that of its clips' mirror images: names that differ in left and right change places.

        -1 where there is no such class: its clips are not mirrored.
        """
        names = [name.lower() for name in self.labels()]
        numbers = {name: label for label, name in enumerate(names)}
        return [numbers.get(_SIDES.sub(lambda side: _OTHER[side[0]], name), -1) for name in names]

    def manifest(self, root: Path) -> pa.Table:
        """Return a row for each clip of the set: path (str, below root), label (int32), split (train | val | test).

        Where a set knows more, there are also first and last (int64 or null: frames, inclusive; the numbers in the
        names of a folder's frames, or from 0 in a video; null for the first and last there are) and seconds (float).
        """
        raise NotImplementedError

    def canonical(self) -> Self:
        """Return the same data in its one form; where files and caches stand is no part of it."""
        return self.model_copy(update={"root": "auto", "cache": "auto", "augment": self.augment.canonical()})
