"""What a trained model looks at in one video, as pictures: the edge behind ``vattn explain``.

* ``frames.png``: original, discriminative and complementary frames (Zhou et al., 2022, Figure 2);
* ``gradcam.png``: Grad-CAM (Selvaraju et al., IJCV 2020) of layers, as in M2A's Figure 4;
* ``tam-PLACE.png``: a TAM's kernels and importance, as in TANet's Figures 4 to 8;
* ``sta-PLACE.png``: an STA's weights of frames and channels, as in its Figure 1.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from torch import Tensor, nn

from vattn.config import TrialConfig
from vattn.data.decode import read_video
from vattn.data.sampling import centre_indices, surrounding
from vattn.model import SparseModel, VideoModel, load_model
from vattn.modules._temporal import TemporalConv
from vattn.modules.i3d import I3DConfig
from vattn.modules.sta import STA
from vattn.modules.tam import TAM
from vattn.sparse import SparseAttention, SparseConfig
from vattn.train import normalise

#: What the parts of residual networks are called elsewhere.
_STAGES = {"relu": "stem", "layer1": "res2", "layer2": "res3", "layer3": "res4", "layer4": "res5"}

Images = UInt8[np.ndarray, "t h w 3"]
Kernels = Float[Tensor, "n k"]


class Shown(NamedTuple):
    """The frames that a picture shows, one for each of the model's T, and their numbers in the video, from 0."""

    pixels: Images
    numbers: Sequence[int]


class Trained(NamedTuple):
    """A trained network and its recipe."""

    config: TrialConfig
    net: VideoModel


def load_trained(config: TrialConfig, checkpoint: Path) -> Trained:
    """Return the network of ``config`` with the weights in ``checkpoint``; raises ValueError where they do not fit."""
    return Trained(config, load_model(config.model, config.data.num_classes(), checkpoint).eval())


def explain(model: Trained, video: Path, out: Path, i3d: Trained | None = None) -> list[Path]:
    """Write the pictures that there are for ``model`` and its mechanisms into ``out``; return their files.

    ``i3d`` is a model with temporal convolutions 3x1x1: the last one of each stage is drawn beside the TAM of that
    stage. Raises ValueError where the video cannot be read, or is smaller than the model's clips.
    """
    config, net = model
    clip, shown = _clip(config, video)
    images = normalise(torch.from_numpy(clip).permute(3, 0, 1, 2)[None], torch.device("cpu"))
    out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Figure] = {}
    if config.model.backbone.averages:
        figures["frames"] = _draw_branches(net, images, clip, shown)
    figures["gradcam"] = _draw_grad_cam(net, images, shown, config.data.labels())
    figures |= _draw_mechanisms(net, images, shown, kernels_of_i3d(i3d))
    files = []
    for name, figure in figures.items():
        files.append(out / f"{name}.png")
        figure.savefig(files[-1], dpi=110, bbox_inches="tight")
    return files


def _clip(config: TrialConfig, video: Path) -> tuple[Images, Shown]:
    """Return the frames that evaluation takes of a video, cropped at the centre, and those to show."""
    model, stored = config.model, config.data.store.size
    if not video.is_file():
        raise ValueError(f"{video}: there is no such file")
    if model.size > stored:
        raise ValueError(f"model.size: must not exceed data.store.size, {stored} pixels (got {model.size})")
    try:
        frames = read_video(video, stored)
    except ValueError as error:
        raise ValueError(f"{video}: cannot be read: {error}") from error
    chosen = centre_indices(len(frames), model.frames)
    around = model.backbone.frames_per_segment
    clip = frames[surrounding(chosen, around, len(frames))]
    top, left = ((side - model.size) // 2 for side in clip.shape[1:3])
    clip = np.ascontiguousarray(clip[:, top : top + model.size, left : left + model.size])
    return clip, Shown(clip[around // 2 :: around], chosen.tolist())


# Original, discriminative, complementary


def _draw_branches(net: VideoModel, images: Tensor, clip: Images, shown: Shown) -> Figure:
    pixels = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float()
    own = isinstance(net, SparseModel)
    sparse = net.sparse if own else SparseAttention(SparseConfig())
    with torch.no_grad():
        maps = net.class_maps(images)[1]
        new = sparse(pixels, maps, "extreme")
        salient = sparse.saliencies(maps, "extreme")
    rows: dict[str, Any] = {"original": shown.pixels}
    frames = len(shown.pixels)
    around = len(clip) // frames
    for branch, resampled in new.items():
        seen = resampled[0].permute(1, 2, 3, 0).round().byte().numpy()
        rows[f"{branch}\nregions"] = _over_time(salient[branch], frames)
        rows[f"{branch}\nframes"] = seen[around // 2 :: around]
    title = "Where classes respond most (discriminative) and least (complementary), and the frames enlarged there"
    if not own:
        title += "\nThis model has no such branches: as sparse attention would start around it"
    return _strips(rows, shown, title)


# Grad-CAM


def grad_cams(net: VideoModel, images: Float[Tensor, "1 3 f h w"], label: int) -> dict[str, Float[Tensor, "t i j"]]:
    """Return how much each place speaks for ``label``, from 0 to 1 over the clip, by the layer that sees it.

    The gradient of the class's score, averaged over the pixels of a frame, weighs the channels; negative sums are 0.
    Of the backbone's parts, the last one of each size in pixels is asked.
    """
    last: dict[tuple[int, int], tuple[str, Tensor]] = {}
    with _outputs(net.backbone) as seen, torch.enable_grad():
        score = net(images)[0, label]
    for name, features in seen:
        if features.dim() > 3 and features.shape[-1] > 1:
            height, width = features.shape[-2:]
            last[height, width] = (f"{_STAGES.get(name, name)}\n{height} x {width}", features)
    gradients = torch.autograd.grad(score, [features for _, features in last.values()], allow_unused=True)
    found = {}
    for (name, features), gradient in zip(last.values(), gradients, strict=True):
        if gradient is not None:
            maps = (features * gradient.mean((-2, -1), keepdim=True)).sum(1).relu().detach()
            maps = maps.flatten(0, -3)  # by frame, from images (T, h, w) and from a clip (1, T, h, w)
            found[name] = maps / maps.max().clamp(min=torch.finfo(maps.dtype).tiny)
    return found


@contextmanager
def _outputs(backbone: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """Yield what the parts of a backbone give, in order, while it runs for the first time."""
    parts = list(backbone.named_children())
    if sum(isinstance(part, nn.Sequential) for _, part in parts) == 1:
        # The whole network in one list: its members are the parts.
        parts = [
            (f"{n}.{i}", m) for n, part in parts if isinstance(part, nn.Sequential) for i, m in part.named_children()
        ]
    seen: list[tuple[str, Tensor]] = []
    hooks = [
        part.register_forward_hook(_keep(seen, name)) for name, part in parts if not isinstance(part, nn.ModuleDict)
    ]

    def stop(*_: Any) -> None:
        for hook in hooks:
            hook.remove()

    # A model with branches runs it three times, first on the original.
    hooks.append(backbone.register_forward_hook(stop))
    try:
        yield seen
    finally:
        stop()


def _keep(seen: list[tuple[str, Tensor]], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    return lambda _, __, y: seen.append((name, y))


def _draw_grad_cam(net: VideoModel, images: Tensor, shown: Shown, labels: Sequence[str]) -> Figure:
    with torch.no_grad():
        chances, best = net(images).softmax(1)[0].topk(min(3, len(labels)))
    answers = [f'"{labels[label]}" {chance:.0%}' for label, chance in zip(best.tolist(), chances.tolist(), strict=True)]
    rows: dict[str, Any] = {"original": shown.pixels}
    cams = grad_cams(net, images, int(best[0]))
    rows |= {name: _over_time(maps, len(shown.pixels)) for name, maps in cams.items()}
    title = f"Grad-CAM: what speaks for {answers[0]}, by the layer that sees it"
    return _strips(rows, shown, f"{title}\nnext best: {', '.join(answers[1:])}" if answers[1:] else title)


# TAM and STA


def _draw_mechanisms(
    net: VideoModel, images: Tensor, shown: Shown, i3d: Mapping[str, tuple[str, Kernels]]
) -> dict[str, Figure]:
    """Return a picture of the last TAM and the last STA of each stage."""
    last = {
        (type(m), _place(name)[0]): (name, m) for name, m in net.backbone.named_modules() if isinstance(m, TAM | STA)
    }
    figures = {}
    for name, module in last.values():
        stage, place = _place(name)
        if isinstance(module, TAM):
            parts = {n: part for n, part in (("kernel", module.kernel), ("gate", module.gate)) if part is not None}
            with _recorded(parts) as seen, torch.no_grad():
                net(images)
            found = {n: values[0] for n, values in seen.items()}
            figures[f"tam-{place}"] = _draw_tam(found, shown, i3d.get(stage), place)
        else:
            with _recorded({"sta": module}, inputs=True) as seen, torch.no_grad():
                net(images)
                features = seen["sta"][0]
                weights = module.weigh(features)
            figures[f"sta-{place}"] = _draw_sta(features[0], weights[0], shown, place)
    return figures


def _place(name: str) -> tuple[str, str]:
    """Return the stage and the place of a module by its name: of "layer3.5.at.b.0.module", layer3 and stage4_6b."""
    parts = name.split(".")
    if found := re.match(r"layer(\d)\.(\d+)", name):
        return parts[0], f"stage{int(found[1]) + 1}_{int(found[2]) + 1}b"
    return parts[0], "_".join(parts[:2])


def _draw_tam(seen: dict[str, Tensor], shown: Shown, i3d: tuple[str, Kernels] | None, place: str) -> Figure:
    panels: list[tuple[str, str, str, Callable[[Axes], None]]] = []
    if (taps := seen.get("kernel")) is not None:
        offsets = _offsets(taps)
        panels.append(("kernel Θ", "offset, frames", "weight", lambda axes: _violins(axes, taps, offsets)))
        panels.append(("kernel Θ", "weight", "channels", lambda axes: _histogram(axes, taps, offsets)))
    if (gate := seen.get("gate")) is not None:
        values = gate[0].expand(-1, len(shown.pixels))
        panels.append(("importance V", "frame", "gate", lambda axes: _violins(axes, values, shown.numbers)))
    if i3d:
        weights = i3d[1]
        title = f"I3D {weights.shape[1]}x1x1 in {i3d[0]}"
        panels.append((title, "offset, frames", "weight", lambda axes: _violins(axes, weights, _offsets(weights))))
    figure, below = _under_frames(shown, f"TAM in {place}: the channels' values, their lowest, median and highest", 3.6)
    for axes, (title, across, up, draw) in zip(below.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes)
        axes.set(title=title, xlabel=across, ylabel=up)
    return figure


def _offsets(kernels: Kernels) -> list[int]:
    taps = kernels.shape[1]
    return [tap - taps // 2 for tap in range(taps)]


def _draw_sta(features: Float[Tensor, "c t h w"], weights: Float[Tensor, "d s"], shown: Shown, place: str) -> Figure:
    """Draw W by frame and by channel, and of the frame of highest weight the features of a few channels.

    W (D, S) is of each frame and channel, or of all channels (D = 1) or frames (S = 1) alike.
    """
    of_channels = weights.shape[0] > 1
    of_frames = weights.shape[1] > 1 or not of_channels
    frames = features.shape[1]
    full = weights.expand(len(features), frames)
    # Where the network has shortened time, one of its frames stands for several.
    seen_by = _over_time(torch.arange(frames), len(shown.pixels))
    labels = ["-".join(str(n) for n in _ends(shown.numbers, seen_by, t)) for t in range(frames)]
    title = f"STA in {place}: weights from 0 to 1 of {len(features)} channels in {frames} frames"
    figure, below = _under_frames(shown, title, 3 + 2.6 * of_channels)
    curves, maps = np.asarray(below.subfigures(2, 1, height_ratios=(5, 4))) if of_channels else (below, None)
    panels = iter(curves.subplots(1, of_channels + of_frames, squeeze=False)[0])
    if of_frames:
        axes = next(panels)
        _band(axes, full.T)
        axes.set_xticks(range(frames), labels)
        axes.set(title="of each frame: mean, and range of the channels", xlabel="frame", ylabel="weight")
    if maps:
        axes = next(panels)
        _band(axes, full[full.mean(1).argsort(descending=True)])
        axes.set(title="of each channel: mean, and range of the frames", xlabel="channels, sorted", ylabel="weight")
        frame = int(full.mean(0).argmax())
        ranked = full[:, frame].argsort(descending=True)
        chosen = torch.cat([ranked[:4], ranked[4:][-4:]])
        maps.suptitle(f"features of frame {labels[frame]}: the channels of highest and of lowest weight there")
        for axes, channel in zip(maps.subplots(1, len(chosen)), chosen.tolist(), strict=True):
            axes.imshow(features[channel, frame].numpy(), cmap="gray")
            axes.set_title(f"channel {channel}\n{full[channel, frame]:.3f}", fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
    return figure


def _ends(numbers: Sequence[int], seen_by: Sequence[np.ndarray], t: int) -> list[int]:
    """Return the first and last of the numbers that frame ``t`` of the features stands for, or the only one."""
    mine = [number for number, by in zip(numbers, seen_by, strict=True) if by == t]
    return sorted({mine[0], mine[-1]})


def kernels_of_i3d(i3d: Trained | None) -> dict[str, tuple[str, Kernels]]:
    """Return, by stage, where I3D's last convolution is, and its weights over time, one row a pair of channels."""
    if i3d is None:
        return {}
    config, net = i3d
    if not any(isinstance(mechanism, I3DConfig) for mechanism in config.model.attention):
        raise ValueError("--i3d: the config has no attention of kind i3d; name one that has")
    last = {_place(name): m for name, m in net.backbone.named_modules() if isinstance(m, TemporalConv)}
    return {stage: (place, m.weight.detach().flatten(0, 1)) for (stage, place), m in last.items()}


# Drawing


@contextmanager
def _recorded(layers: dict[str, nn.Module], inputs: bool = False) -> Iterator[dict[str, list[Tensor]]]:
    """Yield what ``layers`` take or give, call by call, by their names."""
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, args, y: seen[name].append(args[0] if inputs else y)

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _over_time(maps: Tensor, frames: int) -> list[np.ndarray]:
    """Return a map for each frame of the clip; networks may shorten time."""
    return [maps[t * len(maps) // frames].numpy() for t in range(frames)]


def _strips(rows: dict[str, Any], shown: Shown, title: str) -> Figure:
    """Draw rows of frames; a row of maps is laid over the original frames."""
    figure = Figure(figsize=(1.4 * len(shown.pixels) + 2, 1.45 * len(rows) + 0.8), layout="constrained")
    grid = figure.subplots(len(rows), len(shown.pixels), squeeze=False)
    height, width = shown.pixels.shape[1:3]
    for line, (name, pictures) in zip(grid, rows.items(), strict=True):
        top = max(float(np.max(picture)) for picture in pictures) or 1.0
        for axes, picture, frame in zip(line, pictures, shown.pixels, strict=True):
            axes.imshow(picture if picture.ndim == 3 else frame)
            if picture.ndim == 2:
                # Where nothing responds, the frame is seen as it is.
                axes.imshow(
                    picture / top, cmap="turbo", alpha=0.7 * picture / top, vmin=0, vmax=1,
                    interpolation="bilinear", extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                )  # fmt: skip
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center", labelpad=8)
    for axes, number in zip(grid[0], shown.numbers, strict=True):
        axes.set_title(f"frame {number}", fontsize=9)
    scale = figure.colorbar(ScalarMappable(cmap="turbo"), ax=grid, shrink=0.5, aspect=30, ticks=[0, 1])
    scale.set_label("share of the highest value in a row")
    figure.suptitle(title)
    return figure


def _under_frames(shown: Shown, title: str, inches: float) -> tuple[Figure, SubFigure]:
    """Return a figure with a title and the frames, and its part of so many inches below."""
    frames = len(shown.pixels)
    width = max(12.0, 1.3 * frames)
    strip = width / frames + 0.5
    figure = Figure(figsize=(width, strip + inches), layout="constrained")
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=(strip, inches)))
    for axes, pixels, number in zip(above.subplots(1, frames, squeeze=False)[0], *shown, strict=True):
        axes.imshow(pixels)
        axes.set_title(f"frame {number}", fontsize=9)
        axes.set_axis_off()
    above.suptitle(title)
    return figure, below


def _violins(axes: Axes, values: Float[Tensor, "n k"], offsets: Sequence[int]) -> None:
    """Draw the whole range of each column, with its lowest, middle and highest value."""
    axes.violinplot(list(values.numpy().T), range(len(offsets)), showmedians=True, widths=0.8)
    axes.set_xticks(range(len(offsets)), [str(offset) for offset in offsets])


def _histogram(axes: Axes, taps: Kernels, offsets: Sequence[int]) -> None:
    axes.hist(taps.numpy(), bins=30, histtype="step", label=[f"offset {offset:+d}" for offset in offsets])
    axes.legend(fontsize=8)


def _band(axes: Axes, rows: Float[Tensor, "n k"]) -> None:
    """Draw the mean of each row, and from its lowest to its highest value."""
    at = np.arange(len(rows))
    axes.fill_between(at, rows.amin(1).numpy(), rows.amax(1).numpy(), alpha=0.25, color="#0072B2", linewidth=0)
    axes.plot(at, rows.mean(1).numpy(), color="#0072B2", marker="o" if len(rows) <= 64 else "")
