"""R-C3D: a region proposal network and a classifier of regions on the maps of a backbone.

Source: Xu, Das and Saenko, "R-C3D: Region Convolutional 3D Network for Temporal Activity Detection", ICCV 2017
(arXiv:1703.07814), and the public code, where it differs from the paper.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vattn.config import ModelConfig
from vattn.detection.boxes import anchors
from vattn.detection.config import STRIDES, RC3DConfig
from vattn.detection.losses import anchor_losses, region_losses
from vattn.detection.pooling import pool_regions
from vattn.detection.proposals import Proposing, propose, with_row
from vattn.detection.targets import AnchorRule, Draws, RegionRule, anchor_targets, region_targets
from vattn.video_model import VideoModel


class RegionSettings(NamedTuple):
    """What a detector of regions depends on besides its layers."""

    scales: Sequence[float]
    """of the anchors, in places of the maps"""
    stride: int
    """frames of a place"""
    cells: tuple[int, int, int]
    """of a region: frames, height, width"""
    train: Proposing
    test: Proposing
    anchor_rule: AnchorRule
    region_rule: RegionRule
    #: whether the features of a region come from two fully connected layers
    twice: bool = False


class Regions(NamedTuple):
    """What the detector says about one buffer."""

    boxes: Float[Tensor, "regions 2"]
    """the proposals, frames"""
    scores: Float[Tensor, "regions classes"]
    """logits; class 0 is background"""
    offsets: Float[Tensor, "regions offsets"]
    """two for each class"""


class ProposalNetwork(nn.Module):
    """Scores and offsets of the anchors.

    Shape: maps (N, C, L, H, W) -> two of (N, L * A, 2): (background, action), and (centre, length).
    """

    def __init__(self, inputs: int, channels: int, num_scales: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for stride in strides:
            self.convs.append(nn.Conv3d(inputs, channels, 3, (1, stride, stride), padding=1))
            inputs = channels
        self.score = nn.Conv3d(channels, 2 * num_scales, 1)
        self.offset = nn.Conv3d(channels, 2 * num_scales, 1)
        for module in self.modules():
            _init(module, 0.01)

    def forward(self, maps: Float[Tensor, "n c l h w"]) -> tuple[Tensor, Tensor]:
        for conv in self.convs:
            maps = conv(maps).relu()
        pooled = F.adaptive_max_pool3d(maps, (maps.shape[2], 1, 1))
        # Channel k A + a of the scores, and 2 a + k of the offsets, is value k of scale a.
        scores = self.score(pooled).flatten(2).unflatten(1, (2, -1)).permute(0, 3, 2, 1).flatten(1, 2)
        offsets = self.offset(pooled).flatten(2).unflatten(1, (-1, 2)).permute(0, 3, 1, 2).flatten(1, 2)
        return scores.float(), offsets.float()


class RC3D(VideoModel):
    """R-C3D around a backbone with mechanisms.

    In training, ``forward(clips, instances)`` returns four losses: of the scores and offsets of anchors, and of the
    classes and offsets of regions. Instances are rows (start, end, class) in frames, classes from 1, and zeros. In
    evaluation, ``forward(clips)`` returns `Regions` of each buffer. Random draws come from `draws`.
    """

    takes_targets = True

    def __init__(self, model: ModelConfig, classes: int) -> None:
        super().__init__(model, classes)
        config = model.detector
        assert isinstance(config, RC3DConfig)
        channels = model.backbone.shared_part(model.size, model.frames)[1]
        settings = RegionSettings(
            config.lengths, config.stride(model), config.cells, config.proposing(True), config.proposing(False),
            config.anchor_rule(), config.region_rule(), config.is_caffe,
        )  # fmt: skip
        if not config.is_caffe and hasattr(self.backbone, "fc7"):
            self.backbone.fc7 = nn.Identity()  # regions have one fully connected layer
        self.add_layers(channels, config.channels, self.backbone.channels, classes, STRIDES[config.variant], settings)

    def add_layers(
        self, maps: int, channels: int, features: int, classes: int, strides: Sequence[int], settings: RegionSettings
    ) -> None:
        """Add the layers around the backbone.

        Args:
            maps: channels of the backbone's maps.
            channels: of the convolutions before the proposals.
            features: of a region.
            classes: number of classes without background.
            strides: of the convolutions before the proposals.
            settings: everything else.
        """
        self.settings, self.draws = settings, Draws()
        self.rpn = ProposalNetwork(maps, channels, len(settings.scales), strides)
        self.fc, self.offset = nn.Linear(features, classes + 1), nn.Linear(features, 2 * (classes + 1))
        _init(self.fc, 0.01)
        _init(self.offset, 0.001)

    def shared(self, clips: Tensor) -> Float[Tensor, "n c l h w"]:
        """Return the maps of buffers."""
        return self.backbone.shared(clips)

    def of_regions(self, cells: Float[Tensor, "regions c p q s"]) -> Float[Tensor, "regions d"]:
        """Return the features of regions."""
        return self.backbone.of_regions(cells, self.settings.twice)

    def classify(
        self, maps: Float[Tensor, "n c l h w"], regions: Float[Tensor, "regions 3"]
    ) -> tuple[Float[Tensor, "regions classes"], Float[Tensor, "regions offsets"]]:
        """Return logits of the classes and offsets of regions, rows (row of the batch, start, end)."""
        cells = pool_regions(maps, regions, self.settings.cells, 1 / self.settings.stride)
        features = self.dropout(self.of_regions(cells))
        return self.fc(features).float(), self.offset(features).float()

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, clips: Float[Tensor, "n colours t h w"], instances: Float[Tensor, "n instances 3"] | None = None
    ) -> Tensor | list[Regions]:
        maps = self.shared(clips)
        scores, offsets = self.rpn(maps)
        settings, length = self.settings, maps.shape[2] * self.settings.stride
        boxes = anchors(settings.scales, maps.shape[2], settings.stride, settings.stride).to(maps.device)
        how = settings.train if instances is not None else settings.test
        proposals = propose(boxes, scores.softmax(-1)[..., 1], offsets, length, how)
        if instances is None:
            classes, moves = self.classify(maps, with_row(proposals))
            sizes = [len(each) for each in proposals]
            return [Regions(*each) for each in zip(proposals, classes.split(sizes), moves.split(sizes), strict=True)]
        of_anchors = anchor_targets(boxes, instances, length, settings.anchor_rule, self.draws)
        of_regions = region_targets(proposals, instances, settings.region_rule, self.draws)
        losses = anchor_losses(scores, offsets, of_anchors)
        classes, moves = self.classify(maps, of_regions.regions)
        if len(of_regions.labels):
            losses += region_losses(classes, moves, of_regions.labels, of_regions.offsets)
        else:
            # All layers have a gradient, also where no region was found.
            losses += (classes.sum(), moves.sum())
        return torch.stack(losses)

    def trial_loss(self, clips: Float[Tensor, "n colours t h w"]) -> Float[Tensor, ""]:
        return self._shapes(clips, self.settings.region_rule.count)

    def scores(self, clips: Float[Tensor, "n colours t h w"]) -> Tensor:
        return self._shapes(clips, self.settings.test.after)

    def _shapes(self, clips: Tensor, regions: int) -> Float[Tensor, ""]:
        """Return a value of all outputs for as many regions, whose places do not depend on values."""
        maps = self.shared(clips)
        cells = F.adaptive_max_pool3d(maps, self.settings.cells).repeat_interleave(regions, 0)
        features = self.dropout(self.of_regions(cells))
        outputs = (*self.rpn(maps), self.fc(features), self.offset(features))
        return sum((output.float().sum() for output in outputs), clips.new_zeros(()))


def _init(module: nn.Module, deviation: float) -> None:
    if isinstance(module, nn.Linear | nn.Conv3d):
        nn.init.normal_(module.weight, std=deviation)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
