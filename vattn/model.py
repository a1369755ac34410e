"""Build the network of a config: backbone, mechanisms, head, and the branches of sparse attention around it."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vattn.backbones._residual import BlocksConfig
from vattn.config import ModelConfig
from vattn.convert import adopt
from vattn.errors import UserError
from vattn.insert import fold, insert
from vattn.sparse import SparseAttention, class_maps
from vattn.weights import Fit, Taken, read_checkpoint
from vattn.weights.families import recognise

#: Returns the mean loss of scores (N, classes) with their labels.
Loss = Callable[[Tensor, Tensor], Tensor]


def build_model(model: ModelConfig, classes: int) -> "VideoModel":
    """Return the network that ``model`` describes, with initial weights.

    They depend on torch's random state and on ``backbone.weights``. Convolution weights are in torch's memory format
    ``channels_last``.

    Args:
        model: the config of the network.
        classes: the number of labels.

    Raises:
        UserError: ``backbone.weights`` cannot be read or fetched, or do not fit the backbone.
    """
    net = VideoModel(model, classes) if model.sparse == "none" else SparseModel(model, classes)
    use_channels_last(net)
    return net


def network_on_meta(model: ModelConfig, classes: int) -> "VideoModel":
    """Return the network that ``model`` describes without values, on the meta device."""
    with torch.device("meta"):
        return build_model(model.without_weights(), classes)


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

    def __init__(self, model: ModelConfig, classes: int) -> None:
        super().__init__()
        self.backbone = model.backbone.build()
        insert(self.backbone, model)
        self.dropout = nn.Dropout(model.head.dropout)
        self.fc = _classifier(self.backbone.channels, classes)
        self.folds, self.input_channels = model.backbone.folds, model.backbone.input_channels
        if isinstance(model.backbone, BlocksConfig):
            model.backbone.leave_out_blocks(self.backbone, model.frames if self.folds else 1)
        #: modules that stay in evaluation mode, without those inside them
        self.still: list[nn.Module] = []

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

    def scores(self, clips: Float[Tensor, "n colours t h w"]) -> Float[Tensor, "n b classes"]:
        """Return the model's scores, followed by the scores of each of ``branches``."""
        return self(clips).unsqueeze(1)


class SparseModel(VideoModel):
    r"""One network applied to up to three versions of a clip: original, discriminative and complementary regions.

    The network's own head classifies each branch. One more linear layer classifies the concatenated features of all
    branches, and its scores are the model's. The loss is equation 8 of Zhou, Li, Wang and Li, "Integrating Temporal and
    Spatial Attention for Video Action Recognition", Security and Communication Networks, 2022, over the branches b of
    the config:

    .. math:: L = \sum_b L_{cls}(F_b, F^*) + L_{cls}(F_{total}, F^*)

    In the first epochs the network is trained alone (`begin`), and its own scores are the only ones. Without a call of
    `begin`, the model is in the last stage of training, with all branches. In evaluation the highest peak is
    discriminative and the lowest complementary, as in the public code, so that evaluation is deterministic.

    Shape: (N, 3, T, H, W) -> logits (N, classes); in training as `scores`, (N, 1 + branches, classes).
    """

    def __init__(self, model: ModelConfig, classes: int) -> None:
        super().__init__(model, classes)
        assert model.sparse != "none"
        self.sparse = SparseAttention(model.sparse)
        self.branches = model.sparse.branches
        self.total = _classifier(self.backbone.channels * len(self.branches), classes)
        self._stage = "random"

    def begin(self, epoch: int, epochs: int) -> None:
        self._stage = self.sparse.config.stage(epoch, epochs)

    def forward(
        self, clips: Float[Tensor, "n colours t h w"], with_features: bool = False
    ) -> Tensor | tuple[Tensor, Float[Tensor, "n c"]]:
        scores, features = self._scored(clips)
        scores = scores if self.training else scores[:, 0]
        return (scores, features) if with_features else scores

    def loss(
        self, scores: Float[Tensor, "n b classes"], labels: Tensor, criterion: Loss = cross_entropy
    ) -> Float[Tensor, ""]:
        branches = scores.shape[1]
        return branches * criterion(scores.flatten(0, 1), labels.repeat_interleave(branches, 0))

    def scores(self, clips: Float[Tensor, "n colours t h w"]) -> Float[Tensor, "n b classes"]:
        return self._scored(clips)[0]

    def _scored(
        self, clips: Float[Tensor, "n colours t h w"]
    ) -> tuple[Float[Tensor, "n b classes"], Float[Tensor, "n c"]]:
        """Return the scores, and the features of the original clips."""
        if self._stage == "alone":
            own = self.features(clips)
            alone = self._classify(own)
            # Only the network itself is trained so far: in evaluation, each branch has its scores.
            return torch.stack([alone] * (1 if self.training else 1 + len(self.branches)), 1), own.mean(1)
        own, maps = self.class_maps(clips)
        split = "extreme" if not self.training else "all" if self._stage == "all" else "random"
        resampled = self.sparse(clips, maps, split)
        features = {"original": own} | {branch: self.features(new) for branch, new in resampled.items()}
        together = torch.cat([features[branch].mean(1) for branch in self.branches], 1)
        scores = [self._classify(features[branch]) for branch in self.branches]
        return torch.stack([self.total(self.dropout(together)), *scores], 1), own.mean(1)


def load_model(model: ModelConfig, classes: int, checkpoint: Path) -> VideoModel:
    """Return the network of ``model`` with the weights in a checkpoint.

    It is a state dict that `fit` wrote as ``model.pt``, or a published one of the same network (`vattn.convert`).

    Raises:
        UserError: the checkpoint cannot be read, or its weights are those of another config.
    """
    return load_model_and_report(model, classes, checkpoint)[0]


def load_model_and_report(model: ModelConfig, classes: int, checkpoint: Path) -> tuple[VideoModel, Taken]:
    """Return what `load_model` returns, and what was taken from the checkpoint."""
    # The checkpoint replaces the backbone's initial weights, so they are not loaded.
    net = build_model(model.without_weights(), classes)
    own = net.state_dict()
    adopted = adopt(recognise(read_checkpoint(checkpoint)), model, own)
    if not (fit := Fit.of(adopted.state, own)):
        family = adopted.recognised.family
        raise UserError(
            f"is not of this config: {fit}",
            file=checkpoint,
            way_out="name the weights that were trained by it"
            if family.own
            else f"its names are those of {family.name}",
        )
    net.load_state_dict(adopted.state, strict=False)
    return net, adopted.taken(adopted.state, own)


def use_channels_last(net: nn.Module) -> None:
    """Put the weights into the memory format ``channels_last``, which the loader's clips have."""
    # Not by net.to(memory_format=...), which refuses a network with both 2D and 3D convolutions.
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in net.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])


def _classifier(channels: int, classes: int) -> nn.Linear:
    layer = nn.Linear(channels, classes)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    return layer
