"""What a trained model looks at in one video, as pictures: the edge behind ``vattn explain``.

* ``frames.png``: original, discriminative and complementary frames (Zhou et al., 2022, Figure 2);
* ``gradcam.png``: Grad-CAM (Selvaraju et al., IJCV 2020) of layers, as in M2A's Figure 4;
* ``tam-PLACE.png``: a TAM's kernels and importance, as in TANet's Figures 4 to 8;
* ``sta-PLACE.png``: a STA's weights of frames and channels, as in its Figure 1.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from vattn.config import TrialConfig
from vattn.data.ingest import read_video
from vattn.data.sampling import centre_indices, surrounding
from vattn.model import SparseModel, VideoModel, build_model
from vattn.modules._temporal import TemporalConv
from vattn.modules.i3d import I3DConfig
from vattn.modules.sta import STA
from vattn.modules.tam import TAM
from vattn.sparse import SparseAttention, SparseConfig
from vattn.train import normalise
from vattn.weights import Fit, read_state

Images = UInt8[np.ndarray, "t h w 3"]


class Trained(NamedTuple):
    """A trained network and its recipe."""

    config: TrialConfig
    net: VideoModel


def load_trained(config: TrialConfig, checkpoint: Path) -> Trained:
    """Return the network of ``config`` with the weights in ``checkpoint``; raises ValueError where they do not fit."""
    net = build_model(config.model, config.data.num_classes()).eval()
    state = read_state(checkpoint)
    if not (fit := Fit.of(state, net.state_dict())):
        raise ValueError(f"--checkpoint {checkpoint}: is not of this config: {fit}; name the model.pt trained from it")
    net.load_state_dict(state)
    return Trained(config, net)


def explain(model: Trained, video: Path, out: Path, i3d: Trained | None = None) -> list[Path]:
    """Write the pictures that there are for ``model`` and its mechanisms into ``out``; return their files.

    ``i3d`` is a model with temporal convolutions 3x1x1, whose kernels are drawn beside TAM's. Raises ValueError where
    the video cannot be read, or is smaller than the model's clips.
    """
    config, net = model
    clip = _clip(config, video)
    shown = clip[config.model.backbone.frames_per_segment // 2 :: config.model.backbone.frames_per_segment]
    images = normalise(torch.from_numpy(clip).permute(3, 0, 1, 2)[None], torch.device("cpu"))
    out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Figure] = {}
    if config.model.backbone.averages:
        figures["frames"] = _draw_branches(net, images, clip, shown)
    figures["gradcam"] = _draw_grad_cam(net, images, shown, config.data.labels())
    figures |= _draw_mechanisms(net, images, shown, _kernels(i3d))
    files = []
    for name, figure in figures.items():
        files.append(out / f"{name}.png")
        figure.savefig(files[-1], dpi=110, bbox_inches="tight")
    return files


def _clip(config: TrialConfig, video: Path) -> Images:
    """Return the frames that evaluation takes of a video, cropped at the centre."""
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
    frames = frames[surrounding(chosen, model.backbone.frames_per_segment, len(frames))]
    top, left = ((side - model.size) // 2 for side in frames.shape[1:3])
    return np.ascontiguousarray(frames[:, top : top + model.size, left : left + model.size])


# Original, discriminative, complementary


def _draw_branches(net: VideoModel, images: Tensor, clip: Images, shown: Images) -> Figure:
    pixels = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float()
    # A model without branches of its own is seen as one would start with it.
    sparse = net.sparse if isinstance(net, SparseModel) else SparseAttention(SparseConfig())
    with torch.no_grad():
        maps = net.class_maps(images)[1]
        new = sparse(pixels, maps, "extreme")
        salient = sparse.saliencies(maps, "extreme")
    rows: dict[str, Any] = {"original": shown}
    around = len(clip) // len(shown)
    for branch, frames in new.items():
        seen = frames[0].permute(1, 2, 3, 0).round().byte().numpy()
        rows[f"{branch}: salient"] = _over_time(salient[branch], len(shown))
        rows[branch] = seen[around // 2 :: around]
    return _strips(rows, shown, "where the classes respond, and what the new clips show of it")


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
            last[height, width] = (f"{name}\n{height} x {width}", features)
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


def _draw_grad_cam(net: VideoModel, images: Tensor, shown: Images, labels: Sequence[str]) -> Figure:
    with torch.no_grad():
        chance = net(images).softmax(1)[0]
    label = int(chance.argmax())
    rows: dict[str, Any] = {"original": shown}
    rows |= {name: _over_time(maps, len(shown)) for name, maps in grad_cams(net, images, label).items()}
    return _strips(rows, shown, f"Grad-CAM for {labels[label]}, given with {chance[label]:.0%}")


# TAM and STA


def _draw_mechanisms(
    net: VideoModel, images: Tensor, shown: Images, convolutions: Sequence[Float[Tensor, "n k"]]
) -> dict[str, Figure]:
    """Return a picture of the last TAM and the last STA of each stage."""
    last = {
        (type(m), _place(name)[0]): (name, m) for name, m in net.backbone.named_modules() if isinstance(m, TAM | STA)
    }
    figures = {}
    for name, module in last.values():
        place = _place(name)[1]
        if isinstance(module, TAM):
            parts = {n: part for n, part in (("kernel", module.kernel), ("gate", module.gate)) if part is not None}
            with _recorded(parts) as seen, torch.no_grad():
                net(images)
            figures[f"tam-{place}"] = _draw_tam({n: found[0] for n, found in seen.items()}, shown, convolutions, place)
        else:
            with _recorded({"sta": module}, inputs=True) as seen, torch.no_grad():
                net(images)
                weights = module.weigh(seen["sta"][0])[0]
            figures[f"sta-{place}"] = _draw_sta(weights, shown, place)
    return figures


def _place(name: str) -> tuple[str, str]:
    """Return the stage and the place of a module by its name: of "layer3.5.at.b.0.module", layer3 and stage4_6b."""
    parts = name.split(".")
    if found := re.match(r"layer(\d)\.(\d+)", name):
        return parts[0], f"stage{int(found[1]) + 1}_{int(found[2]) + 1}b"
    return parts[0], "_".join(parts[:2])


def _draw_tam(
    seen: dict[str, Tensor], shown: Images, convolutions: Sequence[Float[Tensor, "n k"]], place: str
) -> Figure:
    panels: list[tuple[str, Callable[[Axes], None]]] = []
    if (taps := seen.get("kernel")) is not None:
        offsets = np.arange(taps.shape[1]) - taps.shape[1] // 2
        panels.append(("kernel Θ by offset in frames", lambda axes: _violins(axes, taps, offsets)))
        panels.append(("how many channels have a weight of Θ", lambda axes: _histogram(axes, taps, offsets)))
    if (gate := seen.get("gate")) is not None:
        values = gate[0].expand(-1, len(shown))
        panels.append(("importance V by frame", lambda axes: _violins(axes, values, np.arange(len(shown)))))
    for weights in convolutions:
        offsets_i3d = np.arange(weights.shape[1]) - weights.shape[1] // 2
        title = f"I3D {weights.shape[1]}x1x1: weights by offset"
        panels.append((title, lambda axes, w=weights, o=offsets_i3d: _violins(axes, w, o)))
    figure = Figure(figsize=(max(4 * len(panels), 1.2 * len(shown)), 5))
    _strip(figure, shown, 0.72)
    for i, (title, draw) in enumerate(panels):
        axes = figure.add_axes((0.04 + i / len(panels), 0.08, 0.92 / len(panels) - 0.06, 0.5))
        draw(axes)
        axes.set_title(title, fontsize=9)
    figure.suptitle(f"TAM in {place}: each channel is one sample", y=1.02)
    return figure


def _draw_sta(weights: Float[Tensor, "c t"], shown: Images, place: str) -> Figure:
    """Draw W (channels or 1, frames or 1): its mean by frame, its mean by channel, and all of it."""
    figure = Figure(figsize=(max(9, 1.2 * len(shown)), 6))
    _strip(figure, shown, 0.76)
    full = weights.expand(-1, len(shown)) if weights.shape[1] == 1 else weights
    by_frame, by_channel = full.mean(0).numpy(), full.mean(1).sort(descending=True).values.numpy()
    frame_axes = figure.add_axes((0.05, 0.44, 0.9, 0.24))
    frame_axes.bar(np.arange(len(by_frame)), by_frame, color="#0072B2")
    frame_axes.set_title("weight by frame, mean of the channels", fontsize=9)
    channel_axes = figure.add_axes((0.05, 0.06, 0.4, 0.26))
    channel_axes.plot(by_channel, color="#D55E00")
    channel_axes.set_title("weight by channel, mean of the frames, sorted", fontsize=9)
    all_axes = figure.add_axes((0.55, 0.06, 0.4, 0.26))
    picture = all_axes.imshow(full.numpy(), aspect="auto", interpolation="nearest", cmap="viridis")
    all_axes.set_title("weight by channel (down) and frame (across)", fontsize=9)
    figure.colorbar(picture, ax=all_axes)
    figure.suptitle(f"STA in {place}", y=1.02)
    return figure


def _kernels(i3d: Trained | None) -> list[Float[Tensor, "n k"]]:
    """Return the weights over time of the last of I3D's convolutions, one row a pair of channels."""
    if i3d is None:
        return []
    config, net = i3d
    if not any(isinstance(mechanism, I3DConfig) for mechanism in config.model.attention):
        raise ValueError("--i3d: the config has no attention of kind i3d; name one that has")
    last = [module for module in net.backbone.modules() if isinstance(module, TemporalConv)][-1]
    return [last.weight.detach().flatten(0, 1)]


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


def _strips(rows: dict[str, Any], shown: Images, title: str) -> Figure:
    """Draw rows of frames; a row of maps is laid over the original frames."""
    figure = Figure(figsize=(1.4 * len(shown) + 1, 1.5 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(shown), squeeze=False)
    height, width = shown.shape[1:3]
    for line, (name, pictures) in zip(grid, rows.items(), strict=True):
        top = max(float(np.max(picture)) for picture in pictures)
        for axes, picture, frame in zip(line, pictures, shown, strict=True):
            axes.imshow(picture if picture.ndim == 3 else frame)
            if picture.ndim == 2:
                axes.imshow(
                    picture, cmap="turbo", alpha=0.5, vmin=0, vmax=top or 1, interpolation="bilinear",
                    extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                )  # fmt: skip
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(name.replace(": ", ":\n"), fontsize=8)
    figure.suptitle(title)
    return figure


def _strip(figure: Figure, shown: Images, bottom: float) -> None:
    for i, frame in enumerate(shown):
        axes = figure.add_axes((0.04 + 0.92 * i / len(shown), bottom, 0.9 / len(shown), 0.24))
        axes.imshow(frame)
        axes.set_axis_off()


def _violins(axes: Axes, values: Float[Tensor, "n k"], offsets: np.ndarray) -> None:
    """Draw the whole range of each column, with its lowest, middle and highest value."""
    axes.violinplot(list(values.numpy().T), offsets, showmedians=True, widths=0.8)
    axes.set_xticks(offsets)


def _histogram(axes: Axes, taps: Float[Tensor, "n k"], offsets: np.ndarray) -> None:
    axes.hist(taps.numpy(), bins=30, histtype="step", label=[f"t = {offset:+d}" for offset in offsets])
    axes.legend(fontsize=7)
