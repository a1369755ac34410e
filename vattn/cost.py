"""What a network costs, in closed form from its recipe: nothing is built, so thousands can be weighed a second."""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from vattn.backbones import BackboneConfig
from vattn.config import ModelConfig
from vattn.modules import Layer, ModuleConfig, Position, Site, choose
from vattn.sparse import SIDE, TOP, SparseConfig

#: Peaks of a frame, for an estimate of memory.
PEAKS = 5


class Row(NamedTuple):
    """What one thing in one stage costs for one clip; stage 0 is the head, 1 the stem, -1 the branches around all."""

    stage: int
    what: str
    macs: int
    params: int
    activations: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one clip, one view: of the whole, and row by row.

    ``macs`` are multiply-accumulates of convolutions, linear layers and attention products; biases, norms,
    activation functions and pools are not counted. ``activations`` are the values that autograd keeps for the backward
    pass: see `BackboneConfig.parts` and `ModuleConfig.activations`. They are exact with one mechanism a site; behind
    another one, a mechanism counts as if autograd kept what it gives.
    """

    macs: int
    params: int
    activations: int
    rows: tuple[Row, ...]

    @property
    def gflops(self) -> float:
        """1e9 multiply-accumulates."""
        return self.macs / 1e9

    @property
    def params_m(self) -> float:
        """1e6 parameters."""
        return self.params / 1e6

    @property
    def activation_mb(self) -> float:
        """1e6 bytes in float32 for one clip in training."""
        return self.activations * 4 / 1e6


def cost(model: ModelConfig, classes: int) -> Cost:
    """Return what ``model`` costs with a head for ``classes`` labels."""
    backbone, frames = model.backbone, model.frames
    rows = list(_backbone_rows(backbone, model.size, frames))
    for module in model.attention:
        rows += _module_rows(module, backbone, model.size, frames)
    features = backbone.channels()
    scored = frames if backbone.folds else 1
    # Kept: what the classifier takes, and which of it was dropped.
    kept = features * scored * (2 if model.head.dropout else 0 if backbone.keeps_features else 1)
    rows.append(Row(0, "head", scored * features * classes, (features + 1) * classes, kept))
    if model.sparse != "none":
        rows += _sparse_rows(model, model.sparse, classes, rows)
    _, _, macs, params, activations = zip(*rows, strict=True)
    return Cost(sum(macs), sum(params), sum(activations), tuple(rows))


def _sparse_rows(model: ModelConfig, sparse: SparseConfig, classes: int, network: list[Row]) -> list[Row]:
    """Return what sparse attention costs on top of one clip through the network, whose rows are given.

    The network once more for each new clip, class maps, the resampler, and the layer over all branches. Kernels are
    exponentials, not multiply-accumulates; what autograd keeps of them is as if a frame had `PEAKS` peaks.
    """
    last = model.backbone.stages()[-1]
    sites = [site for site in model.backbone.sites(model.size) if site.stage == last]
    end = min(sites, key=lambda site: (site.height, site.width))
    frames, pixels = model.backbone.frames_at(end, model.frames), end.height * end.width
    features, shown = model.backbone.channels(), model.frames * model.backbone.frames_per_segment
    _, _, macs, _, activations = (sum(column) if i > 1 else 0 for i, column in enumerate(zip(*network, strict=True)))
    rows = [Row(-1, branch, macs, 0, activations) for branch in sparse.resampled]
    # The maps' own input is kept by the network; of the maps, the choice among them and its enlargement.
    chosen = frames * (min(TOP, classes) * pixels + 4 * SIDE**2)
    rows.append(Row(-1, "class maps", frames * pixels * features * classes, 0, frames * pixels * classes + chosen))
    count = len(sparse.resampled)
    # The places, at the size of a frame and as they are made of the saliency; the kernels.
    sampled = shown * (2 * model.size**2 + 8 * SIDE**2) + frames * 4 * PEAKS * SIDE**2
    rows.append(Row(-1, "resampling", count * frames * sparse.resampler_macs, count, count * sampled))
    together = features * len(sparse.branches)
    dropped = together if model.head.dropout else 0
    rows.append(Row(-1, "total", together * classes, (together + 1) * classes, together + dropped))
    return rows


def render(model: ModelConfig, classes: int) -> str:
    """Return a table of the cost by stage, with what a mechanism's paper counts beside it, in brackets."""
    total, rivals = cost(model, classes), _rivals(model)
    lines = [f"{'stage':6} {'what':14} {'GFLOPs':>9} {'params (M)':>11} {'memory (MB)':>12}"]
    for row in sorted((*total.rows, *rivals), key=lambda row: row.stage if row.stage > 0 else 99 - row.stage):
        lines.append(_line(row, memory=row not in rivals))
    lines.append(_line(Row(-2, "", total.macs, total.params, total.activations)))
    lines.append(
        "GFLOPs: 1e9 multiply-accumulates of one clip, one view. Memory: what is kept of one clip in training, in"
    )
    lines.append("float32; with train.recompute: blocks it is less.")
    if rivals:
        lines.append("In brackets, and in no sum: another mechanism in the same place, by the formulas of the paper.")
    return "\n".join(lines)


def _line(row: Row, memory: bool = True) -> str:
    stage = {-2: "all", -1: "sparse", 0: "head", 1: "stem"}.get(row.stage, f"res{row.stage}")
    kept = f"{row.activations * 4 / 1e6:.2f}" if memory else "-"
    return f"{stage:6} {row.what:14} {row.macs / 1e9:9.4f} {row.params / 1e6:11.4f} {kept:>12}"


def _rivals(model: ModelConfig) -> list[Row]:
    """Return for each stage what would be in the place of its mechanisms."""
    totals: dict[tuple[int, str], list[int]] = {}
    for module in model.attention:
        for site in module.at(model.backbone.sites(model.size)):
            if rival := module.rival(site, model.backbone.frames_at(site, model.frames)):
                name, macs, params = rival
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
    for site, count in _shapes(backbone, size, module.stages, module.position, module.every):
        t = backbone.frames_at(site, frames)
        total = totals.setdefault(site.stage, [0, 0, 0])
        for i, added in enumerate(_added(module, site, t)):
            total[i] += count * added
    return tuple(Row(stage, module.kind, *total) for stage, total in totals.items())


def _added(module: ModuleConfig, site: Site, frames: int) -> tuple[int, int, int]:
    """Return the cost of one mechanism, less that of the layer whose place it takes, if any."""
    macs, params, activations = (f(site, frames) for f in (module.macs, module.params, module.activations))
    if isinstance(site, Layer):
        return macs - site.macs * frames, params - site.params, activations - site.activations * frames
    return macs, params, activations


@lru_cache(maxsize=65536)
def _shapes(
    backbone: BackboneConfig, size: int, stages: tuple[int, ...], position: Position, every: int
) -> tuple[tuple[Site, int], ...]:
    """Return the first of the chosen sites of each shape in each stage, and how many there are: they cost the same."""
    chosen = choose(backbone.sites(size), stages, position, every)
    shapes = [(s.stage, s.block > 0, s.channels, s.height, s.width) for s in chosen]
    return tuple((chosen[shapes.index(shape)], count) for shape, count in Counter(shapes).items())
