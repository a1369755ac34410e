"""Compute what a trained model responds to: branch frames, Grad-CAM maps, and the values of its mechanisms."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vattn.errors import UserError
from vattn.model import SparseModel, VideoModel
from vattn.modules._temporal import TemporalConv
from vattn.modules.i3d import I3DConfig
from vattn.modules.sta import STA
from vattn.modules.tam import TAM
from vattn.trained import Trained

#: The literature's names of the parts of a residual network.
_STAGES = {"relu": "stem", "layer1": "res2", "layer2": "res3", "layer3": "res4", "layer4": "res5"}
#: Number of classes whose probabilities are shown.
_SHOWN_CLASSES = 3

Images = UInt8[np.ndarray, "t h w 3"]
Kernels = Float[Tensor, "n k"]


class ShownFrames(NamedTuple):
    """The frames that a picture shows, one for each of the model's T, and their numbers in the video, from 0.

    ``inputs`` are what the model sees of them where this is something else: differences of frames.
    """

    pixels: Images
    numbers: Sequence[int]
    inputs: Images | None = None

    def rows(self) -> dict[str, Any]:
        """Return the first rows of a picture: the frames, and what the model sees of them."""
        rows: dict[str, Any] = {"original": self.pixels}
        return rows if self.inputs is None else rows | {"difference": self.inputs}


class BranchViews(NamedTuple):
    """The input of sparse attention's branches: by branch, saliency maps and resampled frames, one per frame of T."""

    saliencies: dict[str, list[np.ndarray]]
    frames: dict[str, Images]


class ClassMaps(NamedTuple):
    """Grad-CAM maps by layer for the class with the highest probability, and the best classes' probabilities.

    ``truth`` is the clip's class and its probability, if it is known.
    """

    maps: dict[str, Float[Tensor, "t i j"]]
    classes: list[int]
    probabilities: list[float]
    truth: tuple[int, float] | None = None


class TAMValues(NamedTuple):
    """The kernels and the importance that one TAM predicts for a clip; None for a branch that it does not have."""

    stage: str
    place: str
    kernel: Kernels | None
    gate: Float[Tensor, "c t"] | None

    @property
    def name(self) -> str:
        """Name of the picture."""
        return f"tam-{self.place}"


class STAValues(NamedTuple):
    """The input features of one STA for a clip, and its weights W.

    ``weights`` (D, S) are those of each frame and channel, or the same for all channels (D = 1) or frames (S = 1).
    """

    stage: str
    place: str
    features: Float[Tensor, "c t h w"]
    weights: Float[Tensor, "d s"]

    @property
    def name(self) -> str:
        """Name of the picture."""
        return f"sta-{self.place}"


def branch_views(net: SparseModel, images: Float[Tensor, "1 c f h w"], clip: Images, frames: int) -> BranchViews:
    """Return what sparse attention's branches see of ``clip`` (uint8), whose normalised form is ``images``.

    ``frames`` is T, the number of frames to show.
    """
    pixels = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float()
    with torch.no_grad():
        maps = net.class_maps(images)[1]
        resampled = net.sparse(pixels, maps, "extreme")
        saliencies = net.sparse.saliencies(maps, "extreme")
    per_segment = len(clip) // frames
    return BranchViews(
        {branch: spread_over_time(saliencies[branch], frames) for branch in resampled},
        {
            branch: new[0].permute(1, 2, 3, 0).round().byte().numpy()[per_segment // 2 :: per_segment]
            for branch, new in resampled.items()
        },
    )


def grad_cam_of_best_class(net: VideoModel, images: Float[Tensor, "1 c f h w"], truth: int | None = None) -> ClassMaps:
    """Return the best classes of a clip, whose class is ``truth``, and the Grad-CAM maps of the best one."""
    with torch.no_grad():
        probabilities = net(images).softmax(1)[0]
    best = probabilities.topk(min(_SHOWN_CLASSES, len(probabilities)))
    classes = best.indices.tolist()
    known = None if truth is None else (truth, float(probabilities[truth]))
    return ClassMaps(grad_cams(net, images, classes[0]), classes, best.values.tolist(), known)


def grad_cams(net: VideoModel, images: Float[Tensor, "1 c f h w"], label: int) -> dict[str, Float[Tensor, "t i j"]]:
    """Return Grad-CAM maps of class ``label`` by layer, scaled so that the highest value in the clip is 1.

    A map is the sum over channels of features weighted by the gradient of the class's score, which is averaged over the
    pixels of each frame; negative sums are set to 0. Among the backbone's parts with the same size in pixels, the last
    one is used.

    Source: Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, "Grad-CAM: Visual Explanations from Deep Networks via
    Gradient-Based Localization", IJCV 2020.
    """
    last: dict[tuple[int, int], tuple[str, Tensor]] = {}
    with _outputs(net.backbone) as outputs, torch.enable_grad():
        score = net(images)[0, label]
    for name, features in outputs:
        if features.dim() > 3 and features.shape[-1] > 1:
            height, width = features.shape[-2:]
            last[height, width] = (f"{_STAGES.get(name, name)}\n{height} x {width}", features)
    gradients = torch.autograd.grad(score, [features for _, features in last.values()], allow_unused=True)
    maps_of = {}
    for (name, features), gradient in zip(last.values(), gradients, strict=True):
        if gradient is not None:
            maps = (features * gradient.mean((-2, -1), keepdim=True)).sum(1).relu().detach()
            maps = maps.flatten(0, -3)  # (T, h, w), both from images (T, h, w) and from a clip (1, T, h, w)
            maps_of[name] = maps / maps.max().clamp(min=torch.finfo(maps.dtype).tiny)
    return maps_of


@contextmanager
def _outputs(backbone: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """Yield a list that gets the outputs of the backbone's parts, in order, when it runs for the first time."""
    parts = list(backbone.named_children())
    if sum(isinstance(part, nn.Sequential) for _, part in parts) == 1:
        # The whole network is one sequence, so its members are the parts.
        parts = [
            (f"{n}.{i}", m) for n, part in parts if isinstance(part, nn.Sequential) for i, m in part.named_children()
        ]
    outputs: list[tuple[str, Tensor]] = []
    hooks = [
        part.register_forward_hook(_append_to(outputs, name))
        for name, part in parts
        if not isinstance(part, nn.ModuleDict)
    ]

    def stop(*_: Any) -> None:
        for hook in hooks:
            hook.remove()

    # A model with branches runs the backbone up to three times, first on the original.
    hooks.append(backbone.register_forward_hook(stop))
    try:
        yield outputs
    finally:
        stop()


def _append_to(outputs: list[tuple[str, Tensor]], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    return lambda _, __, y: outputs.append((name, y))


def mechanism_values(net: VideoModel, images: Float[Tensor, "1 c f h w"]) -> Iterator[TAMValues | STAValues]:
    """Yield the values of the last TAM and the last STA in each stage, for a clip."""
    last = {
        (type(m), _place(name)[0]): (name, m) for name, m in net.backbone.named_modules() if isinstance(m, TAM | STA)
    }
    for name, module in last.values():
        stage, place = _place(name)
        if isinstance(module, TAM):
            parts = {n: part for n, part in (("kernel", module.kernel), ("gate", module.gate)) if part is not None}
            with _recorded(parts) as outputs, torch.no_grad():
                net(images)
            kernel, gate = (outputs[n][0] if n in outputs else None for n in ("kernel", "gate"))
            yield TAMValues(stage, place, kernel, None if gate is None else gate[0])
        else:
            with _recorded({"sta": module}, inputs=True) as outputs, torch.no_grad():
                net(images)
                features = outputs["sta"][0]
                weights = module.weigh(features)
            yield STAValues(stage, place, features[0], weights[0])


def _place(name: str) -> tuple[str, str]:
    """Return the stage and the place of a module by its name: layer3 and stage4_6b for "layer3.5.at.b.0.module"."""
    parts = name.split(".")
    if match := re.match(r"layer(\d)\.(\d+)", name):
        return parts[0], f"stage{int(match[1]) + 1}_{int(match[2]) + 1}b"
    return parts[0], "_".join(parts[:2])


def kernels_of_i3d(i3d: Trained | None) -> dict[str, tuple[str, Kernels]]:
    """Return for each stage the place of the last temporal convolution of I3D, and its weights over time.

    A row of the weights is one pair of an input and an output channel.

    Raises:
        UserError: the config has no mechanism of kind i3d.
    """
    if i3d is None:
        return {}
    config, net, _ = i3d
    if not any(isinstance(mechanism, I3DConfig) for mechanism in config.model.attention):
        raise UserError("the config has no attention of kind i3d", path="--i3d", way_out="name one that has")
    last = {_place(name): m for name, m in net.backbone.named_modules() if isinstance(m, TemporalConv)}
    return {stage: (place, m.weight.detach().flatten(0, 1)) for (stage, place), m in last.items()}


@contextmanager
def _recorded(layers: dict[str, nn.Module], inputs: bool = False) -> Iterator[dict[str, list[Tensor]]]:
    """Yield a dictionary that gets, for each of ``layers``, its output in every call, or its first input."""
    values: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, args, y: values[name].append(args[0] if inputs else y)

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    try:
        yield values
    finally:
        for hook in hooks:
            hook.remove()


def spread_over_time(maps: Tensor, frames: int) -> list[np.ndarray]:
    """Return one map for each of ``frames``; a network with temporal strides gives fewer maps than frames."""
    return [maps[t * len(maps) // frames].numpy() for t in range(frames)]
