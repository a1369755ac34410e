"""Distillation: a student learns from a teacher, which is trained already, and sees the same clips in its own way.

The teacher is in evaluation mode and has no gradient. It sees what the student sees, with the same random choices:

* **Video.** Where both networks see colours (or differences of colours), or both see optical flow, the teacher reads
  the student's stored frames. Otherwise it reads those of its own data, from the clip of the same name (the path
  without the suffix of a video).
* **Frames.** With as many frames as the student, those of the same numbers; the flow of a frame is that to the next.
  Otherwise its T frames are spread evenly over the student's, between the first and the last, rounded down. A number
  beyond the end is the last frame. Where the stored lengths differ by more than one frame, numbers are converted in
  proportion.
* **Pixels.** The same part of the picture, in proportion to the stored sizes, scaled to the teacher's size; mirrored,
  and mixed by MixUp and CutMix, as the student's. Changes of colours, and RandAugment, are those of the student for a
  teacher of colours. Other teachers see none.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import kl_div, mse_loss

from vattn.config import TrialConfig
from vattn.data import open_clips, prepare
from vattn.data.augment import Region
from vattn.data.cache import Clips
from vattn.data.config import DataConfig, Progress
from vattn.errors import UserError
from vattn.files import at_home, digest
from vattn.model import VideoModel, load_model
from vattn.training.batches.feed import feed
from vattn.training.batches.loader import Batches, View
from vattn.training.batches.pixels import normalise
from vattn.training.batches.sources import ResidentClips, node_cache
from vattn.weights import read_state
from vattn.weights.statistics import expected

PATH = "train.distill"
#: Operations whose strength is a number of pixels.
_SHIFTS = ("shift_x", "shift_y")


def mars_loss(features: Float[Tensor, "n c"], taught: Float[Tensor, "n c"]) -> Float[Tensor, ""]:
    """Return the mean squared difference of features, over clips and channels, as the code of MARS computes it."""
    return mse_loss(features, taught)


def kl_loss(scores: Float[Tensor, "n k"], taught: Float[Tensor, "n k"], temperature: float) -> Float[Tensor, ""]:
    """Return the squared temperature times the mean divergence of the student's classes from the teacher's.

    Both are the softmax of scores divided by the temperature. By the factor, gradients do not depend on the
    temperature to first order (Hinton, Vinyals, Dean).
    """
    own, other = ((x / temperature).log_softmax(1) for x in (scores, taught))
    return kl_div(own, other, reduction="batchmean", log_target=True) * temperature**2


class Teacher:
    """A teacher, on the device of the student.

    Args:
        config: the student's; ``train.distill`` is not none.
        clips: the student's training clips.
        cache: the folder of these.
        device: where the networks are.

    Raises:
        UserError: as `load_teacher` and `teacher_cache`, or a clip of the student is not among those of the teacher.
    """

    def __init__(self, config: TrialConfig, clips: Clips | ResidentClips, cache: Path, device: torch.device) -> None:
        distill = config.train.distill
        assert distill != "none"
        self._distill, self._device = distill, device
        self._data, self._model = distill.teacher.data, distill.teacher.model
        self._student = config
        self.net = load_teacher(config).to(device)
        self._statistics = expected(self._data, self._model.backbone, [at_home(distill.checkpoint)])
        self._own, self._clips = clips, clips
        self._index = np.arange(len(clips))
        if not shares_clips(config):
            own_cache = node_cache(teacher_cache(config, cache), self._data)
            self._clips = open_clips(own_cache, "train")
            self._index = _matched(open_clips(cache, "train").names, self._clips.names)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores (N, classes) and the features (N, C) of clips, uint8 (N, 3, T, H, W)."""
        return self.net(normalise(images, self._device, self._statistics), with_features=True)

    def loss(self, scores: Tensor, features: Tensor, taught: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
        """Return the weighted term of the loss.

        Args:
            scores: of the student, (N, classes), or (N, 1 + branches, classes), of which the model's own count.
            features: of the student.
            taught: what the teacher returned.
        """
        if self._distill.loss == "mars":
            return self._distill.factor * mars_loss(features, taught[1])
        own = scores if scores.dim() == 2 else scores[:, 0]
        return self._distill.factor * kl_loss(own, taught[0], self._distill.temperature)

    def batches(self, batches: Batches) -> Batches | None:
        """Return what the teacher sees of the student's batches; None if it is the same."""
        same = sees_the_same(self._student)
        return None if same else batches.beside(self._clips, self._seen, self._data, self._model)

    def _seen(self, view: View) -> View:
        """Return the teacher's view of a clip for the student's."""
        clip = int(self._index[view.clip])
        (frames, *size), (other_frames, *other_size) = (
            clips.shapes[number].tolist() for clips, number in ((self._own, view.clip), (self._clips, clip))
        )
        scale = self._model.size / self._student.model.size
        operations = [(name, strength * scale if name in _SHIFTS else strength) for name, strength in view.operations]
        return View(
            clip,
            frames_seen(view.frames, self._model.frames, frames, other_frames),
            region_seen(view.region, size, other_size),
            view.mirrored,
            operations if self._data.modality == "rgb" else (),
        )


def feed_both(batches: Batches, teacher: Teacher | None, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """Yield images, labels, and what a teacher sees: the student's images if there is none, or if it sees these."""
    other = teacher.batches(batches) if teacher else None
    if other is None:
        yield from ((images, labels, images) for images, labels in feed(batches, device))
    else:
        for (images, labels), (seen, _) in zip(feed(batches, device), feed(other, device), strict=True):
            yield images, labels, seen


def shares_clips(config: TrialConfig) -> bool:
    """Return whether the teacher reads the student's stored frames: both see colours, or both see optical flow."""
    distill = config.train.distill
    return distill == "none" or (distill.teacher.data.modality == "flow") == (config.data.modality == "flow")


def sees_the_same(config: TrialConfig) -> bool:
    """Return whether the images of the student are those that the teacher sees."""
    distill, own = config.train.distill, config.model
    if distill == "none" or not shares_clips(config) or config.data.modality != distill.teacher.data.modality:
        return distill == "none"
    other = distill.teacher.model
    around = own.backbone.frames_per_segment == other.backbone.frames_per_segment
    return around and (own.frames, own.size) == (other.frames, other.size)


def teacher_cache(config: TrialConfig, cache: Path, progress: Progress | None = None) -> Path:
    """Return the folder of the clips that a teacher reads of its own data, which are decoded if they are not yet.

    Args:
        config: the student's.
        cache: the folder of the student's clips. Those of a teacher whose ``data.cache`` is auto are beside it.
        progress: called while clips are decoded.

    Raises:
        UserError, StorageError: as `vattn.data.prepare`.
    """
    distill = config.train.distill
    assert distill != "none"
    data: DataConfig = distill.teacher.data
    if data.cache == "auto":
        data = data.model_copy(update={"cache": str(cache.parent)})
    try:
        return prepare(data, cache.parent, progress, test=False)
    except UserError as error:
        raise UserError(f"{PATH}.teacher: {error}") from error


def load_teacher(config: TrialConfig) -> VideoModel:
    """Return the teacher of a config, in evaluation mode and without gradients, on the CPU.

    Raises:
        UserError: the checkpoint is missing, another one than it was, or not of the teacher's config; or, for kl, its
            classes are not the student's.
    """
    distill = config.train.distill
    assert distill != "none"
    file, path = at_home(distill.checkpoint), f"{PATH}.checkpoint"
    try:
        if not file.is_file():
            raise UserError(f"there is no file {file}", way_out="put the weights of the teacher there")
        if (found := digest(file)) != distill.digest:
            raise UserError(
                f"{file} has changed since the config was read",
                way_out=f"put back the file, or take out {PATH}.digest", found=f"{found}, not {distill.digest}",
            )  # fmt: skip
        state = read_state(file)
        classes = state["fc.weight"].shape[0] if "fc.weight" in state else config.data.num_classes()
        net = load_model(distill.teacher.model, classes, file)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if distill.loss == "kl":
        _check_classes(config, classes)
    return net.eval().requires_grad_(False)


def _check_classes(config: TrialConfig, classes: int) -> None:
    """Raise UserError if the teacher's classes are not those of the student."""
    distill, own = config.train.distill, config.data.num_classes()
    assert distill != "none"
    if classes != own:
        raise UserError(
            f"kl compares classes, of which the teacher has {classes} and these data {own}", path=f"{PATH}.loss",
            way_out="take a teacher of these classes, or mars", found="kl",
        )  # fmt: skip
    try:
        labels = distill.teacher.data.labels()
    except UserError:  # the teacher's own data need not be there, if it reads the student's
        return
    if list(labels) != list(config.data.labels()):
        raise UserError(
            "kl compares classes, and those of the teacher have other names or another order", path=f"{PATH}.loss",
            way_out="take a teacher of these classes, or mars", found="kl",
        )  # fmt: skip


def frames_seen(frames: Int64[np.ndarray, " t"], count: int, own: int, other: int) -> Int64[np.ndarray, " s"]:
    """Return the numbers of the teacher's frames.

    Args:
        frames: the student's, in the order of the clip; after the last frame of a video may follow its first.
        count: how many frames the teacher sees.
        own: number of frames that are stored of the student's video.
        other: number of frames that are stored of the teacher's.
    """
    if count != len(frames):
        line = frames + own * np.cumsum(np.diff(frames, prepend=frames[0]) < 0)
        at = (np.arange(count) + 0.5) * len(frames) / count - 0.5
        frames = np.floor(np.interp(at, np.arange(len(frames)), line)).astype(np.int64) % own
    if abs(own - other) > 1:
        frames = (2 * frames + 1) * other // (2 * own)
    return frames.clip(max=other - 1)


def region_seen(region: Region, own: Sequence[int], other: Sequence[int]) -> Region:
    """Return the same part of frames of another (height, width), in whole pixels."""
    if list(own) == list(other):
        return region
    (top, bottom), (left, right) = (
        (round(start * to / side), max(round((start + length) * to / side), round(start * to / side) + 1))
        for start, length, side, to in zip(region[:2], region[2:], own, other, strict=True)
    )
    return Region(top, left, bottom - top, right - left)


def _matched(own: Sequence[str], others: Sequence[str]) -> Int64[np.ndarray, " clips"]:
    """Return the number of the teacher's clip for each of the student's; clips of one name match in their order."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(others):
        places[name].append(place)
    used: dict[str, int] = defaultdict(int)
    index, missing = np.zeros(len(own), np.int64), []
    for number, name in enumerate(own):
        if used[name] < len(places[name]):
            index[number] = places[name][used[name]]
            used[name] += 1
        else:
            missing.append(name)
    if missing:
        raise UserError(
            f"must have all training clips of the student; {len(missing)} of {len(own)} are missing, such as "
            f"{missing[0]}", path=f"{PATH}.teacher.data",
            way_out="compute their flow (vattn ingest --flow), or name the data in the teacher's config that have them",
        )  # fmt: skip
    return index
