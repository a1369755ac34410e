"""Costs of detectors (paper tables are in 1e9 multiply-accumulates), and what they refuse."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from vattn.canonical import architecture_id
from vattn.config import ModelConfig
from vattn.cost import cost
from vattn.detection.scnn import SCNN
from vattn.model import build_model, load_model, network_on_meta

C3D = {"kind": "c3d"}
RC3D = {"kind": "rc3d"}


def model(backbone: dict, detector: dict, frames: int = 768, size: int = 112, **others: object) -> ModelConfig:
    return ModelConfig.parse(
        {"frames": frames, "size": size, "backbone": backbone, "detector": detector, **others}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("backbone", "base", "proposals", "regions", "params_m"),
    [
        (C3D, 1847.84, 13.59, 10.14, 75.65),
        ({"kind": "resnet3d", "depth": 18, "shortcut": "A"}, 379.19, 8.16, 14.87, 43.70),
        ({"kind": "resnet3d", "depth": 34, "shortcut": "A"}, 578.95, 8.16, 23.37, 74.01),
        ({"kind": "resnet3d", "depth": 50}, 458.88, 24.46, 19.70, 67.58),
    ],
)
def test_cost_of_a_buffer_with_300_regions(
    backbone: dict, base: float, proposals: float, regions: float, params_m: float
) -> None:
    known = cost(model(backbone, RC3D), 20)

    assert [row.macs / 1e9 for row in known.rows] == pytest.approx([base, proposals, regions], rel=0.005)
    assert known.params_m == pytest.approx(params_m, rel=0.005)
    assert known.gflops == pytest.approx(base + proposals + regions, rel=0.005)


def test_cost_of_the_128_regions_of_training() -> None:
    known = cost(model(C3D, RC3D | {"proposals": 128}), 20)

    assert known.gflops == pytest.approx(1865.76, rel=0.005)


@pytest.mark.parametrize(
    ("backbone", "gflops", "params_m"),
    [(C3D, 38.547, 78.0), ({"kind": "r3d", "depth": 18, "first_projection": True}, 40.902, 33.2)],
)
def test_cost_of_a_window_in_each_network(backbone: dict, gflops: float, params_m: float) -> None:
    known = cost(model(backbone, {"kind": "scnn"}, frames=16), 20)

    for name in ("proposal", "localisation"):
        rows = [row for row in known.rows if row.what == name]
        assert sum(row.macs for row in rows) / 1e9 == pytest.approx(gflops, rel=0.005)
        assert sum(row.params for row in rows) / 1e6 == pytest.approx(params_m, rel=0.005)
    assert known.gflops == pytest.approx(2 * gflops, rel=0.005)


@pytest.mark.parametrize(
    "config",
    [
        model(C3D, RC3D | {"variant": "caffe"}),
        model({"kind": "resnet3d", "depth": 50}, RC3D | {"variant": "caffe", "channels": 96}),
        model(C3D, RC3D, attention=[{"kind": "sta", "stages": [4, 5], "position": "b"}]),
        model({"kind": "r3d", "depth": 18}, RC3D, attention=[{"kind": "sta", "stages": [4]}]),
        model(C3D, {"kind": "scnn"}, frames=16, attention=[{"kind": "sta", "stages": [5]}]),
        model({"kind": "r3d", "depth": 18}, {"kind": "scnn"}, frames=16, attention=[{"kind": "sta", "stages": [5]}]),
    ],
    ids=lambda config: f"{config.detector.kind} {config.backbone.kind}",
)
def test_parameters_are_those_of_the_network(config: ModelConfig) -> None:
    net = network_on_meta(config, 20)

    assert cost(config, 20).params == sum(parameter.numel() for parameter in net.parameters())


def test_sta_after_conv5_has_the_parameters_of_table_4() -> None:
    plain, with_sta = (
        cost(model(C3D, RC3D, attention=attention), 20) for attention in ([], [{"kind": "sta", "stages": [5]}])
    )

    assert with_sta.params - plain.params == 27_141
    # The formula of the paper, c l (h w + 4) + 3 l, counts the product with the features as c l more.
    assert with_sta.macs - plain.macs + 512 * 96 == 2_605_344


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": {"kind": "resnet", "depth": 18}}, "needs a backbone of 3D convolutions"),
        ({"backbone": {"kind": "inflated", "depth": 50}}, "rc3d shares the maps of c3d and of 3D ResNets"),
        ({"frames": 100}, "whole places"),
        (
            {"backbone": {"kind": "r3d", "depth": 18}, "attention": [{"kind": "sta", "stages": [4, 5]}]},
            r"attention\[0\].stages: regions share stages 1, 2, 3, 4",
        ),
        ({"detector": {"kind": "scnn"}, "frames": 24}, "rising multiples of model.frames, 24"),
        ({"detector": {"kind": "scnn", "lengths": [32, 16]}, "frames": 16}, "rising multiples"),
        ({"detector": RC3D | {"nms": [0.7, 1.5]}}, "two numbers from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.parse({"frames": 768, "size": 112, "backbone": C3D, "detector": RC3D} | change)


def test_defaults_in_words_and_in_numbers_are_the_same_network() -> None:
    scales = [2, 4, 5, 6, 8, 9, 10, 12, 14, 16]

    words, numbers = (model(C3D, RC3D | extra) for extra in ({}, {"scales": scales, "nms": [0.8, 0.9]}))

    assert architecture_id(words) == architecture_id(numbers)


@pytest.mark.medium
@pytest.mark.parametrize("attention", [[], [{"kind": "sta", "stages": [3]}]])
def test_each_layer_has_a_gradient(attention: list) -> None:
    small = {"kind": "resnet3d", "depth": 10, "width": 0.125}
    detector = RC3D | {"scales": [2, 3], "channels": 8, "anchors": 8, "regions": 8}
    torch.manual_seed(0)
    net = build_model(model(small, detector, frames=32, size=32, attention=attention), 3).train()
    instances = torch.zeros(2, 20, 3)
    instances[:, 0] = torch.tensor([4.0, 20.0, 2.0])

    losses = net(torch.randn(2, 3, 32, 32, 32), instances)
    losses.sum().backward()

    assert losses.shape == (4,)
    without = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert not without


@pytest.mark.medium
def test_localisation_learns_as_classification_first() -> None:
    torch.manual_seed(0)
    small = {"kind": "resnet3d", "depth": 10, "width": 0.125}
    net = build_model(model(small, {"kind": "scnn", "lengths": [8]}, frames=8, size=32, head={"dropout": 0}), 3).eval()
    clips, targets = torch.randn(4, 3, 8, 32, 32), torch.tensor([[1.0, 0.1, 1], [0, 1, 1], [2, 0.5, 1], [0, 1, 0]])

    net.begin(1, 4)
    first = net(clips, targets)
    net.begin(3, 4)
    second = net(clips, targets)

    assert first[0] == second[0]
    # The overlap loss of the first three windows is added, of which the second is background.
    assert isinstance(net, SCNN)
    own = net.localise(clips).softmax(1)
    terms = [0.5 * (own[0, 1] ** 2 / 0.1**0.25 - 1), 0, 0.5 * (own[2, 2] ** 2 / 0.5**0.25 - 1)]
    torch.testing.assert_close(second[1] - first[1], sum(terms) / 3)
    # What is not used by the localisation network changes its loss by nothing.
    targets[3, 0] = 3
    assert net(clips, targets)[1] == second[1]


@pytest.mark.medium
def test_published_weights_of_r_c3d_are_read_and_see_red_first(tmp_path: Path) -> None:
    config = model(
        {"kind": "resnet3d", "depth": 18, "width": 0.125, "shortcut": "A"}, RC3D | {"channels": 8}, frames=32
    )
    net = build_model(config, 3)
    names = {
        "rpn.convs.0.": "RCNN_rpn.RPN_Conv1.", "rpn.convs.1.": "RCNN_rpn.RPN_Conv2.", "fc.": "RCNN_cls_score.",
        "rpn.score.": "RCNN_rpn.RPN_cls_score.", "rpn.offset.": "RCNN_rpn.RPN_twin_pred.", "offset.": "RCNN_twin_pred.",
        "backbone.conv1.": "RCNN_base.0.", "backbone.bn1.": "RCNN_base.1.", "backbone.layer1.": "RCNN_base.4.",
        "backbone.layer2.": "RCNN_base.5.", "backbone.layer3.": "RCNN_base.6.", "backbone.layer4.": "RCNN_top.0.",
    }  # fmt: skip
    published = {}
    for name, value in net.state_dict().items():
        own = next(prefix for prefix in names if name.startswith(prefix))
        published[names[own] + name.removeprefix(own)] = value
    torch.save({"model": published}, tmp_path / "rc3d.pth")

    loaded = load_model(config, 3, tmp_path / "rc3d.pth").state_dict()

    for name, value in net.state_dict().items():
        torch.testing.assert_close(loaded[name], value.flip(1) if name == "backbone.conv1.weight" else value)
