"""Weights are recognised by their names; those of networks that do not exist here are named."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from tests.vattn.support import model
from vattn.errors import UserError
from vattn.model import build_model, load_model
from vattn.normalization import IMAGENET
from vattn.weights import Checkpoint
from vattn.weights.families import recognise

FILE = Path("weights.pth")


def checkpoint(*names: str, **shapes: tuple[int, ...]) -> Checkpoint:
    return Checkpoint(
        FILE, {name: torch.zeros(2, 2) for name in names} | {n: torch.zeros(s) for n, s in shapes.items()}
    )


@pytest.mark.parametrize(
    ("names", "network"),
    [
        (["videomae.encoder.layer.0.attention.attention.query.weight"], "a Hugging Face VideoMAE"),
        (["timesformer.encoder.layer.0.attention.attention.qkv.weight"], "a Hugging Face TimeSformer"),
        (["vivit.encoder.layer.0.attention.attention.query.weight"], "a Hugging Face ViViT"),
        (["resnet.encoder.stages.0.layers.0.layer.0.convolution.weight"], "a Hugging Face ResNet"),
        (["encoder.blocks.0.attn.qkv.weight", "patch_embed.proj.weight"], "a vision transformer, such as VideoMAE"),
        (["model.blocks.0.temporal_attn.qkv.weight", "blocks.0.attn.qkv.weight"], "a TimeSformer"),
        (["blocks.0.attn.pool_q.weight", "blocks.0.attn.qkv.weight"], "an MViT"),
        (["backbone.layers.0.blocks.0.attn.qkv.weight"], "a Video Swin transformer"),
        (["features.1.0.attn.qkv.weight"], "a Video Swin transformer"),
        (["visual.transformer.resblocks.0.attn.in_proj_weight"], "CLIP"),
        (["s2.pathway0_res0.branch2.se.fc1.weight"], "an X3D"),
        (["Conv3d_1a_7x7.conv3d.weight"], "an Inception I3D"),
        (["conv1_7x7_s2.weight"], "a BN-Inception"),
        (["blocks.0.multipathway_blocks.0.conv.weight"], "a network of PyTorchVideo"),
    ],
)
def test_weights_of_other_networks_are_named(names: list[str], network: str) -> None:
    with pytest.raises(UserError, match=f"weights.pth holds weights of {network}.*, which is not one of the networks"):
        recognise(checkpoint(*(f"module.{name}" for name in names)))


def test_torchvisions_other_video_networks_are_named() -> None:
    with torch.device("meta"):
        networks = {
            "an S3D of torchvision": torchvision.models.video.s3d(),
            "an MViT": torchvision.models.video.mvit_v2_s(),
            "a Video Swin transformer": torchvision.models.video.swin3d_t(),
        }
    for name, network in networks.items():
        with pytest.raises(UserError, match=f"holds weights of {name}"):
            recognise(Checkpoint(FILE, network.state_dict()))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.", "_orig_mod.", "module.model.", "model.net."])
def test_prefixes_of_wrappers_are_removed(prefix: str, tmp_path: Path) -> None:
    network = model()
    state = build_model(network, 5).state_dict()
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "a.pt")

    loaded = load_model(network, 5, tmp_path / "a.pt").state_dict()

    assert all(loaded[name].equal(state[name]) for name in state)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.base_model."])
def test_a_torchvision_network_is_used_as_backbone_weights(prefix: str, tmp_path: Path) -> None:
    published = torchvision.models.resnet18(num_classes=7).state_dict()
    torch.save({"state_dict": {prefix + name: value for name, value in published.items()}}, tmp_path / "a.pt")

    net = build_model(model(backbone={"kind": "resnet", "depth": 18, "weights": str(tmp_path / "a.pt")}), 3)

    own: dict[str, Tensor] = net.backbone.state_dict()
    assert own.keys() == {name for name in published if not name.startswith("fc.")}
    assert all(own[name].equal(published[name]) for name in own)


def test_a_training_of_this_package_is_used_as_backbone_weights(tmp_path: Path) -> None:
    for kind in ({"kind": "resnet", "depth": 10}, {"kind": "r2plus1d", "depth": 10}, {"kind": "mobilenet_v2"}):
        trained = build_model(model(backbone=kind | {"width": 0.25}), 5).state_dict()
        torch.save(dict(trained), tmp_path / "model.pt")

        net = build_model(model(backbone=kind | {"width": 0.25, "weights": str(tmp_path / "model.pt")}), 3)

        own = net.backbone.state_dict()
        assert all(own[name].equal(trained[f"backbone.{name}"]) for name in own)


def test_a_zero_padded_inflated_network_needs_that_padding(tmp_path: Path) -> None:
    kind = {"kind": "i3d_resnet", "depth": 10, "width": 0.25}
    inflated = build_model(model(backbone=kind), 5).backbone.state_dict()
    torch.save(dict(inflated), tmp_path / "i3d.pt")
    file = {"weights": str(tmp_path / "i3d.pt")}

    with pytest.raises(
        UserError, match=r"weights: .*pad with frames of zeros; write padding: zeros .*\(got padding: rep"
    ):
        build_model(model(backbone=kind | file), 5)
    net = build_model(model(backbone=kind | file | {"padding": "zeros"}), 5)
    own = net.backbone.state_dict()
    assert all(own[name].equal(inflated[name]) for name in own)


def test_zeros_and_repeated_frames_differ_only_at_the_ends_of_a_clip() -> None:
    # Stage 2 keeps the number of frames, so its middle frame sees no end of a clip of 11 frames, 4 convolutions away.
    nets = {}
    for padding in ("repeat", "zeros"):
        torch.manual_seed(0)
        nets[padding] = build_model(
            model(backbone={"kind": "i3d_resnet", "depth": 10, "width": 0.25, "padding": padding}), 5
        ).eval()
    assert nets["zeros"].state_dict().keys() == nets["repeat"].state_dict().keys()
    clips = torch.randn(1, 3, 11, 32, 32)
    with torch.no_grad():
        early = {
            padding: torch.nn.Sequential(*list(net.backbone.children())[:5])(clips) for padding, net in nets.items()
        }
    difference = (early["zeros"] - early["repeat"]).abs().amax((0, 1, 3, 4))
    assert difference[0] > 1e-3
    assert difference[5] < 1e-6


def test_a_name_that_profilers_add_is_left_out() -> None:
    names = recognise(checkpoint("layer1.0.conv1.weight", "layer1.0.conv1.total_ops", "total_params")).names
    assert list(names) == ["layer1.0.conv1.weight"]


def test_unknown_names_say_nothing_about_pixels_but_those_of_tsn_do() -> None:
    assert recognise(checkpoint("a.weight", "b.weight")).statistics is None
    assert recognise(checkpoint("layer1.0.conv1.net.weight")).statistics is IMAGENET
