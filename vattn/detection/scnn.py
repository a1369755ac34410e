"""Segment-CNN: a network that proposes windows of a video, and one that localises actions among them.

Source: Shou, Wang and Chang, "Temporal Action Localization in Untrimmed Videos via Multi-stage CNNs", CVPR 2016
(arXiv:1601.02129).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vattn.backbones import Backbone
from vattn.backbones._residual import BlocksConfig
from vattn.config import ModelConfig
from vattn.detection.config import SCNNConfig
from vattn.detection.losses import overlap_loss
from vattn.video_model import VideoModel, classifier


class WindowScores(NamedTuple):
    """What the networks say about windows."""

    proposal: Float[Tensor, "n 2"]
    """logits (background, action)"""
    classes: Float[Tensor, "n classes"]
    """logits of the localisation network; class 0 is background"""


class SCNN(VideoModel):
    """Segment-CNN with two backbones; mechanisms are in that of the localisation network, ``backbone``.

    In training, ``forward(clips, targets)`` returns two losses, of the proposal network and of the localisation
    network. Targets are rows (class, overlap, used): class 0 is background, ``overlap`` is the IoU with the instance,
    and ``used`` is 1 for windows that the localisation network learns from. In the first share of the epochs
    (``classification``) it learns without the overlap loss: it is the classification network then. In evaluation,
    ``forward(clips)`` returns `WindowScores`.
    """

    takes_targets = True
    prior: Tensor

    def __init__(self, model: ModelConfig, classes: int) -> None:
        super().__init__(model, classes)
        assert isinstance(model.detector, SCNNConfig)
        self.config, self._averages = model.detector, model.backbone.averages
        self.proposal = model.backbone.build()
        if isinstance(model.backbone, BlocksConfig):
            model.backbone.leave_out_blocks(self.proposal, 1)
        self.proposal_fc = classifier(self.fc.in_features, 2)
        #: share of each window length in the instances of a class, see `vattn.detection.windows.window_prior`
        self.register_buffer("prior", torch.ones(len(self.config.lengths), classes, dtype=torch.float64))
        self._classifies = False

    def head_size(self, model: ModelConfig, classes: int) -> tuple[int, int]:
        assert isinstance(model.detector, SCNNConfig)
        return model.detector.features(model), classes + 1

    def backbones(self) -> Sequence[Backbone]:
        return [self.backbone, self.proposal]

    def begin(self, epoch: int, epochs: int) -> None:
        self._classifies = epoch <= self.config.classification * epochs

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, clips: Float[Tensor, "n colours t h w"], targets: Float[Tensor, "n 3"] | None = None
    ) -> Tensor | WindowScores:
        scores = WindowScores(self.propose(clips), self.localise(clips))
        if targets is None:
            return scores
        labels, overlap, used = targets.unbind(1)
        labels = labels.long()
        proposal = F.cross_entropy(scores.proposal, (labels > 0).long())
        chosen = torch.nonzero(used)[:, 0]
        if not len(chosen):
            return torch.stack([proposal, 0 * scores.classes.sum()])
        weight = 0.0 if self._classifies else self.config.weight
        loss = overlap_loss(scores.classes[chosen], labels[chosen], overlap[chosen], weight, self.config.alpha)
        return torch.stack([proposal, loss.total])

    def propose(self, clips: Float[Tensor, "n colours t h w"]) -> Float[Tensor, "n 2"]:
        """Return the scores (background, action) of windows."""
        return self._scores(self.proposal, self.proposal_fc, clips)

    def localise(self, clips: Float[Tensor, "n colours t h w"]) -> Float[Tensor, "n classes"]:
        """Return the scores of the classes of windows."""
        return self._scores(self.backbone, self.fc, clips)

    def trial_loss(self, clips: Float[Tensor, "n colours t h w"]) -> Float[Tensor, ""]:
        return self.scores(clips)

    def scores(self, clips: Float[Tensor, "n colours t h w"]) -> Tensor:
        return self.propose(clips).sum() + self.localise(clips).sum()

    def _scores(self, backbone: Backbone, fc: nn.Linear, clips: Tensor) -> Tensor:
        # C3D-v1.1 averages over pixels only: the places in time stay apart.
        features = backbone.maps(clips).mean((-2, -1)).flatten(1) if self._averages else backbone(clips)
        return fc(self.dropout(features)).float()
