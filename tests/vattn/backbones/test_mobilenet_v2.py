"""MobileNetV2: sites, cost in the papers' conventions, and activation function."""

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.vattn.counting import clips, count_elements, on_meta, use_reference_forms
from tests.vattn.support import model
from vattn.backbones.mobilenet_v2 import MobileNetV2Config, ReLU6
from vattn.cost import cost
from vattn.modules import Site


def test_sites_are_in_blocks_with_an_expansion_and_a_shortcut() -> None:
    # Table 2: the groups with an expansion have 2, 3, 4, 3, 3 and 1 blocks; the first of each changes the channels.
    blocks = Counter(site.stage for site in MobileNetV2Config().sites(224) if site.position == "a")

    assert blocks == {2: 1, 3: 2, 4: 3 + 2, 5: 2}


def test_shapes_at_the_sites_of_a_block_are_those_of_the_paper() -> None:
    # Table 2: blocks of the last group but one have 160 channels of 7 x 7 at both ends, and 6 x 160 inside.
    sites = [s for s in MobileNetV2Config().sites(224) if (s.stage, s.block) == (5, 1)]

    assert sites == [
        Site(5, 1, "block", 160, 7, 7), Site(5, 1, "a", 160, 7, 7), Site(5, 1, "b", 960, 7, 7),
        Site(5, 1, "c", 960, 7, 7), Site(5, 1, "d", 160, 7, 7),
    ]  # fmt: skip


def test_cost_is_that_of_the_paper() -> None:
    # Table 4: 300e6 multiply-adds with the 1000-way classifier. Torchvision reports 3504872 parameters with it.
    parts = MobileNetV2Config().parts(224, 1)

    assert sum(p.macs for p in parts) + 1280 * 1000 == pytest.approx(300e6, rel=0.01)
    assert sum(p.params for p in parts) + 1281 * 1000 == 3504872


MOTION = {"kind": "m2a", "attention": "none"}
ATTENTION = {"kind": "m2a", "motion": "none"}
M2A = {"kind": "m2a"}


def network(attention: list[dict[str, Any]]) -> Any:
    return model(*attention, backbone={"kind": "mobilenet_v2"}, frames=8, size=224)


@pytest.mark.parametrize(
    ("attention", "gmacs", "params_m"), [([], 2.398, 2.447), ([MOTION], 2.422, 2.469), ([M2A], 2.425, 2.469)]
)
def test_cost_is_that_of_the_published_networks(attention: list[Any], gmacs: float, params_m: float) -> None:
    total = cost(network(attention), 174)

    assert total.gflops == pytest.approx(gmacs, abs=0.0005)
    assert total.params_m == pytest.approx(params_m, abs=0.0005)


@pytest.mark.parametrize(
    ("attention", "printed"), [([], 2.553), ([MOTION], 2.579), ([ATTENTION], 2.579), ([M2A], 2.584)]
)
def test_cost_in_the_convention_of_the_m2a_paper_is_what_it_prints(attention: list[Any], printed: float) -> None:
    config = network(attention)
    net = on_meta(config, 174)
    use_reference_forms(net)

    counted = count_elements(net, clips(config)).m2a_paper()

    # Number of values in C // 8 channels over all sites. The attention has 2 products of 8 x 8 frames, and a norm over
    # whole frames before them. The paper's row of the full mechanism includes both, that of attention alone neither.
    values = sum(
        8 * (s.channels // 8) * s.height * s.width for m in config.attention for s in m.at(config.backbone.sites(224))
    )
    if attention == [ATTENTION]:
        counted -= 2 * 8 * values
    if attention == [M2A]:
        counted += 4 * values
    assert counted / 1e9 == pytest.approx(printed, rel=0.0005)


def test_relu6_and_its_gradient_equal_torchs() -> None:
    x = torch.tensor([-1.0, 0.0, 1e-3, 3.0, 5.99, 6.0, 7.0], requires_grad=True)
    z = x.detach().clone().requires_grad_()

    ReLU6()(x).backward(torch.arange(7.0))
    torch.nn.functional.relu6(z).backward(torch.arange(7.0))

    torch.testing.assert_close(x.grad, z.grad, rtol=0, atol=0)
    torch.testing.assert_close(ReLU6()(x), torch.tensor([0, 0, 1e-3, 3, 5.99, 6, 6]), rtol=0, atol=0)


@given(width=st.floats(0.01, 4))
def test_channels_are_multiples_of_8_and_at_least_90_percent_of_the_scaled_number(width: float) -> None:
    unscaled = {16, 24, 32, 64, 96, 160}
    channels = {s.channels for s in MobileNetV2Config(width=width).sites(32) if s.position == "a"}

    assert all(c % 8 == 0 for c in channels)
    assert all(any(0.9 * u * width <= c <= max(8, u * width + 8) for u in unscaled) for c in channels)


def test_default_weights_of_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"default has width 1; write none.*\(got width 0.5\)"):
        MobileNetV2Config(weights="default", width=0.5)
