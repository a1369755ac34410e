"""Checkpoints with the authors' names are loaded into this package's networks, or the error names what does not fit."""

import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from tests.vattn.golden import FOLDER
from tests.vattn.support import model
from vattn.config import ModelConfig
from vattn.convert import convert_model, load_published
from vattn.errors import UserError
from vattn.model import VideoModel, build_model
from vattn.weights import Fit

Shapes = dict[str, tuple[int, ...]]
CLASSES = 10


def norm(name: str, channels: int) -> Shapes:
    shapes: Shapes = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes | {f"{name}.num_batches_tracked": ()}


def shapes_of(build: Callable[[], nn.Module]) -> Shapes:
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in build().state_dict().items()}


def recorded(case: str) -> Shapes:
    """Return the names and shapes that a recording of the authors' code lists."""
    file = FOLDER / f"{case}__eval.npz"
    if not file.is_file():
        pytest.skip(f"no recording {file}")
    with np.load(file) as arrays:
        return {name: tuple(shape) for name, shape in json.loads(str(arrays["meta"]))["param_names"]}


def resnet(depth: int) -> Shapes:
    return shapes_of(lambda: getattr(torchvision.models, f"resnet{depth}")(num_classes=CLASSES))


def blocks(shapes: Shapes) -> Iterator[tuple[str, Shapes]]:
    """Yield the name of each residual block, and its entries without this prefix."""
    for block in sorted({match[0] for name in shapes if (match := re.match(r"layer\d\.\d+", name))}):
        yield block, {name[len(block) + 1 :]: shape for name, shape in shapes.items() if name.startswith(block + ".")}


def action_net() -> Shapes:
    shapes = resnet(50)
    for block, own in blocks(shapes):
        c = own["conv1.weight"][1]
        r = c // 16
        shapes[f"{block}.conv1.net.weight"] = shapes.pop(f"{block}.conv1.weight")
        added = {
            "shift.weight": (c, 1, 3), "p1_conv1.weight": (1, 1, 3, 3, 3),
            "p2_squeeze.weight": (r, c, 1, 1), "p2_conv1.weight": (r, r, 3), "p2_expand.weight": (c, r, 1, 1),
            "p3_squeeze.weight": (r, c, 1, 1), "p3_conv1.weight": (r, 1, 3, 3), "p3_expand.weight": (c, r, 1, 1),
        } | norm("p3_bn1", r)  # fmt: skip
        shapes |= {f"{block}.conv1.action_{name}": shape for name, shape in added.items()}
    return shapes


def tea() -> Shapes:
    """Return the shapes of a Res2Net-50 of width 26 and scale 4, with motion excitation and temporal convolutions."""
    shapes = resnet(50)
    for block, own in blocks(shapes):
        planes, inputs = own["conv1.weight"][:2]
        width = planes * 26 // 64
        c, r = 4 * width, 4 * width // 16
        for name in own:
            if name.startswith(("conv2", "bn2")):
                del shapes[f"{block}.{name}"]
        added = {"conv1.weight": (c, inputs, 1, 1), "conv3.weight": (4 * planes, c, 1, 1)} | norm("bn1", c)
        for i in range(3):
            added |= {f"convs.{i}.weight": (width, width, 3, 3)} | norm(f"bns.{i}", width)
        added |= {f"shifts.{i}.conv.weight": (width, 1, 3) for i in range(4)}
        added |= {"me.conv1.weight": (r, c, 1, 1), "me.conv2.weight": (r, 1, 3, 3), "me.conv3.weight": (c, r, 1, 1)}
        added |= norm("me.bn1", r) | norm("me.bn3", c)
        shapes |= {f"{block}.{name}": shape for name, shape in added.items()}
    return shapes


def tdn() -> Shapes:
    """Return the shapes of a ResNet-50 with biases, differences, a second stem and res2, and the unused entries."""
    plain = resnet(50)
    biases = {
        name.replace(".weight", ".bias"): shape[:1] for name, shape in plain.items() if len(shape) == 4
    }  # fmt: skip
    plain |= biases
    shapes = {name: shape for name, shape in plain.items() if not name.startswith("layer")}
    shapes |= {"conv1_5.0.weight": (64, 12, 7, 7)} | norm("conv1_5.1", 64)
    for copy in ("conv1_temp", "conv1_temp1"):
        shapes |= {f"{copy}.weight": (64, 3, 7, 7), f"{copy}.bias": (64,)}
    for block, own in blocks(plain):
        layer, _, index = block.partition(".")
        c = own["conv1.weight"][0]
        r = c // 16
        if layer != "layer1":
            own |= {
                "mse.conv1.weight": (r, c, 1, 1), "mse.conv2.weight": (r, 1, 3, 3), "mse.conv3.weight": (c, r, 1, 1),
                "mse.conv3_smallscale2.weight": (r, r, 3, 3), "mse.conv3_smallscale4.weight": (r, r, 3, 3),
                "shift.conv.weight": (c, 1, 3),
            } | norm("mse.bn1", r) | norm("mse.bn3", c)  # fmt: skip
            own |= norm("mse.bn3_smallscale2", r) | norm("mse.bn3_smallscale4", r)
        paths = ["layer1_bak", "resnext_layer1"] if layer == "layer1" else [f"{layer}_bak"]
        shapes |= {f"{path}.{index}.{name}": shape for path in paths for name, shape in own.items()}
    return shapes


def mobilenet(wrap: Callable[[str, int], Shapes] | None = None) -> Shapes:
    """Return the shapes of the MobileNetV2 of TSM, M2A and ACTION-Net, whose blocks are flat.

    ``wrap`` gives the entries of the mechanism that wraps the first convolution of a block.
    """
    published = shapes_of(lambda: torchvision.models.mobilenet_v2(num_classes=CLASSES))
    flat = {"0.0": 0, "0.1": 1, "1.0": 3, "1.1": 4, "2": 6, "3": 7}
    shapes: Shapes = {}
    for name, shape in published.items():
        part = re.fullmatch(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)", name)
        if part is None:
            shapes[name.replace("classifier.1.", "classifier.")] = shape
            continue
        # The first block has no expansion, so its layers have numbers that are lower by 3.
        place = {"0.0": 0, "0.1": 1, "1": 3, "2": 4}[part[2]] if part[1] == "1" else flat[part[2]]
        shapes[f"features.{part[1]}.conv.{place}.{part[3]}"] = shape
    for i in range(2, 18):
        first, last = f"features.{i}.conv.0", f"features.{i}.conv.6.weight"
        if wrap and shapes[f"{first}.weight"][1] == shapes[last][0]:
            shapes |= wrap(first, shapes[f"{first}.weight"][1])
            inner = "1" if any(name.startswith(f"{first}.0.") for name in shapes) else "net"
            shapes[f"{first}.{inner}.weight"] = shapes.pop(f"{first}.weight")
    return shapes


def m2a_around(first: str, c: int) -> Shapes:
    down, up = f"{first}.0.conv_down", f"{first}.0.conv_up"
    return {
        f"{down}.weight": (c // 8, c, 1, 1), f"{down}.bias": (c // 8,),
        f"{up}.weight": (c, c // 8, 1, 1), f"{up}.bias": (c,),
    }  # fmt: skip


R50, MOBILENET = {"kind": "resnet", "depth": 50}, {"kind": "mobilenet_v2"}
#: The authors' networks: names and shapes in their code, and this package's config.
NETWORKS: dict[str, tuple[Callable[[], Shapes], ModelConfig]] = {
    "TSN": (lambda: resnet(18), model(backbone={"kind": "resnet", "depth": 18})),
    "TANet-50": (lambda: recorded("tanet50_t8_32px"), model({"kind": "tam"}, backbone=R50, frames=8)),
    "TSM-50": (lambda: recorded("tsm50_t8_32px"), model({"kind": "tsm"}, backbone=R50, frames=8)),
    "M2A-18": (
        lambda: recorded("m2a_resnet18_t8_32px"),
        model({"kind": "m2a"}, backbone={"kind": "resnet", "depth": 18}, frames=8),
    ),
    "ACTION-50": (action_net, model({"kind": "action"}, backbone=R50)),
    # TEA's blocks have 4 x 26 channels instead of a ResNet's 64, and MTA in place of the 3x3 convolution.
    "TEA-50": (
        tea,
        model({"kind": "tea"}, {"kind": "mta"}, backbone={"kind": "resnext", "cardinality": 4, "width_per_group": 26}),
    ),
    "TDN-50": (tdn, model({"kind": "tdn", "stages": [3, 4, 5]}, backbone={"kind": "resnet_tdn", "depth": 50}, size=64)),
    "TSN-MobileNetV2": (mobilenet, model(backbone=MOBILENET)),
    "TSM-MobileNetV2": (lambda: mobilenet(lambda first, c: {}), model({"kind": "tsm"}, backbone=MOBILENET)),
    "M2A-MobileNetV2": (lambda: mobilenet(m2a_around), model({"kind": "m2a", "reduction": 8}, backbone=MOBILENET)),
}


def checkpoint(shapes: Shapes, fill: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(fill)
    return {
        name: torch.tensor(5) if name.endswith("num_batches_tracked") else torch.rand(shape, generator=generator)
        for name, shape in shapes.items()
    }


def saved(state: dict[str, Tensor], file: Path, **around: Any) -> Path:
    """Save as TSN's code and its descendants do: under "state_dict", beside other entries."""
    torch.save({"epoch": 50, "arch": "resnet50", "best_prec1": 47.1, "state_dict": OrderedDict(state)} | around, file)
    return file


def wrapped(state: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """Return the state with the names of TSN's model in nn.DataParallel; ``head`` is its name of the classifier."""
    names = {n: re.sub(r"^(fc|classifier)\.", f"{head}.", f"{n}") for n in state}
    return {f"module.{n if n.startswith('new_fc') else 'base_model.' + n}": state[old] for old, n in names.items()}


@pytest.mark.medium
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("head", ["new_fc", "fc"])
def test_every_value_of_an_authors_checkpoint_is_loaded(name: str, head: str, tmp_path: Path) -> None:
    shapes, network = NETWORKS[name]
    state = checkpoint(shapes())
    if "MobileNet" in name and head == "fc":
        head = "classifier"
    net = build_model(network, CLASSES)

    fit = load_published(net, network, saved(wrapped(state, head), tmp_path / "ckpt.pth.tar"))

    assert fit
    own = net.state_dict()
    used = {n: v for n, v in state.items() if not n.startswith("conv1_temp") and v.dim()}
    assert sorted(v.sum().item() for v in used.values()) == pytest.approx(
        sorted(v.sum().item() for v in own.values() if v.dim())
    )
    torch.testing.assert_close(own["fc.weight"], state["classifier.weight" if "MobileNet" in name else "fc.weight"])


def test_names_of_a_tsm_mobilenet_are_converted() -> None:
    _, network = NETWORKS["TSM-MobileNetV2"]
    authors = {
        "features.0.0.weight": 0, "features.1.conv.0.weight": 1, "features.1.conv.3.weight": 2,
        "features.1.conv.4.bias": 3, "features.3.conv.0.net.weight": 4, "features.3.conv.1.running_var": 5,
        "features.3.conv.3.weight": 6, "features.3.conv.4.weight": 7, "features.3.conv.6.weight": 8,
        "features.3.conv.7.bias": 9, "features.18.1.bias": 10,
    }  # fmt: skip

    converted = convert_model({name: torch.tensor(i) for name, i in authors.items()}, network)

    assert {name.removeprefix("backbone."): int(i) for name, i in converted.items()} == {
        "features.0.0.weight": 0, "features.1.conv.0.0.weight": 1, "features.1.conv.1.weight": 2,
        "features.1.conv.2.bias": 3, "features.3.conv.0.0.weight": 4, "features.3.conv.0.1.running_var": 5,
        "features.3.conv.1.0.weight": 6, "features.3.conv.1.1.weight": 7, "features.3.conv.2.weight": 8,
        "features.3.conv.3.bias": 9, "features.18.1.bias": 10,
    }  # fmt: skip


def test_names_of_m2a_and_action_in_a_mobilenet_are_converted_to_position_a() -> None:
    m2a = {"features.3.conv.0.0.conv_down.weight": 0, "features.3.conv.0.1.weight": 1}
    action = {"features.3.conv.0.action_shift.weight": 0, "features.3.conv.0.net.weight": 1}
    place, first = "backbone.features.3.at.a.0.module.", "backbone.features.3.conv.0.0.weight"

    for kind, authors in ("m2a", m2a), ("action", action):
        network = model({"kind": kind, "reduction": 8}, backbone=MOBILENET)
        converted = convert_model({name: torch.tensor(i) for name, i in authors.items()}, network)
        assert [name.startswith(place) for name in converted] == [True, False]
        assert int(converted[first]) == 1


@pytest.fixture
def tsn(tmp_path: Path) -> tuple[ModelConfig, VideoModel, dict[str, Tensor], Path]:
    network = model(backbone={"kind": "resnet", "depth": 18})
    return network, build_model(network, CLASSES), checkpoint(resnet(18)), tmp_path / "ckpt.pth"


def test_entries_that_do_not_fit_are_named(tsn: tuple) -> None:
    network, net, state, file = tsn
    state["layer9.weight"] = state.pop("layer1.0.conv1.weight")
    state["conv1.weight"] = torch.zeros(64, 15, 7, 7)
    saved(state, file)

    with pytest.raises(UserError, match=r"ckpt\.pth does not fit this model") as error:
        load_published(net, network, file)
    assert str(error.value).endswith(
        "model: it lacks backbone.layer1.0.conv1.weight; it also has backbone.layer9.weight; "
        "it has other shapes for backbone.conv1.weight"
    )


def test_entries_that_fit_are_loaded_without_strict(tsn: tuple) -> None:
    network, net, state, file = tsn
    before = {name: value.clone() for name, value in net.state_dict().items()}
    del state["bn1.weight"]
    state["conv1.weight"] = torch.zeros(64, 15, 7, 7)
    saved(state, file)

    fit = load_published(net, network, file, strict=False)

    assert fit == Fit(("backbone.bn1.weight",), (), ("backbone.conv1.weight",))
    after = net.state_dict()
    for name in ("backbone.bn1.weight", "backbone.conv1.weight"):
        torch.testing.assert_close(after[name], before[name])
    torch.testing.assert_close(after["backbone.layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_a_classifier_for_other_classes_is_not_loaded_without_head(tsn: tuple) -> None:
    network, _, state, file = tsn
    saved(wrapped(state, "new_fc"), file)
    net = build_model(network, CLASSES + 7)
    before = net.fc.weight.clone()

    with pytest.raises(UserError, match=r"other shapes for fc\.weight, fc\.bias"):
        load_published(net, network, file)
    assert load_published(net, network, file, head=False)

    torch.testing.assert_close(net.fc.weight, before)
    torch.testing.assert_close(net.backbone.get_parameter("bn1.weight"), state["bn1.weight"])


def test_a_state_dict_without_wrapping_and_without_batch_counts_is_loaded(tsn: tuple) -> None:
    network, net, state, file = tsn
    torch.save({name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}, file)

    assert load_published(net, network, file)


class Code:
    """An object that makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)

    def __init__(self, folder: Path) -> None:
        self.folder = folder


def test_a_file_that_could_run_code_is_refused_and_does_not_run_it(tsn: tuple, tmp_path: Path) -> None:
    network, net, state, file = tsn
    saved(state, file, optimizer=Code(tmp_path / "made"))

    with pytest.raises(UserError, match=r"ckpt\.pth is not read:.*mkdir, could run any code.*\"state_dict\" alone"):
        load_published(net, network, file)
    assert not (tmp_path / "made").exists()
