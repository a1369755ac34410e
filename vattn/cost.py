"""Cost of a network in closed form, computed from its config without building it: thousands of configs per second."""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from vattn.backbones import BackboneConfig
from vattn.config import ModelConfig
from vattn.data.config import ViewsConfig
from vattn.modules import Layer, ModuleConfig, Pathway, Position, Site, choose
from vattn.sparse import SIDE, TOP, SparseConfig

#: Number of peaks of a frame that the estimate of memory assumes.
PEAKS = 5


class Row(NamedTuple):
    """Cost of one component in one stage for one clip.

    Stage 0 is the head, 1 the stem, -1 sparse attention around the whole network; stages from 2 are residual stages.
    """

    stage: int
    what: str
    macs: int
    params: int
    activations: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one clip, one view: totals, and one row per component and stage.

    ``macs`` are the multiply-accumulates of convolutions, linear layers and attention products. Biases, norms,
    activation functions and pooling are not counted. ``params`` are learnable parameters. ``activations`` are the
    values that autograd keeps for the backward pass: see `BackboneConfig.parts` and `ModuleConfig.activations`. They
    are exact for at most one mechanism per site. With several, the sum may be too large: the output of each one counts
    as kept.
    """

    macs: int
    params: int
    activations: int
    rows: tuple[Row, ...]

    @property
    def gflops(self) -> float:
        """Multiply-accumulates in units of 1e9."""
        return self.macs / 1e9

    @property
    def params_m(self) -> float:
        """Parameters in units of 1e6."""
        return self.params / 1e6

    @property
    def activation_mb(self) -> float:
        """Memory of the activations of one clip in training, float32, in 1e6 bytes."""
        return self.activations * 4 / 1e6


def cost(model: ModelConfig, classes: int) -> Cost:
    """Return the cost of ``model`` with a head for ``classes`` labels.

    The cost of a detector is that of one test buffer (rc3d), or of one window in all networks that tests use (scnn).
    """
    backbone, frames = model.backbone, model.frames
    mechanisms = [row for module in model.attention for row in _module_rows(module, backbone, model.size, frames)]
    if model.detector != "none":
        return _total([Row(*row) for row in model.detector.rows(model, classes, mechanisms)])
    rows = [*_backbone_rows(backbone, model.size, frames), *mechanisms]
    features = backbone.channels()
    # The head classifies each frame, or the clip as a whole.
    vectors = frames if backbone.folds else 1
    # Kept: the input of the classifier and the mask of the dropout.
    kept = features * vectors * (2 if model.head.dropout else 0 if backbone.keeps_features else 1)
    rows.append(Row(0, "head", vectors * features * classes, (features + 1) * classes, kept))
    if model.sparse != "none":
        rows += _sparse_rows(model, model.sparse, classes, rows)
    return _total(rows)


def _total(rows: list[Row]) -> Cost:
    _, _, macs, params, activations = zip(*rows, strict=True)
    return Cost(sum(macs), sum(params), sum(activations), tuple(rows))


def gflops_video(model: ModelConfig, views: ViewsConfig, classes: int) -> float:
    """Return 1e9 multiply-accumulates of one video in evaluation: those of one view, times the number of views.

    A view has the size of the evaluation's crops, which may differ from that of the training (``views.size``).
    """
    evaluated = model.model_copy(update={"size": views.crop(model.size)})
    return views.clips * views.crops * cost(evaluated, classes).gflops


def costs_of(model: ModelConfig, views: ViewsConfig, classes: int) -> dict[str, float]:
    """Return what a model costs: GFLOPs of a view, GFLOPs of a video in evaluation, and millions of parameters."""
    whole, video = cost(model, classes), gflops_video(model, views, classes)
    return {"gflops": whole.gflops, "gflops_video": video, "params_m": whole.params_m}


def _sparse_rows(model: ModelConfig, sparse: SparseConfig, classes: int, network: list[Row]) -> list[Row]:
    """Return the cost of sparse attention, without the first pass through the network, whose rows are ``network``.

    It consists of one more pass for each resampled clip, the class maps, the resampler, and the classifier of all
    branches. The kernels are exponentials, which are not counted as multiply-accumulates; the values that autograd
    keeps of them are estimated for `PEAKS` peaks per frame.
    """
    last = model.backbone.stages()[-1]
    sites = [site for site in model.backbone.sites(model.size) if site.stage == last]
    end = min(sites, key=lambda site: (site.height, site.width))
    frames, pixels = model.backbone.frames_at(end, model.frames), end.height * end.width
    features, images = model.backbone.channels(), model.frames * model.backbone.frames_per_segment
    _, _, macs, _, activations = (sum(column) if i > 1 else 0 for i, column in enumerate(zip(*network, strict=True)))
    rows = [Row(-1, branch, macs, 0, activations) for branch in sparse.resampled]
    # Kept of the class maps: the maps, the selected ones, and their sum upsampled. The network keeps their input.
    selected = frames * (min(TOP, classes) * pixels + 4 * SIDE**2)
    rows.append(Row(-1, "class maps", frames * pixels * features * classes, 0, frames * pixels * classes + selected))
    count = len(sparse.resampled)
    # Kept of the resampler: the sampling grid at both sizes, and the kernels.
    sampled = images * (2 * model.size**2 + 8 * SIDE**2) + frames * 4 * PEAKS * SIDE**2
    rows.append(Row(-1, "resampling", count * frames * sparse.resampler_macs, count, count * sampled))
    concatenated = features * len(sparse.branches)
    mask = concatenated if model.head.dropout else 0
    rows.append(Row(-1, "total", concatenated * classes, (concatenated + 1) * classes, concatenated + mask))
    return rows


def render(model: ModelConfig, classes: int) -> str:
    """Return a table of the cost by stage; rows in brackets are alternatives that the paper of a mechanism counts."""
    total, alternatives = cost(model, classes), _alternatives(model)
    lines = [f"{'stage':6} {'what':14} {'GFLOPs':>9} {'params (M)':>11} {'memory (MB)':>12}"]
    for row in sorted((*total.rows, *alternatives), key=lambda row: row.stage if row.stage > 0 else 99 - row.stage):
        lines.append(_line(row, memory=row not in alternatives))
    lines.append(_line(Row(-2, "", total.macs, total.params, total.activations)))
    lines.append(
        "GFLOPs: 1e9 multiply-accumulates of one clip, one view. Memory: activations of one clip in training, float32;"
    )
    lines.append("less with train.recompute: blocks.")
    if alternatives:
        lines.append("In brackets, not in the sums: another mechanism in the same place, by the formulas of the paper.")
    return "\n".join(lines)


def render_video(model: ModelConfig, views: ViewsConfig, classes: int) -> str:
    """Return the cost of one video in evaluation in words."""
    size, total = views.crop(model.size), gflops_video(model, views, classes)
    return (
        f"One video in evaluation, {views.clips} x {views.crops} views of {size} x {size} pixels: {total:.4g} GFLOPs "
        "(gflops_video)"
    )


def _line(row: Row, memory: bool = True) -> str:
    stage = {-2: "all", -1: "sparse", 0: "head", 1: "stem"}.get(row.stage, f"res{row.stage}")
    kept = f"{row.activations * 4 / 1e6:.2f}" if memory else "-"
    return f"{stage:6} {row.what:14} {row.macs / 1e9:9.4f} {row.params / 1e6:11.4f} {kept:>12}"


def _alternatives(model: ModelConfig) -> list[Row]:
    """Return for each stage the cost of the published alternatives to its mechanisms."""
    totals: dict[tuple[int, str], list[int]] = {}
    for module in model.attention:
        for site in module.at(model.backbone.sites(model.size)):
            if alternative := module.published_alternative(site, model.backbone.frames_at(site, model.frames)):
                name, macs, params = alternative
                total = totals.setdefault((site.stage, f"({name})"), [0, 0])
                total[0] += macs
                total[1] += params
    return [Row(stage, name, macs, params, 0) for (stage, name), (macs, params) in totals.items()]


@lru_cache(maxsize=4096)
def _backbone_rows(backbone: BackboneConfig, size: int, frames: int) -> tuple[Row, ...]:
    return tuple(Row(p.stage, backbone.kind, *p[1:]) for p in backbone.parts(size, frames))


@lru_cache(maxsize=65536)
def _module_rows(module: ModuleConfig, backbone: BackboneConfig, size: int, frames: int) -> tuple[Row, ...]:
    totals: dict[int, list[int]] = {}
    for site, count in _shapes(
        backbone, size, module.stages, module.position, module.every, module.pathway, module.offset
    ):
        t = backbone.frames_at(site, frames)
        total = totals.setdefault(site.stage, [0, 0, 0])
        for i, added in enumerate(_added(module, site, t)):
            total[i] += count * added
    return tuple(Row(stage, module.kind, *total) for stage, total in totals.items())


def _added(module: ModuleConfig, site: Site, frames: int) -> tuple[int, int, int]:
    """Return the cost of one mechanism, minus that of the layer that it replaces, if any."""
    macs, params, activations = (f(site, frames) for f in (module.macs, module.params, module.activations))
    if isinstance(site, Layer):
        return macs - site.macs * frames, params - site.params, activations - site.activations * frames
    return macs, params, activations


@lru_cache(maxsize=65536)
def _shapes(
    backbone: BackboneConfig, size: int, stages: tuple[int, ...], position: Position, every: int, pathway: Pathway,
    offset: int,
) -> tuple[tuple[Site, int], ...]:  # fmt: skip
    """Return one site for each stage and shape of features, and the number of such sites, which have the same cost."""
    sites = choose(backbone.sites(size), stages, position, every, pathway, offset)
    shapes = [(s.stage, s.block > 0, s.channels, s.height, s.width) for s in sites]
    return tuple((sites[shapes.index(shape)], count) for shape, count in Counter(shapes).items())
