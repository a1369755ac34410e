"""Non-local block: each pixel attends to all pixels of all frames."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.vattn.support import site
from vattn.modules.nonlocal_ import NonLocal, NonLocalConfig


def plain(**options: Any) -> NonLocal:
    """Return a block of one channel for 1 x 1 pixels, whose layers are the identity."""
    config = NonLocalConfig.parse({"reduction": 1, "subsample": False, "scale": False, "batch_norm": False} | options)
    block = config.build(site(1, size=1), 2)
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return block


LOG2, LOG3 = 0.6931471805599453, 1.0986122886681098


@pytest.mark.parametrize(
    ("pairwise", "frames", "expected"),
    [
        # Weights of the first frame, 0, are e^0 and e^0; those of the second, log 2, are e^0 and e^(log 2 log 2).
        ("gaussian", [0.0, LOG2], [LOG2 / 2, LOG2 + LOG2 * 2**LOG2 / (1 + 2**LOG2)]),
        ("embedded_gaussian", [0.0, LOG2], [LOG2 / 2, LOG2 + LOG2 * 2**LOG2 / (1 + 2**LOG2)]),
        # (1 x 1 x 1 + 1 x 3 x 3) / 2 = 5 for the first frame, three times as much for the second.
        ("dot_product", [1.0, 3.0], [1 + 5.0, 3 + 15.0]),
        # ReLU of sums: 1 + 1 and 1 - 3, so (2 x 1 + 0) / 2; -3 + 1 and -3 - 3, so 0.
        ("concatenation", [1.0, -3.0], [1 + 1.0, -3.0]),
    ],
)
def test_pairwise_function_gives_the_weights(pairwise: str, frames: list[float], expected: list[float]) -> None:
    y = plain(pairwise=pairwise)(torch.tensor(frames).view(1, 1, 2, 1, 1))

    torch.testing.assert_close(y.flatten(), torch.tensor(expected))


def test_exponent_is_scaled_by_the_dimension() -> None:
    # Four channels, all 0 or all 1: exponents of the second frame are 0 and 4 / sqrt(4) = 2.
    block = NonLocalConfig(pairwise="gaussian", subsample=False, batch_norm=False).build(site(4, size=1), 2)
    for name in ("value", "restore"):
        block.add_module(name, nn.Identity())
    x = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1).expand(1, 4, 2, 1, 1)

    y = block(x)

    e = torch.tensor(2.0).exp()
    torch.testing.assert_close(y[0, :, 1].flatten(), 1 + (e / (1 + e)).expand(4))


def test_subsampling_attends_to_the_maxima_of_2_x_2_pixels() -> None:
    # Rows 1 2 9 and 3 4 9: the maximum of the four on the left is 4; the last column is dropped.
    block, keys = NonLocalConfig(reduction=1).build(site(1, size=2, width=3), 1), []
    block.key.register_forward_pre_hook(lambda _, args: keys.append(args[0]))

    block(torch.tensor([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]]).expand(2, 1, 1, 2, 3))

    assert keys[0].tolist() == [[[[4.0]]]] * 2


def test_each_pixel_affects_all_pixels() -> None:
    block, x = NonLocalConfig().build(site(8), 3).eval(), torch.randn(1, 8, 3, 4, 4)
    changed_x = x.clone()
    changed_x[:, :, 0, 0, 0] += 9

    assert (block(x) != block(changed_x)).any(1).all()


def test_parameters_and_macs_of_the_paper_s_block() -> None:
    # Figure 2: 1024 channels, embeddings of 512; here 4 frames of 14 x 14 pixels, subsampled to 7 x 7.
    place, inner = site(1024, size=14, position="block"), 512
    weights = 4 * 1024 * inner

    assert NonLocalConfig().params(place, 4) == weights + 3 * inner + 1024 + 2 * 1024
    queries, keys = 4 * 196, 4 * 49
    convolutions = 1024 * inner * (2 * queries + 2 * keys)
    assert NonLocalConfig().macs(place, 4) == convolutions + 2 * queries * keys * inner


def test_subsampling_of_too_few_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"subsample: needs 2 x 2 pixels, and stage 3 has 1 x 1 .*\(got true\)"):
        NonLocalConfig().check(site(8, size=1), 4)
    NonLocalConfig(subsample=False).check(site(8, size=1), 4)


def test_reduction_that_leaves_no_channel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reduction: must not exceed the channels.*\(got 16\)"):
        NonLocalConfig(reduction=16).check(site(8), 4)
