"""The network of a config for whole clips: a backbone with mechanisms, and a classifier on its features."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vattn.backbones import Backbone
from vattn.backbones._residual import BlocksConfig
from vattn.config import ModelConfig
from vattn.insert import fold, insert
from vattn.sparse import class_maps

#: Returns the mean loss of scores (N, classes) with their labels.
Loss = Callable[[Tensor, Tensor], Tensor]


class VideoModel(nn.Module):
    """A backbone with mechanisms, and a classifier whose scores are averaged over frames.

    The average is the segmental consensus of TSN (Wang, Xiong, Wang, Qiao, Lin, Tang and Van Gool, "Temporal Segment
    Networks: Towards Good Practices for Deep Action Recognition", ECCV 2016). In the state dict, names of the backbone
    and the mechanisms in it start with ``backbone.``, those of the classifier with ``fc.``.

    Shape: (N, 3, T, H, W) -> logits (N, classes); `forward` with ``with_features`` also returns the features (N, C) of
    clips. A backbone with ``frames_per_segment`` F expects T * F frames, one of optical flow 2 channels.
    """

    #: Names of further scores that `scores` returns.
    branches: tuple[str, ...] = ()
    #: In training, ``forward`` also takes the targets and returns several losses in place of scores.
    takes_targets: ClassVar[bool] = False

    def __init__(self, model: ModelConfig, classes: int) -> None:
        super().__init__()
        self.backbone = model.backbone.build()
        insert(self.backbone, model)
        self.dropout = nn.Dropout(model.head.dropout)
        self.fc = classifier(*self.head_size(model, classes))
        self.folds, self.input_channels = model.backbone.folds, model.backbone.input_channels
        if isinstance(model.backbone, BlocksConfig):
            model.backbone.leave_out_blocks(self.backbone, model.frames if self.folds else 1)
        #: modules that stay in evaluation mode, without those inside them
        self.still: list[nn.Module] = []

    def head_size(self, model: ModelConfig, classes: int) -> tuple[int, int]:
        """Return the numbers of inputs and outputs of the classifier."""
        return self.backbone.channels, classes

    def backbones(self) -> Sequence[Backbone]:
        """Return the backbone, and those of further networks."""
        return [self.backbone]

    def forward(
        self, clips: Float[Tensor, "n colours t h w"], with_features: bool = False
    ) -> Tensor | tuple[Tensor, Float[Tensor, "n c"]]:
        features = self.features(clips)
        scores = self._classify(features)
        return (scores, features.mean(1)) if with_features else scores

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules but ``still``."""
        super().train(mode)
        for module in self.still:
            module.training = False
        return self

    def roles(self) -> dict[str, list[nn.Module]]:
        """Return the parts that can have learning rates of their own, by the keys of `RatesConfig`."""
        return {
            "new": self.backbone.mechanisms,
            "head": [module for module in self.children() if isinstance(module, nn.Linear)],
            "first": self.backbone.first_convolutions(),
        }

    def features(self, clips: Float[Tensor, "n colours t h w"]) -> Float[Tensor, "n rows c"]:
        """Return one row of features per frame from a 2D backbone, or one row per clip from a 3D backbone."""
        if clips.shape[1] != self.input_channels:
            raise ValueError(
                f"the network takes clips of {self.input_channels} channels: "
                f"{'optical flow' if self.input_channels == 2 else 'colours'} (got {clips.shape[1]})"
            )
        rows = self.backbone(fold(clips) if self.folds else clips)
        return rows.unflatten(0, (clips.shape[0], -1))

    def class_maps(
        self, clips: Float[Tensor, "n colours f h w"]
    ) -> tuple[Float[Tensor, "n rows c"], Float[Tensor, "n t classes i j"]]:
        """Return the features of clips, and the response of each class at each pixel of each frame."""
        maps = self.backbone.maps(fold(clips) if self.folds else clips)
        features = self.backbone.features_of(maps).unflatten(0, (clips.shape[0], -1))
        images = maps if self.folds else fold(maps)
        return features, class_maps(images, self.fc.weight, self.fc.bias).unflatten(0, (clips.shape[0], -1))

    def _classify(self, features: Float[Tensor, "n rows c"]) -> Float[Tensor, "n classes"]:
        return self.fc(self.dropout(features.flatten(0, 1))).unflatten(0, features.shape[:2]).mean(1)

    def begin(self, epoch: int, epochs: int) -> None:
        """Prepare for training epoch number ``epoch``, from 1, of ``epochs``."""

    def loss(self, scores: Tensor, labels: Tensor, criterion: Loss = cross_entropy) -> Float[Tensor, ""]:
        """Return the training loss of the scores that `forward` returned in training mode.

        Args:
            scores: the scores of clips.
            labels: their labels, int64 (N), or the shares of the classes, float32 (N, classes).
            criterion: returns the mean loss of scores (N, classes).
        """
        return criterion(scores, labels)

    def trial_loss(self, clips: Float[Tensor, "n colours t h w"]) -> Float[Tensor, ""]:
        """Return a loss of the same cost as in training, on any device, also on one that has no values."""
        return self.loss(self(clips), torch.zeros(len(clips), dtype=torch.long, device=clips.device))

    def scores(self, clips: Float[Tensor, "n colours t h w"]) -> Float[Tensor, "n b classes"]:
        """Return the model's scores, followed by the scores of each of ``branches``."""
        return self(clips).unsqueeze(1)


def use_channels_last(net: nn.Module) -> None:
    """Put the weights into the memory format ``channels_last``, which the loader's clips have."""
    # Not by net.to(memory_format=...), which refuses a network with both 2D and 3D convolutions.
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in net.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])


def classifier(channels: int, classes: int) -> nn.Linear:
    """Return a linear layer with small initial weights."""
    layer = nn.Linear(channels, classes)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    return layer
