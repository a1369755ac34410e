"""Predict with a trained model: from a video to probabilities, exactly as `vattn test` scores it."""

from copy import copy
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from vattn.config import TrialConfig
from vattn.convert import adopt
from vattn.data.config import AugmentConfig
from vattn.data.decode import UnreadableFileError
from vattn.data.ingest import read_clip
from vattn.data.layouts import LayoutConfig
from vattn.errors import UserError
from vattn.files import at_home
from vattn.model import VideoModel, build_model, network_on_meta
from vattn.normalization import named
from vattn.trained.file import ModelFile
from vattn.training.batches.sources import ResidentClips
from vattn.training.device import default_device
from vattn.training.evaluation import score
from vattn.weights import Fit
from vattn.weights.families import Recognised, recognise
from vattn.weights.statistics import statistics

#: what a model of a task gives in place of another one, and the function that loads it
_OTHERS = {
    "detection": ("is a detector, and gives segments of a video in place of classes", "load_detector"),
    "classification": ("is a classifier, and gives classes of a video in place of segments", "load"),
}


class Trained(NamedTuple):
    """A trained network, its config and the names of its classes."""

    config: TrialConfig
    net: VideoModel
    labels: tuple[str, ...]


class Prediction(NamedTuple):
    """A class and its probability."""

    label: str
    probability: float


class Loaded:
    """A trained network that needs nothing but its file.

    Args:
        file: what the file of the model says.
        device: where it computes; None: the GPU if there is one.

    Raises:
        UserError: the model is of another task, or the weights are not those of the config or are for another number of
            classes.
    """

    task: ClassVar[str]

    def __init__(self, file: ModelFile, device: torch.device | None = None) -> None:
        if file.config.task != self.task:
            rule, function = _OTHERS[file.config.task]
            raise UserError(rule, file=file.file, way_out=f"in Python, take vattn.{function}")
        self.file = file
        self.device = device or default_device()
        recognised = recognise(file.checkpoint)
        net = _network(file, recognised).to(self.device).eval()
        expected = recognised.statistics or statistics(file.config)
        data = file.config.data.model_copy(update={"normalize": named(expected), "augment": AugmentConfig()})
        self.trained = Trained(file.config.model_copy(update={"data": data}), net, file.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.trained.labels


class TrainedModel(Loaded):
    """A trained classifier, see `Loaded`; a call with a video returns its classes."""

    task = "classification"

    def with_views(self, clips: int, crops: int) -> "TrainedModel":
        """Return the same model, which averages over other numbers of clips and crops; raise UserError if it cannot."""
        tree = self.trained.config.tree()
        tree["data"]["views"] |= {"clips": clips, "crops": crops}
        try:
            config = TrialConfig.parse(tree)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UserError(reason, path="--views") from None
        other = copy(self)
        other.trained = self.trained._replace(config=config)
        return other

    def __call__(self, video: str | Path, top: int = 5) -> list[Prediction]:
        """Return the classes of a video with the highest probabilities, the best first.

        Args:
            video: a file, or a folder of images; for a model of optical flow, a folder of its images.
            top: number of classes.

        Raises:
            UserError: the video cannot be read.
        """
        probabilities = self.probabilities(video)
        best = probabilities.topk(min(top, len(probabilities)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [Prediction(self.labels[label], probability) for label, probability in pairs]

    def probabilities(self, video: str | Path) -> Tensor:
        """Return the probability of each class, averaged over the views of the config; raise as a call does."""
        config, net, _ = self.trained
        ((scores, _),) = score(net, resident_clip(config, video, self.device), config, self.device)
        return scores[0, 0].softmax(0).cpu()


def resident_clip(config: TrialConfig, video: str | Path, device: torch.device) -> ResidentClips:
    """Return a video as a split of one clip, stored as the clip cache of the config would store it.

    Raises:
        UserError: the video cannot be read, or its frames are smaller than the crops.
    """
    path, data = at_home(video), config.data
    if not path.exists():
        raise UserError("there is no such file", file=video)
    prefix = data.prefix if isinstance(data, LayoutConfig) else "auto"
    try:
        stored = read_clip(path, data.store, "flow" if data.modality == "flow" else "rgb", prefix)
    except (UnreadableFileError, OSError) as error:
        raise UserError(f"cannot be read: {error}", file=video) from error
    return ResidentClips.of_video(stored.video(data.store.codec), device)


def _network(file: ModelFile, recognised: Recognised) -> VideoModel:
    """Return the network with its weights, which are compared with the config before memory is taken for it."""
    model, classes = file.config.model.without_weights(), len(file.labels)
    own = network_on_meta(model, classes).state_dict()
    adopted = adopt(recognised, model, own)
    if not (fit := Fit.of(adopted.state, own)):
        raise UserError(f"its weights are not of its config and its {classes} classes: {fit}", file=file.file)
    net = build_model(model, classes)
    net.load_state_dict(adopted.state, strict=False)
    return net
