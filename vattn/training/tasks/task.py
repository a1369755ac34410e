"""What a training of one task needs besides the loop that all tasks share: its batches, and its evaluation."""

from typing import Protocol

import numpy as np
import torch

from vattn.config import TrialConfig
from vattn.data.cache import Clips
from vattn.detection.config import RC3DConfig, SCNNConfig
from vattn.detection.samples import Samples, rc3d_samples, scnn_samples
from vattn.detection.scnn import SCNN
from vattn.detection.videos import Video, videos
from vattn.detection.windows import seconds_of, window_counts, window_prior
from vattn.errors import UserError
from vattn.training.batches.loader import Batches, train_batches
from vattn.training.batches.parts import training_parts
from vattn.training.batches.sources import ResidentClips
from vattn.training.evaluation import evaluate
from vattn.training.tasks.detecting import detect
from vattn.video_model import VideoModel

AnyClips = Clips | ResidentClips


class Task(Protocol):
    """One task: classification of clips, or detection in videos."""

    def num_samples(self, epoch: int) -> int:
        """Return the number of samples of a training epoch."""
        ...

    def begin(self, net: VideoModel) -> None:
        """Give ``net`` what it takes from the training data as a whole."""

    def batches(self, epoch: int, rank: int, world: int, start: int, device: torch.device) -> Batches:
        """Return one worker's share of a training epoch, see `vattn.training.batches.loader.train_batches`."""
        ...

    def evaluate(
        self, net: VideoModel, clips: AnyClips, device: torch.device, rank: int, world: int
    ) -> dict[str, float]:
        """Return the metrics of ``net`` on the clips of a split."""
        ...


class Classification:
    """Each clip has one label."""

    def __init__(self, config: TrialConfig, clips: AnyClips | None = None) -> None:
        self._config, self._clips = config, clips

    def num_samples(self, epoch: int) -> int:
        assert self._clips is not None
        return len(self._clips)

    def begin(self, net: VideoModel) -> None:
        pass

    def batches(self, epoch: int, rank: int, world: int, start: int, device: torch.device) -> Batches:
        assert self._clips is not None
        config = self._config
        return train_batches(
            self._clips, config.data, config.model, config.train, epoch, rank, world, start, device
        )  # fmt: skip

    def evaluate(
        self, net: VideoModel, clips: AnyClips, device: torch.device, rank: int, world: int
    ) -> dict[str, float]:
        return evaluate(net, clips, self._config, device, rank, world).metrics


class Detection:
    """Each video has segments with a label."""

    def __init__(self, config: TrialConfig, clips: AnyClips | None = None) -> None:
        self._config, self._clips = config, clips
        self._videos = [] if clips is None else videos(clips, config.data)
        self._fps = config.data.detection[0]
        self._known: tuple[int, Samples] | None = None
        self._evaluated: tuple[AnyClips, list[Video]] | None = None

    def num_samples(self, epoch: int) -> int:
        return len(self._samples(epoch).parts)

    def begin(self, net: VideoModel) -> None:
        if not isinstance(net, SCNN):
            return
        rows = np.concatenate([video.annotation.instances for video in self._videos])
        durations, labels = rows[:, 1] - rows[:, 0], rows[:, 2].astype(np.int64)
        seconds = seconds_of(net.config.lengths, self._fps)
        counts = window_counts(durations, labels, net.prior.shape[1], seconds)
        net.prior.copy_(torch.from_numpy(window_prior(counts)))

    def batches(self, epoch: int, rank: int, world: int, start: int, device: torch.device) -> Batches:
        assert self._clips is not None
        samples = self._samples(epoch)
        return training_parts(
            self._clips, self._videos, samples, self._config, epoch, rank, world, start, device
        )  # fmt: skip

    def evaluate(
        self, net: VideoModel, clips: AnyClips, device: torch.device, rank: int, world: int
    ) -> dict[str, float]:
        # The lists are read once in a training, not in each epoch.
        if self._evaluated is None or self._evaluated[0] is not clips:
            self._evaluated = clips, videos(clips, self._config.data)
        return detect(net, clips, self._config, device, rank, world, self._evaluated[1]).metrics

    def _samples(self, epoch: int) -> Samples:
        """Return the samples of an epoch; those of Segment-CNN are drawn anew for each."""
        if self._known is None or self._known[0] != epoch:
            samples = self._drawn(epoch)
            if not len(samples.parts):
                raise UserError(
                    "no buffer or window of the training videos contains enough of an action", path="model.frames",
                    way_out="take another length", found=self._config.model.frames,
                )  # fmt: skip
            self._known = epoch, samples
        return self._known[1]

    def _drawn(self, epoch: int) -> Samples:
        data, model = self._config.data, self._config.model
        mirrored = data.mirrored() if data.augment.flip else None
        if isinstance(model.detector, RC3DConfig):
            return rc3d_samples(self._videos, model.detector, model.frames, self._fps, mirrored)
        assert isinstance(model.detector, SCNNConfig)
        rng = np.random.default_rng([self._config.train.seed, epoch])
        return scnn_samples(self._videos, model.detector, model.frames, self._fps, mirrored, rng)


def task_of(config: TrialConfig, clips: AnyClips | None = None) -> Task:
    """Return the task of a trial; ``clips`` are those that it trains on."""
    return (Detection if config.task == "detection" else Classification)(config, clips)
