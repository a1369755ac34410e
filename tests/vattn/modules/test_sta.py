"""STA: costs of Table IV, initial state, and weights of frames and channels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.vattn.support import model, site
from vattn.config import ModelConfig
from vattn.cost import cost
from vattn.modules.sta import STA, STAConfig


@given(c=st.integers(1, 64), t=st.integers(1, 16), h=st.integers(1, 8), w=st.integers(1, 8))
def test_parameters_and_macs_are_those_of_table_4(c: int, t: int, h: int, w: int) -> None:
    place = site(c, h, w)

    assert STAConfig().params(place, t) == c * (h * w + 4) + 5
    # The table also counts the product of weights and features, as one per frame and channel.
    assert STAConfig().macs(place, t) + c * t == c * t * (h * w + 4) + 3 * t


@pytest.mark.parametrize(
    ("weights", "deconv", "expected"),
    [
        ("ta", True, 4 * 36 + 1 + 4 + 4),
        ("sa", True, 4 * 8 * 36 + 1 + 4 + 4 * 4),
        ("sta", False, 4 * 36 + 1 + 4 * 4),
    ],
)
def test_ablations_have_the_parameters_of_their_layers(weights: str, deconv: bool, expected: int) -> None:
    config = STAConfig.parse({"weights": weights, "deconv": deconv})

    assert config.params(site(4, 6), 8) == expected


def with_unit_weights(**options: object) -> STA:
    """Return an STA for 3 frames of 2 channels and 1 pixel, with all weights 1 and all biases 0."""
    module = STAConfig.parse(options).build(site(2, 1), 3)
    for name, parameter in module.named_parameters():
        nn.init.constant_(parameter, float(name.endswith("weight")))
    return module


def test_weights_are_a_deconvolution_and_a_convolution_of_the_squeezed_frames() -> None:
    # Two channels of (1, 0, -2): Conv1 gives 2, 0, -4. Deconv with step 1 gives 2, 2, -2, -4, -4, ReLU 2, 2, 0, 0, 0,
    # and Conv2 (windows of 3) 4, 2, 0. With step 3: 2 2 2 0 0 0 -4 -4 -4, and 6, 0, 0.
    x = torch.tensor([1.0, 0.0, -2.0]).view(1, 1, 3, 1, 1).expand(1, 2, 3, 1, 1)

    for step, sums in (1, [4.0, 2.0, 0.0]), (3, [6.0, 0.0, 0.0]):
        gates = torch.tensor(sums).sigmoid()
        torch.testing.assert_close(with_unit_weights(step=step).weigh(x), gates.expand(1, 2, 3))
        torch.testing.assert_close(with_unit_weights(step=step)(x), x * gates.view(1, 1, 3, 1, 1))
    # Without the deconvolution: 2, 0, 0 after the ReLU; windows with zero padding: 2, 2, 0.
    torch.testing.assert_close(with_unit_weights(deconv=False).weigh(x)[0, 0], torch.tensor([2.0, 2.0, 0.0]).sigmoid())


def test_ta_weighs_frames_and_sa_weighs_channels() -> None:
    x = torch.randn(2, 4, 5, 3, 3)
    shapes = {
        w: tuple(STAConfig.parse({"weights": w}).build(site(4, 3), 5).weigh(x).shape) for w in ("sta", "ta", "sa")
    }

    assert shapes == {"sta": (2, 4, 5), "ta": (2, 1, 5), "sa": (2, 4, 1)}


@pytest.mark.parametrize("deconv", [True, False])
def test_relu_starts_active_for_every_seed_with_init_live_but_not_with_default(deconv: bool) -> None:
    def num_inactive(init: str) -> int:
        count = 0
        for seed in range(60):
            torch.manual_seed(seed)
            module = STAConfig.parse({"init": init, "deconv": deconv}).build(site(256, 4), 4)
            row = module.deconv(module.squeeze(torch.randn(4, 256, 4, 4, 4)).flatten(2))
            count += int((row <= 0).all())
        return count

    assert num_inactive("live") == 0
    assert num_inactive("default") > 0 or not deconv


@pytest.mark.parametrize(
    ("weights", "frames", "size", "message"),
    [
        ("sta", 8, 5, r"each value of Tx4x4 features, and was given 8x5x5"),
        ("sa", 6, 4, r"each value of 8x4x4 features, and was given 6x4x4"),
    ],
)
def test_features_of_another_size_are_refused(weights: str, frames: int, size: int, message: str) -> None:
    module = STAConfig.parse({"weights": weights}).build(site(2, 4), 8)

    with pytest.raises(ValueError, match=message):
        module(torch.randn(1, 2, frames, size, size))


def test_number_of_frames_may_differ_where_all_frames_share_weights() -> None:
    assert STAConfig().build(site(2, 4), 8)(torch.randn(1, 2, 5, 4, 4)).shape == (1, 2, 5, 4, 4)


def test_even_kernel_without_the_deconvolution_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kernel_size: must be odd without deconv.*try 5 \(got 4\)"):
        STAConfig(deconv=False, kernel_size=4)


@pytest.mark.parametrize("stage", [2, 5])
def test_parameters_in_an_early_and_a_late_stage(stage: int) -> None:
    sta = {"kind": "sta", "stages": [stage]}
    network = model(sta, backbone={"kind": "resnext3d", "depth": 14, "width": 0.25, "cardinality": 8}, frames=16)

    assert isinstance(network, ModelConfig)
    [row] = [row for row in cost(network, 5).rows if row.what == "sta"]
    # The stem halves 16 frames of 32 pixels to 8 of 8; stage 5 has 1 of 1.
    c, side = (64, 8) if stage == 2 else (512, 1)
    assert (row.stage, row.params) == (stage, c * (side**2 + 4) + 5)
