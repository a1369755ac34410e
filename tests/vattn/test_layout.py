"""Features stay in the format channels_last through every mechanism, forward and backward."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.vattn.modules.test_mechanisms import EVERY
from tests.vattn.support import model, place_of
from vattn.config import ModelConfig, TrialConfig
from vattn.model import VideoModel, build_model
from vattn.modules import ModuleConfig
from vattn.training.start import start

FRAMES, SIZE = 4, 64
#: Copies that torch makes of a tensor in another layout.
COPIES = {"clone", "copy_", "_to_copy", "contiguous"}


def order(x: Tensor) -> list[int]:
    """Return the dimensions of more than one place from the innermost to the outermost one."""
    return sorted((d for d in range(x.dim()) if x.shape[d] > 1), key=x.stride)


class Conversions(TorchDispatchMode):
    """Collects copies that change the layout of ``least`` or more values."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.found = least, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name in COPIES:
            source, target = (args[1], args[0]) if name == "copy_" else (args[0], result)
            # Of three dimensions are statistics of frames and weights of 1D convolutions.
            large = source.dim() > 3 and source.numel() == target.numel() >= self.least
            if large and order(source) != order(target):
                self.found.append((name, tuple(source.shape), source.stride(), target.stride()))
        return result


@contextmanager
def two_threads() -> Iterator[None]:
    """Use two threads: with one, torch computes 1x1 convolutions in another way, without channels_last in 3D."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def in_other_layouts(net: VideoModel, config: ModelConfig, clips: int) -> tuple[list[Any], list[Any]]:
    """Return the outputs of layers that are not in channels_last, and the copies to other layouts, of a step."""
    outputs = []

    def keep(layer: nn.Module, args: object, y: Tensor) -> None:
        if y.dim() in (4, 5) and min(y.shape[1], y.shape[-1]) > 1 and order(y)[0] != 1:
            outputs.append((layer, tuple(y.shape), y.stride()))

    for layer in net.modules():
        if not isinstance(layer, nn.AdaptiveAvgPool3d):  # before the last layers, whose input is a vector
            layer.register_forward_hook(keep)
    frames = config.frames * config.backbone.frames_per_segment
    x = torch.randn(clips, frames, config.size, config.size, 3).movedim(-1, 1)
    # Maps of two channels; what is smaller is weights and statistics of frames.
    with Conversions(least=clips * config.frames * 512) as conversions, two_threads():
        net.loss(net.train()(x), torch.arange(clips)).backward()
    return outputs, conversions.found


def network(config: ModuleConfig, **backbone: Any) -> ModelConfig:
    place = place_of(config)
    tree = config.tree() | {"position": place, "stages": [2, 3], "every": 1}
    return model(tree, depth=14 if place != "b" else 10, width=0.5, size=SIZE, **backbone)


#: One config of each form that a mechanism has.
SOME = [name for name in EVERY if name.endswith("-0") or name in ("action-1", "action-2", "cstl-2", "m2a-11", "m2a-13")]


@pytest.mark.medium
@pytest.mark.parametrize("clips", [1, 2])
@pytest.mark.parametrize("name", SOME)
def test_images_keep_their_layout_in_a_mechanism(name: str, clips: int) -> None:
    config = network(EVERY[name])

    assert in_other_layouts(build_model(config, 5), config, clips) == ([], [])


@pytest.mark.medium
@pytest.mark.parametrize("name", ["action-0", "m2a-0", "nonlocal-0", "tam-0", "tdn-0", "tea-0"])
def test_clips_keep_their_layout_in_a_mechanism(name: str) -> None:
    config = network(EVERY[name], backbone={"kind": "resnet3d", "depth": 10, "width": 0.5}, frames=8)

    assert in_other_layouts(build_model(config, 5), config, 2) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mobilenet_v2", {}), ("shufflenet_v2", {}), ("slowfast", {"depth": 14, "alpha": 4}), ("c3d", {"width": 0.25}),
        ("p3d", {"depth": 17}), ("i3d_resnet", {"depth": 14}), ("tcnn", {}),
    ],
)  # fmt: skip
def test_backbones_keep_the_layout(kind: str, options: dict[str, Any]) -> None:
    config = model(backbone={"kind": kind} | options, frames=16, size=32)

    assert in_other_layouts(build_model(config, 5), config, 2) == ([], [])


def test_a_conversion_is_found() -> None:
    config = network(EVERY["tsm-0"])
    net = build_model(config, 5)
    net.backbone.layer1[0].at["b"].append(Contiguous())  # pyright: ignore

    outputs, copies = in_other_layouts(net, config, 2)

    assert outputs
    assert copies


class Contiguous(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous()


def strays(net: nn.Module) -> list[str]:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return [
        name for name, p in net.named_parameters()
        if p.dim() in formats and not p.is_contiguous(memory_format=formats[p.dim()])
    ]  # fmt: skip


@pytest.mark.medium
def test_weights_are_in_channels_last_also_if_they_start_from_a_file(tmp_path: Path) -> None:
    tree: dict[str, Any] = {
        "data": {"kind": "motion"},
        "model": {"frames": 4, "size": 64, "backbone": {"kind": "resnext", "depth": 50, "width_per_group": 4},
                  "attention": [{"kind": "tea"}, {"kind": "mta"}]},
        "train": {"epochs": 1, "batch": 8, "lr": 0.1},
    }  # fmt: skip
    config = TrialConfig.parse(tree)
    net = build_model(config.model, config.data.num_classes())
    torch.save(net.state_dict(), tmp_path / "trained.pt")

    loaded = start(TrialConfig.parse(tree | {"train": tree["train"] | {"init": str(tmp_path / "trained.pt")}}))

    assert strays(net) == strays(loaded) == []
