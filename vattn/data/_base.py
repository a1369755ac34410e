"""What every data set is: a recipe that finds labelled files, and how clips are stored and drawn from it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field

from vattn.base import Config, Kinded, planned

#: Told as (stage, done, total) while work goes on; stages are "motion" and "ingest".
Progress = Callable[[str, int, int], None]


class StoreConfig(Config):
    """How frames stand in the clip cache."""

    size: int = Field(80, ge=8, description="shorter side, pixels")
    frames: Annotated[Literal["all"], Field(description="how many frames are kept")] = "all"
    codec: Annotated[Literal["raw"], planned("jpeg")] = "raw"


class SamplingConfig(Config):
    """Which frames make a clip."""

    kind: Annotated[Literal["segments"], planned("dense", "uniform", "window")] = "segments"
    frames_per_segment: Annotated[
        Literal["auto", 1, 5],
        Field(description="the chosen frame and its neighbours; auto: as the backbone takes them"),
    ] = "auto"


class ViewsConfig(Config):
    """Views of one video in evaluation, whose softmax is averaged."""

    clips: Literal[1] = 1
    crops: Literal[1] = 1


class AugmentConfig(Config):
    """What training does to a clip, the same for all of its frames."""

    crop: Literal["random", "center"] = "random"
    flip: Annotated[bool, Field(description="mirror left and right at random; wrong where labels know sides")] = False


class DataConfig(Kinded):
    """One data set and how clips are drawn from it."""

    kind: str
    root: Annotated[str, Field(description="folder as its owners publish it")] = "auto"
    split: int = Field(1, ge=1)
    cache: Annotated[str, Field(description="folder of the clip cache")] = "auto"
    store: StoreConfig = StoreConfig()
    modality: Annotated[Literal["rgb"], planned("diff", "flow")] = "rgb"
    sampling: SamplingConfig = SamplingConfig()
    views: ViewsConfig = ViewsConfig()
    augment: AugmentConfig = AugmentConfig()

    def labels(self) -> Sequence[str]:
        """Names of the classes; label i is the i-th."""
        raise NotImplementedError

    def num_classes(self) -> int:
        """Number of labels; they are 0 ... num_classes - 1."""
        return len(self.labels())

    def supply(self, root: Path, progress: Progress | None = None) -> None:
        """Make sure that the files are below ``root``; raises ValueError where they must be put there by hand."""
        if not root.is_dir():
            raise ValueError(
                f"data.root: must be the folder of the {self.kind} files as their owners publish it; "
                f"{root} {'is a file' if root.exists() else 'does not exist'}"
            )

    def manifest(self, root: Path) -> pa.Table:
        """Return (path: str below root, label: int32, split: train | val | test) of every file of the set."""
        raise NotImplementedError
