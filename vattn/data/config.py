"""The config of a data set: how to find its labelled files, how to store them, and how to draw clips from them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from vattn.base import LATER, Config, Kinded
from vattn.data.cache.format import JPEG_QUALITY
from vattn.data.mirror import mirror_labels, read_pairs
from vattn.data.untrimmed import Annotations, Metric
from vattn.errors import UserError
from vattn.files import at_home
from vattn.normalization import Normalize

#: Called with (stage, done, total) while work goes on; stages are "motion" and "ingest".
Progress = Callable[[str, int, int], None]

_Item = TypeVar("_Item")

#: Test protocols of published code: the kinds of sampling that each defines, with the greatest number of clips. The
#: rules are in `vattn.data.protocols`.
PROTOCOLS: dict[str, dict[str, int]] = {
    "tsn": {"segments": 1},
    "tsm": {"segments": 2, "dense": 100},
    "tanet": {"segments": 100, "dense": 100},
    "tdn": {"segments": 100},
    "slowfast": {"segments": 1, "dense": 100, "window": 100},
}


class StoreConfig(Config):
    """How the clip cache stores frames."""

    size: int = Field(
        80,
        ge=8,
        description="shorter side of the stored frames, pixels; at least model.size; in a file also auto: 8/7 of the "
        "largest model.size",
    )
    frames: Annotated[
        Literal["all"] | Annotated[int, Field(ge=1)],
        Field(description="frames stored of each clip, evenly spaced over its length; all: every frame"),
    ] = "all"
    codec: Annotated[
        Literal["raw", "jpeg"],
        Field(description="raw: uncompressed, fastest to read; jpeg: about a ninth of the size, slightly lossy"),
    ] = "raw"
    quality: int = Field(
        JPEG_QUALITY,
        ge=1,
        le=100,
        json_schema_extra=LATER,
        description="of codec jpeg, on libjpeg's scale; 75 takes about 6/10 of the space of 90",
    )

    def canonical(self) -> Self:
        """Return the same store, with a field that has no effect set to its default."""
        return self if self.codec == "jpeg" else self.model_copy(update={"quality": JPEG_QUALITY})

    def select(self, frames: Sequence[_Item]) -> list[_Item]:
        """Return the frames that the cache stores: all, or the middle frame of each of ``self.frames`` equal parts."""
        if self.frames == "all" or len(frames) <= self.frames:
            return list(frames)
        return [frames[(2 * i + 1) * len(frames) // (2 * self.frames)] for i in range(self.frames)]


class SamplingConfig(Config):
    """Which frames of a video make a clip; `vattn.data.sampling` has the rules."""

    kind: Annotated[
        Literal["segments", "dense", "uniform", "window"],
        Field(
            description="segments: one frame of each of T equal segments; dense: evenly spaced over 64 successive "
            "frames; uniform: evenly spaced over the whole video; window: T successive frames"
        ),
    ] = "segments"
    frames_per_segment: Annotated[
        Literal["auto", 1, 5],
        Field(
            description="successive frames read at each sampled position, the sampled frame in the middle; "
            "auto: as many as the backbone takes"
        ),
    ] = "auto"
    protocol: Annotated[
        Literal["auto", "tsm", "tsn", "tanet", "tdn", "slowfast"],
        Field(
            description="whose code determines the frames, the crops and the average over views in evaluation, to the "
            "frame; auto: the rules of `vattn.data.sampling`; `vattn.data.protocols` has the others",
            json_schema_extra=LATER,
        ),
    ] = "auto"


class ViewsConfig(Config):
    """Views of one video in evaluation: clips times crops. The softmax scores of all views are averaged.

    Papers write 10 x 3 for 10 clips and 3 crops, as in C. Feichtenhofer, H. Fan, J. Malik, K. He: "SlowFast Networks
    for Video Recognition", ICCV 2019, arXiv:1812.03982.
    """

    clips: int = Field(1, ge=1, le=100, description="clips of each video, evenly spaced over its length")
    crops: Annotated[
        Literal[1, 3],
        Field(description="square crops of each clip; 1: the centre; 3: the centre and both ends of the longer side"),
    ] = 1
    size: Literal["auto"] | Annotated[int, Field(ge=8)] = Field(
        "auto", json_schema_extra=LATER, description="side of the crops, pixels; auto: model.size"
    )
    short: Literal["auto"] | Annotated[int, Field(ge=8)] = Field(
        "auto",
        json_schema_extra=LATER,
        description="shorter side to which frames are scaled before they are cropped, pixels; at most store.size; "
        "auto: as stored",
    )

    @property
    def plain(self) -> bool:
        """Whether crops have the size of those of the training and are cut from frames as stored."""
        return self.size == self.short == "auto"

    def crop(self, size: int) -> int:
        """Return the side of the crops for a model that is trained with crops of ``size`` pixels."""
        return size if self.size == "auto" else self.size

    def needs(self, size: int) -> int:
        """Return the smallest shorter side of stored frames that these crops can be cut from, pixels."""
        return max(self.crop(size), 0 if self.short == "auto" else self.short)


class AugmentConfig(Config):
    """Random changes to training clips, the same for all frames of a clip; `vattn.data.augment` has the rules."""

    crop: Annotated[
        Literal["random", "center", "multiscale", "resized", "stretched"],
        Field(
            description="random, center: a square of the stored frame, not scaled; multiscale: the corner crops of "
            "TSN; resized: a crop of random area and aspect ratio; stretched: 224 x 224 of the frame scaled to "
            "256 x 342 pixels"
        ),
    ] = "random"
    flip: Annotated[
        bool,
        Field(
            description="mirror half of the clips left to right; classes that name a side (left, right) or a direction "
            "of turning (clockwise) are exchanged"
        ),
    ] = False
    mirror: str = Field(
        "auto",
        min_length=1,
        json_schema_extra=LATER,
        description="file of the classes that a flip exchanges, a pair a line, separated by a tab or a comma; a path "
        "below the root or absolute; a class beside itself does not change, a class beside none is never flipped; "
        "auto, and classes that the file does not name: by the words in their names",
    )
    color: float = Field(
        0,
        ge=0,
        le=1,
        description="strength of the jitter of brightness, contrast and saturation; hue is jittered with a quarter of "
        "it; 0: none",
    )
    randaugment: int = Field(0, ge=0, le=10, description="N of RandAugment, random operations on each clip; 0: none")
    magnitude: int = Field(9, ge=0, le=30, description="M of RandAugment, strength of each operation, of 30")
    mixup: float = Field(
        0, ge=0, description="alpha of MixUp, parameter of the Beta distribution of the mixing ratio; 0: no MixUp"
    )
    cutmix: float = Field(
        0, ge=0, description="alpha of CutMix, parameter of the Beta distribution of the pasted area; 0: no CutMix"
    )

    def canonical(self) -> Self:
        """Return the same augmentation, with fields that have no effect set to their defaults."""
        update: dict[str, object] = {} if self.randaugment else {"magnitude": 9}
        if not self.flip:
            update["mirror"] = "auto"
        elif at_home(self.mirror).is_absolute():
            update["mirror"] = Path(self.mirror).name
        return self.model_copy(update=update)


#: keys that say where files and frames lie: they may change between an interruption and a resume
PLACES = ("root", "cache", "local", "resident")


class DataConfig(Kinded):
    """One data set, and how clips are stored and drawn from it. Each layout of files is a subclass with a ``kind``."""

    kind: str = Field(description="layout of the data set's files")
    root: Annotated[
        str, Field(description="folder of the data set's files, as its owners publish it; auto: in the output folder")
    ] = "auto"
    split: Annotated[
        int | Literal["all"],
        Field(description="number of the train/test split, for data sets that have several; all: the mean over them"),
    ] = 1
    cache: Annotated[str, Field(description="folder of the clip cache; auto: in the output folder")] = "auto"
    local: Annotated[
        str,
        Field(
            description="folder on each node's own disk to which the clip cache is copied before a training; "
            "none: it is read where it is",
            json_schema_extra=LATER,
        ),
    ] = "none"
    resident: Annotated[
        Literal["auto"] | bool,
        Field(
            description="keep all stored frames of the training and validation clips, decoded, in the memory of the "
            "device; auto: on a GPU, if a split fits into a quarter of its free memory, and the training reads at "
            "least as many frames as are stored",
            json_schema_extra=LATER,
        ),
    ] = "auto"
    store: StoreConfig = Field(
        StoreConfig(),
        description="how the clip cache stores frames; in a file also auto: the size that the models need, with the "
        "frames, codec and quality that the disk can hold",
    )
    modality: Annotated[
        Literal["rgb", "diff", "flow"],
        Field(
            description="rgb: colours; diff: difference of each frame to the next; flow: optical flow, from images "
            "flow_x_NNNNN.jpg and flow_y_NNNNN.jpg in folders"
        ),
    ] = "rgb"
    normalize: Normalize = Field(
        "auto",
        json_schema_extra=LATER,
        description="how pixels are normalised; auto: as the weights expect that the training starts from, ImageNet's "
        "for none; imagenet, kinetics: statistics of torchvision's image and video models; half: from -1 to 1; or mean "
        "and std",
    )
    sampling: SamplingConfig = Field(SamplingConfig(), description="which frames of a video make a clip")
    views: ViewsConfig = Field(ViewsConfig(), description="clips and crops of each video in evaluation")
    augment: AugmentConfig = Field(AugmentConfig(), description="random changes to training clips")

    @field_validator("local")
    @classmethod
    def _none_or_absolute_path(cls, local: str) -> str:
        if local != "none" and not at_home(local).is_absolute():
            raise ValueError("must be none or an absolute path, as trainings run in folders of their own")
        return local

    @model_validator(mode="after")
    def _colours_exist(self) -> Self:
        if self.modality != "rgb" and (self.augment.color or self.augment.randaugment):
            raise ValueError(
                f"augment: color and randaugment change colours, which only modality rgb has; set both to 0 "
                f"(got modality {self.modality})"
            )
        return self

    @model_validator(mode="after")
    def _mirror_can_be_found(self) -> Self:
        mirror = self.augment.mirror
        if mirror != "auto" and self.root == "auto" and not at_home(mirror).is_absolute():
            raise ValueError(f"augment.mirror: must be an absolute path, as root is auto (got {mirror})")
        return self

    @model_validator(mode="after")
    def _protocol_defines_the_views(self) -> Self:
        sampling, views = self.sampling, self.views
        if sampling.protocol == "auto":
            return self
        kinds = PROTOCOLS[sampling.protocol]
        if sampling.kind not in kinds:
            raise ValueError(
                f"sampling.protocol: {sampling.protocol} has rules for sampling.kind {' and '.join(kinds)}; take "
                f"{'it' if len(kinds) == 1 else 'one of them'}, or protocol auto (got {sampling.kind})"
            )
        if views.clips > kinds[sampling.kind]:
            raise ValueError(
                f"views.clips: protocol {sampling.protocol} has at most {kinds[sampling.kind]} of sampling.kind "
                f"{sampling.kind}; take fewer, or protocol auto (got {views.clips})"
            )
        return self

    @model_validator(mode="after")
    def _frames_hold_the_crops(self) -> Self:
        views, stored = self.views, self.store.size
        if views.short != "auto" and views.size != "auto" and views.size > views.short:
            raise ValueError(f"views.short: must be at least views.size, {views.size} (got {views.short})")
        if views.short != "auto" and views.short > stored:
            raise ValueError(
                f"views.short: must be at most store.size, {stored}, as frames are not enlarged; raise that "
                f"(got {views.short})"
            )
        return self

    def labels(self) -> Sequence[str]:
        """Return the names of the classes; label i is the i-th."""
        raise NotImplementedError

    @property
    def is_untrimmed(self) -> bool:
        """Whether its clips are whole videos, which `annotations` say the actions of."""
        return False

    def annotations(self, paths: Sequence[str]) -> Annotations:
        """Return the actions of each video of ``paths``, below the root, where `is_untrimmed`.

        Raises UserError if the lists are missing or wrong.
        """
        raise NotImplementedError

    @property
    def detection(self) -> "tuple[float, Metric]":
        """Frames per second that a detector sees, and the rule of the average precision, where `is_untrimmed`."""
        raise NotImplementedError

    def num_classes(self) -> int:
        """Return the number of classes; labels are 0 ... num_classes - 1."""
        return len(self.labels())

    @property
    def awaits_files(self) -> bool:
        """Whether the files do not exist yet, and the config says what is needed of them: the number of classes."""
        return False

    def each_split(self) -> Sequence[Self]:
        """Return one config for each split that is trained and tested on: this config, or three for ``split: all``."""
        if self.split != "all":
            return [self]
        return [self.model_copy(update={"split": number}) for number in (1, 2, 3)]

    def supply(self, root: Path, progress: Progress | None = None) -> None:
        """Make sure that the files are below ``root``; raise UserError if the user must put them there."""
        if not root.is_dir():
            raise UserError(
                f"must be the folder of the {self.kind} files as their owners publish it",
                path="data.root",
                way_out=f"{root} {'is a file' if root.exists() else 'does not exist'}",
            )

    def mirrored(self) -> Sequence[int]:
        """Return, for each label, the label of its mirror image, by ``augment.mirror`` and by its name.

        -1 if there is no such class; clips of that label are not mirrored. Raises UserError if the file is wrong.
        """
        names, mirror = self.labels(), self.augment.mirror
        by_name = mirror_labels(names)
        if mirror == "auto":
            return by_name
        pairs = read_pairs(at_home(self.root) / at_home(mirror), names)
        return [pairs.get(label, -1 if opposite in pairs else opposite) for label, opposite in enumerate(by_name)]

    def preview(self, root: Path) -> pa.Table:
        """Return the rows of `manifest`; the files of a data set that is generated need not exist yet."""
        self.supply(root)
        return self.manifest(root)

    def clip_shape(self) -> tuple[int, int, int] | None:
        """Return (frames, height, width) of every clip, if the config says it."""
        return None

    def remarks(self, root: Path) -> Sequence[str]:
        """Return a sentence for each thing below ``root`` that may be meant for this data set, but is not used."""
        del root
        return ()

    def manifest(self, root: Path) -> pa.Table:
        """Return one row for each clip, with the columns below. No video is decoded.

        * path (string): the video or folder of frames, below ``root``.
        * label (int32).
        * split (string): ``train``, ``val`` or ``test``.
        * first, last (int64 or null, optional): the first and last frame of the clip, inclusive, as the number in the
          name of a folder's image, or counted from 0 in a video. Null is the first or last that exists.
        * seconds (float64, optional): length of the clip.
        * frames (int64 or null, optional): number of frames that the lists state. Where they state nothing else of a
          folder, first is 1 and last is that number, but the frames are counted from the first image that exists.

        Raises UserError if the lists are missing or wrong.
        """
        raise NotImplementedError

    def canonical(self) -> Self:
        """Return the same data in canonical form: where files and frames lie has no part in a trial's identity."""
        # Not the defaults of this kind, which may have none for its root.
        places = {name: DataConfig.model_fields[name].default for name in PLACES}
        parts = {"augment": self.augment.canonical(), "store": self.store.canonical()}
        if self.views.short == self.store.size:
            parts["views"] = self.views.model_copy(update={"short": "auto"})
        if self.sampling.kind == "segments" and self.views.clips == 1 and self.sampling.protocol in ("tsn", "tanet"):
            # Their single clip is that of tsm.
            parts["sampling"] = self.sampling.model_copy(update={"protocol": "tsm"})
        return self.model_copy(update=places | parts)
