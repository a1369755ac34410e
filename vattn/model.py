"""Build the network of a config: backbone, mechanisms, head, and the branches of sparse attention around it."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from vattn.config import ModelConfig
from vattn.convert import adopt
from vattn.detection.rc3d import RC3D
from vattn.detection.scnn import SCNN
from vattn.errors import UserError
from vattn.sparse import SparseAttention
from vattn.video_model import Loss, VideoModel, classifier, use_channels_last
from vattn.weights import Fit, Taken, read_checkpoint
from vattn.weights.families import recognise

__all__ = [
    "SparseModel", "VideoModel", "build_model", "load_model", "load_model_and_report", "network_on_meta",
    "use_channels_last",
]  # fmt: skip


def build_model(model: ModelConfig, classes: int) -> VideoModel:
    """Return the network that ``model`` describes, with initial weights.

    They depend on torch's random state and on ``backbone.weights``. Convolution weights are in torch's memory format
    ``channels_last``.

    Args:
        model: the config of the network.
        classes: the number of labels; a detector has a further one for background.

    Raises:
        UserError: ``backbone.weights`` cannot be read or fetched, or do not fit the backbone.
    """
    if model.detector != "none":
        net = {"rc3d": RC3D, "scnn": SCNN}[model.detector.kind](model, classes)
    else:
        net = VideoModel(model, classes) if model.sparse == "none" else SparseModel(model, classes)
    use_channels_last(net)
    return net


def network_on_meta(model: ModelConfig, classes: int) -> VideoModel:
    """Return the network that ``model`` describes without values, on the meta device."""
    with torch.device("meta"):
        return build_model(model.without_weights(), classes)


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
        self.total = classifier(self.backbone.channels * len(self.branches), classes)
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
