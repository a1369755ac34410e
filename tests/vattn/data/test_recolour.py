"""Colour jitter and RandAugment are torchvision's, bit for bit, with random numbers of their own."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from vattn.data.config import AugmentConfig
from vattn.data.recolour import CHOICES, MOVES, OPERATIONS, Recolour

CPU = torch.device("cpu")


def footage(seed: int, size: int, channels_last: bool = True) -> torch.Tensor:
    """Return frames with smooth areas, edges, a constant frame and one of two levels."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (4, -(-size // 4), -(-size // 4), 3), np.uint8).repeat(4, 1).repeat(4, 2)
    frames = blocks[:, :size, :size] // 2 + rng.integers(0, 128, (4, size, size, 3), np.uint8)
    frames[2] = rng.integers(256)
    frames[3] = frames[3] // 128 * 100
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return video if channels_last else video.contiguous()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32), size=st.integers(8, 40), operations=st.integers(0, 3), magnitude=st.integers(0, 30),
    color=st.sampled_from([0, 0.1, 0.4, 1]),
)  # fmt: skip
def test_choices_and_pixels_are_those_of_torchvision(
    seed: int, size: int, operations: int, magnitude: int, color: float
) -> None:
    augment = AugmentConfig.parse({"randaugment": operations, "magnitude": magnitude, "color": color})
    recolour, frames = Recolour(augment, size, CPU), footage(seed, size)
    expected, rng = frames, np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        if operations:
            expected = v2.RandAugment(operations, magnitude)(expected)
        if color:
            expected = v2.ColorJitter(color, color, color, color / 4)(expected)
    before, own = torch.get_rng_state(), np.random.default_rng(seed)

    torch.testing.assert_close(recolour(frames, recolour.choose(own)), expected, rtol=0, atol=0)
    assert own.random() == rng.random()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("size", [8, 33])
@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_every_operation_of_randaugment_is_that_of_torchvision(magnitude: int, size: int, channels_last: bool) -> None:
    class Chosen(v2.RandAugment):
        """RandAugment that applies one operation, with both signs if it has one."""

        def __init__(self, number: int) -> None:
            super().__init__(1, magnitude)
            self.number = number

        def _get_random_item(self, dct: dict[str, Any]) -> tuple[str, Any]:
            return list(dct.items())[self.number]

    recolour, signs = Recolour(AugmentConfig.parse({"randaugment": 1, "magnitude": magnitude}), size, CPU), set()
    for number, name in enumerate(CHOICES):
        for seed in range(200):
            own = recolour.choose(np.random.default_rng(seed))
            if own[0][0] != name or (own[0] in signs):
                continue
            signs.add(own[0])
            frames = footage(seed, size, channels_last)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(np.random.default_rng(seed).integers(2**62)))
                torch.randint(14, ())  # the choice, which is made already
                expected = Chosen(number)(frames)
            torch.testing.assert_close(recolour(frames, own), expected, rtol=0, atol=0, msg=name)

    assert {name for name, _ in signs} == set(CHOICES) == {*OPERATIONS, *MOVES} - {"hue"}
    assert len(signs) == (14 if magnitude == 0 else 23)  # 9 of the 14 have a sign; minus zero is zero


def test_moved_frames_take_pixels_from_a_constant_place() -> None:
    # A shift by 2 pixels to the right: the first two columns are black.
    frames = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8).expand(3, 3, 8, 8)
    recolour = Recolour(AugmentConfig(), 8, CPU)

    moved = recolour(frames, [("shift_x", 2.0)])

    assert (moved[..., :2] == 0).all()
    assert torch.equal(moved[..., 2:], frames[..., :-2])


def test_a_sharpened_edge_is_computed_by_hand() -> None:
    # A column of 130 in frames of 0: smoothed, it is (1 + 5 + 1) * 130 / 13 = 70, and beside it 3 * 130 / 13 = 30.
    frames = torch.zeros(1, 3, 5, 5, dtype=torch.uint8)
    frames[..., 2] = 130
    recolour = Recolour(AugmentConfig(), 5, CPU)

    blurred = recolour(frames, [("sharpness", 0.0)])

    assert blurred[0, 0].tolist() == [[0, 0, 130, 0, 0], *[[0, 30, 70, 30, 0]] * 3, [0, 0, 130, 0, 0]]


def test_stretched_contrast_is_computed_by_hand() -> None:
    # 50 to 150 become 0 to 255; a constant frame stays.
    frames = torch.full((2, 3, 3, 3), 50, dtype=torch.uint8)
    frames[0, :, 0], frames[0, :, 1] = 100, 150
    recolour = Recolour(AugmentConfig(), 3, CPU)

    stretched = recolour(frames, [("autocontrast", 0.0)])

    assert stretched[0, 0, :, 0].tolist() == pytest.approx([127.5, 255, 0], abs=1)  # rounded down
    assert (stretched[1] == 50).all()
