"""Training leaves out residual branches, clip by clip, with probabilities that rise linearly."""

from typing import Any

import pytest
import torch

from tests.vattn.support import model
from vattn.backbones import BackboneConfig
from vattn.backbones._residual import BlocksConfig, SkippedBlock
from vattn.canonical import architecture_id
from vattn.model import build_model

KINDS = sorted(kind for kind, config in BackboneConfig.kinds.items() if issubclass(config, BlocksConfig))
SMALLEST: dict[str, dict[str, Any]] = {
    "resnet": {"depth": 18}, "resnext": {}, "resnet_tdn": {"depth": 18}, "resnet3d": {"depth": 18},
    "resnext3d": {"depth": 14}, "r3d": {}, "r2plus1d": {}, "i3d_resnet": {}, "p3d": {"depth": 17},
    "slowfast": {"depth": 14}, "tcnn": {}, "inflated": {}, "mc3": {}, "resnet2plus1d": {"depth": 18},
}  # fmt: skip


def backbone(kind: str, **options: Any) -> Any:
    frames = 16 if kind == "p3d" else 8
    with torch.device("meta"):
        config = model(backbone={"kind": kind} | SMALLEST[kind] | options, frames=frames, size=64)
        return config, build_model(config, 4).backbone


def test_the_residual_backbones_have_it() -> None:
    assert set(KINDS) == set(SMALLEST)


@pytest.mark.parametrize("kind", KINDS)
def test_the_probability_rises_from_the_first_block_to_the_last(kind: str) -> None:
    config, net = backbone(kind, stochastic_depth=0.4)

    paths = config.backbone.pathways(net)

    blocks = [module for module in net.modules() if isinstance(module, SkippedBlock)]
    assert {block for path in paths for block in path} == set(blocks)
    for path in paths:
        count = len(path)
        assert [block.skips for block in path] == pytest.approx([0.4 * n / count for n in range(1, count + 1)])
    assert {block.frames for block in blocks} == {config.frames if config.backbone.folds else 1}


def test_resnet_18_has_eight_blocks_in_the_order_of_the_forward_pass() -> None:
    _, net = backbone("resnet", stochastic_depth=0.8)

    assert net.layer1[0].skips == pytest.approx(0.1)
    assert net.layer3[1].skips == pytest.approx(0.6)
    assert net.layer4[1].skips == pytest.approx(0.8)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_clip_keeps_its_branch_as_a_whole_divided_by_the_probability_or_loses_it(frames: int) -> None:
    block = SkippedBlock().train()
    block.skips, block.frames = 0.25, frames
    branch = torch.ones(400 * frames, 2, 3, 3).contiguous(memory_format=torch.channels_last)

    out = block.residual(branch)

    clips = out.reshape(400, -1)
    lost = (clips == 0).all(1)
    torch.testing.assert_close(clips[~lost], torch.full_like(clips[~lost], 4 / 3))
    assert 60 <= int(lost.sum()) <= 140  # 100 are expected, with a deviation of 8.7
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert block.eval().residual(branch) is branch


def test_a_block_that_loses_its_branch_is_its_shortcut() -> None:
    config = model(backbone={"kind": "resnet", "depth": 18, "width": 0.125})
    block = build_model(config, 4).backbone.get_submodule("layer1.1")
    assert isinstance(block, SkippedBlock)
    block.train().skips = 1 - 1e-7
    x = torch.rand(4, 8, 6, 6)

    torch.testing.assert_close(block(x), x)


def test_without_it_no_random_number_is_drawn() -> None:
    config = model(head={"dropout": 0.0})
    net = build_model(config, 4).train()
    x, before = torch.ones(2, 3, 4, 32, 32), torch.get_rng_state()

    net(x)

    assert torch.equal(torch.get_rng_state(), before)


def test_recomputed_blocks_leave_out_the_same_branches() -> None:
    from vattn.training.recompute import recompute_blocks

    config = model(backbone={"kind": "resnet", "depth": 18, "width": 0.125, "stochastic_depth": 0.5})
    gradients = []
    for recomputes in (False, True):
        torch.manual_seed(0)
        net = build_model(config, 4).train()
        if recomputes:
            recompute_blocks(net)
        net(torch.ones(2, 3, 4, 32, 32)).square().sum().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])

    torch.testing.assert_close(gradients[1], gradients[0])


def test_the_option_changes_an_identity_only_if_it_is_set() -> None:
    plain = {"kind": "resnet", "depth": 10, "width": 0.25}

    assert architecture_id(model(backbone=plain | {"stochastic_depth": 0})) == architecture_id(model(backbone=plain))
    assert architecture_id(model(backbone=plain | {"stochastic_depth": 0.1})) != architecture_id(model(backbone=plain))
