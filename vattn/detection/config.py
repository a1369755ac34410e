"""The configs of detectors: which part of a video they see, and what surrounds the backbone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from vattn.backbones._base import conv_out
from vattn.base import Kinded
from vattn.detection.detections import Cleaning
from vattn.detection.proposals import Proposing
from vattn.detection.targets import AnchorRule, RegionRule

if TYPE_CHECKING:
    from vattn.model_config import ModelConfig

#: Scales of the anchors of R-C3D's public code, and of its authors' first code.
SCALES: dict[str, tuple[float, ...]] = {
    "pt": (2, 4, 5, 6, 8, 9, 10, 12, 14, 16),
    "caffe": tuple(range(2, 58, 2)),
}
#: Cells of a region (frames, height, width).
CELLS: dict[str, tuple[int, int, int]] = {"pt": (4, 2, 2), "caffe": (1, 4, 4)}

#: Strides in space of the convolutions before the proposals.
STRIDES: dict[str, tuple[int, ...]] = {"pt": (2, 2), "caffe": (1,)}

#: IoU above which proposals are suppressed, in training and in evaluation.
NMS: dict[str, tuple[float, float]] = {"pt": (0.8, 0.9), "caffe": (0.7, 0.7)}

#: Rows of a detector's cost: stage, name, multiply-accumulates, parameters, activations.
CostRow = tuple[int, str, int, int, int]


class DetectorConfig(Kinded):
    """A detector of actions in untrimmed videos around a backbone of clips."""

    kind: str

    def check(self, model: "ModelConfig") -> None:
        """Raise ValueError if the detector cannot have this backbone, clip or mechanism; "key: rule; way out"."""
        if model.backbone.folds:
            raise ValueError(
                f"detector: needs a backbone of 3D convolutions, and {model.backbone.kind} sees single frames; take "
                f"c3d, resnet3d or r3d (got {self.kind})"
            )
        if model.backbone.frames_per_segment > 1 or model.sparse != "none":
            raise ValueError(f"detector: takes plain clips; write sparse: none (got {self.kind})")

    def canonical(self) -> Self:
        """Return the canonical form: options without effect have their default values."""
        raise NotImplementedError

    def rows(self, model: "ModelConfig", classes: int, mechanisms: Sequence[CostRow]) -> list[CostRow]:
        """Return the cost of one test buffer or window; ``classes`` without background."""
        raise NotImplementedError


class RC3DConfig(DetectorConfig, kind="rc3d"):
    """R-C3D: proposals in a buffer of successive frames, and a classifier of pooled regions.

    Source: Xu, Das and Saenko, "R-C3D: Region Convolutional 3D Network for Temporal Activity Detection", ICCV 2017
    (arXiv:1703.07814). A buffer is ``model.frames`` long.
    """

    kind: Literal["rc3d"] = "rc3d"
    variant: Literal["pt", "caffe"] = Field(
        "pt",
        description="pt: the public PyTorch code, which STA's paper ran: two convolutions before the proposals, "
        "4 x 2 x 2 cells a region, one fully connected layer; caffe: the authors' first code: one, 1 x 4 x 4, two; "
        "both set the defaults of scales and nms",
    )
    scales: (
        Literal["auto"]
        | Annotated[tuple[Annotated[float, Field(gt=0, le=100_000)], ...], Field(min_length=1, max_length=1000)]
    ) = Field(
        "auto",
        description="lengths of the anchors, in places of the shared maps (8 frames with c3d and resnet3d); auto: 2, "
        "4, 5, 6, 8, 9, 10, 12, 14, 16 (pt) or 2, 4, ... 56 (caffe)",
    )
    channels: int = Field(512, ge=1, le=65_536, description="channels of the convolutions before the proposals")
    step: int = Field(192, ge=1, le=1_000_000, description="frames between the starts of two buffers of a video")
    backward: bool = Field(True, description="also cut buffers from the end of a video towards its start")
    anchors: int = Field(64, ge=2, le=100_000, description="anchors of a buffer that the proposals learn from")
    regions: int = Field(128, ge=2, le=100_000, description="regions of a buffer that the classifier learns from")
    proposals: int = Field(300, ge=1, le=100_000, description="regions of a buffer in evaluation; the cost counts them")
    nms: Literal["auto"] | tuple[float, float] = Field(
        "auto",
        description="IoU above which proposals are suppressed, in training and in evaluation; auto: 0.8 and 0.9 (pt), "
        "0.7 and 0.7 (caffe)",
    )

    @model_validator(mode="after")
    def _thresholds_are_shares(self) -> Self:
        if self.nms != "auto" and not all(0 < threshold <= 1 for threshold in self.nms):
            raise ValueError(f"nms: must be two numbers from 0 to 1 (got {', '.join(map(str, self.nms))})")
        return self

    @property
    def lengths(self) -> tuple[float, ...]:
        """Scales of the anchors."""
        return SCALES[self.variant] if self.scales == "auto" else self.scales

    @property
    def cells(self) -> tuple[int, int, int]:
        """Cells of a region (frames, height, width)."""
        return CELLS[self.variant]

    @property
    def is_caffe(self) -> bool:
        """Whether the variant is that of the authors' first code."""
        return self.variant == "caffe"

    def canonical(self) -> Self:
        """Return the same detector with the words of its defaults."""
        given = {"scales": SCALES[self.variant], "nms": NMS[self.variant]}
        same = {name: "auto" for name, value in given.items() if getattr(self, name) == value}
        return self.model_copy(update=same)

    def proposing(self, training: bool) -> Proposing:
        """Return how proposals are chosen."""
        threshold = (NMS[self.variant] if self.nms == "auto" else self.nms)[not training]
        before, after = (12000, 2000) if training else (6000, self.proposals)
        return Proposing(before, after, threshold, 8 if self.is_caffe else 0, self.is_caffe)

    def anchor_rule(self) -> AnchorRule:
        """Return which anchors are learned from."""
        return AnchorRule(count=self.anchors)

    def region_rule(self) -> RegionRule:
        """Return which regions the classifier learns from."""
        if self.is_caffe:
            return RegionRule(self.regions, share=0.25, negative=(0.0, 0.5), replace=False)
        return RegionRule(self.regions)

    def cleaning(self) -> Cleaning:
        """Return how outputs become segments."""
        return Cleaning()

    def stride(self, model: "ModelConfig") -> int:
        """Return the frames of a place of the shared maps."""
        return model.frames // model.backbone.shared_part(model.size, model.frames)[2]

    def check(self, model: "ModelConfig") -> None:
        """Refuse backbones without shared maps, buffers without whole places, and mechanisms that see regions."""
        super().check(model)
        backbone = model.backbone
        if not backbone.detects:
            raise ValueError(
                f"detector: rc3d shares the maps of c3d and of 3D ResNets, and {backbone.kind} is another network; "
                "take one of them, or scnn (got rc3d)"
            )
        places = backbone.shared_part(model.size, model.frames)[2]
        if model.frames % places or model.frames // places < 2:
            raise ValueError(
                f"frames: of a buffer must be whole places of the maps of {backbone.kind}; take a multiple of 8 or 16 "
                f"(got {model.frames})"
            )
        shared = backbone.shared_stages()
        for number, module in enumerate(model.attention):
            if late := [stage for stage in module.stages if stage not in shared]:
                raise ValueError(
                    f"attention[{number}].stages: regions share stages {', '.join(map(str, shared))} of this "
                    f"{backbone.kind}, and later ones see 1 x 1 x 2 places; leave out {', '.join(map(str, late))} (got "
                    f"{', '.join(map(str, module.stages))})"
                )

    def rows(self, model: "ModelConfig", classes: int, mechanisms: Sequence[CostRow]) -> list[CostRow]:
        """Return the cost of base, proposals and regions. ``activations`` are those of training."""
        part, channels, places, side = model.backbone.shared_part(model.size, model.frames)
        num_scales, wide = len(self.lengths), self.channels
        inputs, macs, params, kept = channels, 0, 0, 0
        for stride in STRIDES[self.variant]:
            side = conv_out(side, 3, stride)
            macs += 27 * inputs * wide * places * side**2
            params += (27 * inputs + 1) * wide
            kept += 2 * wide * places * side**2
            inputs = wide
        macs += 4 * num_scales * wide * places
        params += 4 * num_scales * (wide + 1)
        region = model.backbone.region_part(self.cells, self.is_caffe)
        features, outputs = self.features(model), 3 * (classes + 1)
        cells = channels * self.cells[0] * self.cells[1] * self.cells[2]
        return [
            (1, model.backbone.kind, part.macs, part.params, part.activations),
            *mechanisms,
            (0, "proposals", macs, params, kept),
            (
                0, "regions", self.proposals * (region.macs + features * outputs),
                region.params + (features + 1) * outputs,
                self.regions * (cells + region.activations + 2 * features),
            ),
        ]  # fmt: skip

    def features(self, model: "ModelConfig") -> int:
        """Return the length of the features of a region."""
        return model.backbone.channels()


class SCNNConfig(DetectorConfig, kind="scnn"):
    """Segment-CNN: windows of several lengths, a network that proposes some of them, and one that classifies these.

    Source: Shou, Wang and Chang, "Temporal Action Localization in Untrimmed Videos via Multi-stage CNNs", CVPR 2016
    (arXiv:1601.02129). The networks have the same backbone; mechanisms are in the localisation network only, as in
    STA's paper. A window has ``model.frames`` frames, evenly spaced.
    """

    kind: Literal["scnn"] = "scnn"
    lengths: Annotated[tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...], Field(min_length=1, max_length=100)] = (
        Field(
            (16, 32, 64, 128, 256, 512), description="lengths of the windows, frames; multiples of model.frames, rising"
        )
    )
    overlap: float = Field(0.75, ge=0, lt=1, description="share of a window that the next one of its length has too")
    threshold: float = Field(0.7, ge=0, lt=1, description="probability of an action from which a window is classified")
    weight: float = Field(1.0, ge=0, le=1000, description="lambda, weight of the overlap loss")
    alpha: float = Field(0.25, ge=0, le=16, description="alpha, power of the overlap in its loss")
    classification: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="share of the epochs in which the localisation network is the classification network, which it "
        "starts from: it learns without the overlap loss",
    )

    def check(self, model: "ModelConfig") -> None:
        """Refuse windows that the frames do not divide."""
        super().check(model)
        if list(self.lengths) != sorted(set(self.lengths)) or any(n % model.frames for n in self.lengths):
            raise ValueError(
                f"detector.lengths: must be rising multiples of model.frames, {model.frames}, as a window's frames are "
                f"evenly spaced (got {', '.join(map(str, self.lengths))})"
            )

    def canonical(self) -> Self:
        """Return the same detector; an overlap loss without weight has no power."""
        return self if self.weight else self.model_copy(update={"alpha": 0.25})

    def features(self, model: "ModelConfig") -> int:
        """Return the length of the features of a window: averages over pixels, one for each place in time."""
        backbone = model.backbone
        if not backbone.averages:
            return backbone.channels()
        last = [site for site in backbone.sites(model.size) if site.stage == backbone.stages()[-1]]
        return backbone.channels() * backbone.frames_at(last[-1], model.frames)

    def rows(self, model: "ModelConfig", classes: int, mechanisms: Sequence[CostRow]) -> list[CostRow]:
        """Return the cost of a window in both networks that tests use."""
        parts = model.backbone.parts(model.size, model.frames)
        features, rows = self.features(model), []
        for name, outputs in (("proposal", 2), ("localisation", classes + 1)):
            rows += [(stage, name, *costs) for stage, *costs in parts]
            rows.append((0, name, features * outputs, (features + 1) * outputs, 2 * features))
        return rows + list(mechanisms)
