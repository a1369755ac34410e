"""Colour jitter and RandAugment of training clips, on any device.

The random choices are those of torchvision's ``ColorJitter`` and ``RandAugment``, and so are the results, bit for bit
on a CPU. torchvision draws from torch's global generator, which dropout uses at the same time, and copies small tensors
to the device for each clip, which waits for a GPU. Here each clip has a generator of its own, and nothing waits.

RandAugment: E. D. Cubuk, B. Zoph, J. Shlens, Q. V. Le: "RandAugment: Practical Automated Data Augmentation with a
Reduced Search Space", NeurIPS 2020, arXiv:1909.13719.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d

from vattn.data.config import AugmentConfig

Frames = UInt8[Tensor, "t 3 h w"]
#: What is done to a clip: a key of `OPERATIONS` or `MOVES`, and its strength.
Operation = tuple[str, float]

#: Steps of the magnitude of RandAugment (torchvision's).
STEPS = 31
#: RandAugment's choices in torchvision's order, and the strength at the largest magnitude: of a shift as a share of the
#: side, of a rotation in degrees. None: it has no strength.
CHOICES: dict[str, float | None] = {
    "identity": None, "shear_x": 0.3, "shear_y": 0.3, "shift_x": 150 / 331, "shift_y": 150 / 331, "rotate": 30.0,
    "brightness": 0.9, "saturation": 0.9, "contrast": 0.9, "sharpness": 0.9, "posterize": 4.0, "solarize": 1.0,
    "autocontrast": None, "equalize": None,
}  # fmt: skip
#: Operations whose strength has a random sign.
SIGNED = ("shear_x", "shear_y", "shift_x", "shift_y", "rotate", "brightness", "saturation", "contrast", "sharpness")
#: Operations whose neutral strength is 1: the strength is a factor.
FACTORS = ("brightness", "saturation", "contrast", "sharpness")


class Recolour:
    """Changes the colours of clips; RandAugment also shears, shifts and rotates them.

    Args:
        augment: the strengths.
        size: side of the frames, pixels.
        device: where the frames are.
    """

    def __init__(self, augment: AugmentConfig, size: int, device: torch.device) -> None:
        self._augment, self._size, self._device = augment, size, device
        self._sources: dict[Operation, tuple[Tensor, Tensor]] = {}

    def of_size(self, size: int) -> "Recolour":
        """Return the same for frames of another size; pixels of shifts are not converted."""
        return recolour_of(self._augment, size, self._device)

    def choose(self, rng: np.random.Generator) -> list[Operation]:
        """Draw what is done to a clip, in this order; the only number that is taken from ``rng`` is a seed."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        chosen = [self._from_randaugment(generator) for _ in range(self._augment.randaugment)]
        if color := self._augment.color:
            order = torch.randperm(4, generator=generator).tolist()
            # In this order torchvision draws the factors of brightness, contrast, saturation, and the shift of hue.
            bounds = [(max(0.0, 1 - color), 1 + color)] * 3 + [(-color / 4, color / 4)]
            factors = [float(torch.empty(1).uniform_(*bound, generator=generator)) for bound in bounds]
            names = ("brightness", "contrast", "saturation", "hue")
            chosen += [(names[k], factors[k]) for k in order]
        return chosen

    def __call__(self, frames: Frames, operations: Sequence[Operation]) -> Frames:
        """Return ``frames`` after these operations, the same ones for each frame."""
        for name, strength in operations:
            frames = OPERATIONS[name](frames, strength) if name in OPERATIONS else self._moved(frames, name, strength)
        return frames

    def _from_randaugment(self, generator: torch.Generator) -> Operation:
        """Draw one operation as torchvision's RandAugment does, from the same numbers."""
        name = list(CHOICES)[int(torch.randint(len(CHOICES), (), generator=generator))]
        largest, step = CHOICES[name], self._augment.magnitude
        if largest is None:
            return name, 0.0
        if name == "posterize":  # bits
            return name, float((8 - torch.arange(STEPS) / ((STEPS - 1) / 4)).round()[step])
        if name == "solarize":  # the threshold as a share of 255
            return name, float(torch.linspace(largest, 0.0, STEPS)[step])
        largest *= self._size if name in ("shift_x", "shift_y") else 1
        strength = float(torch.linspace(0.0, largest, STEPS)[step])
        if name in SIGNED and torch.rand((), generator=generator) <= 0.5:
            strength *= -1
        return name, 1.0 + strength if name in FACTORS else strength

    def _moved(self, frames: Frames, name: str, strength: float) -> Frames:
        """Return the sheared, shifted or rotated frames; pixels from outside are black."""
        if (name, strength) not in self._sources:
            self._sources[name, strength] = self._source_of(name, strength)
        source, outside = self._sources[name, strength]
        pixels = frames.permute(0, 2, 3, 1).flatten(1, 2).index_select(1, source)
        return pixels.masked_fill_(outside, 0).unflatten(1, (self._size, self._size)).permute(0, 3, 1, 2)

    def _source_of(self, name: str, strength: float) -> tuple[Tensor, Tensor]:
        """Return from which pixel each pixel is taken (h * w), and where there is none (h * w, 1).

        It is the same for all clips, as the strength of an operation has two values at most. torchvision's own function
        moves an image of the pixels' numbers; float32 holds them exactly.
        """
        numbers = torch.arange(1, self._size**2 + 1, dtype=torch.float32).view(1, self._size, self._size)
        moved = MOVES[name](numbers, strength).flatten().long()
        source, outside = (moved - 1).clamp_(min=0), (moved == 0)[:, None]
        return on_device(source, self._device), on_device(outside, self._device)


@lru_cache(maxsize=2)
def recolour_of(augment: AugmentConfig, size: int, device: torch.device) -> Recolour:
    """Return a `Recolour`; the same one in each epoch, so that its constants are made once."""
    return Recolour(augment, size, device)


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor``, which is in the computer's memory, on ``device``; nothing waits for its copy to a GPU."""
    if device.type == "cpu":
        return tensor
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def _sharpened(frames: Frames, factor: float) -> Frames:
    """Blend with the frames smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the pixels at the edge stay as they are."""
    if min(frames.shape[-2:]) <= 2:
        return frames
    pixels = frames.float()
    inner = pixels[..., 1:-1, 1:-1]
    # All sums are whole numbers, which float32 holds exactly, in any order of adding.
    smooth = avg_pool2d(pixels, 3, stride=1, divisor_override=1).add_(inner, alpha=4).div_(13).round_()
    inner.add_(smooth.sub_(inner), alpha=1.0 - factor)
    return pixels.clamp_(0, 255).to(torch.uint8)


def _stretched(frames: Frames, _: float) -> Frames:
    """Scale the values of each frame and colour to the whole range; a constant one stays as it is."""
    pixels = frames.float()
    low, high = pixels.amin(dim=(-2, -1), keepdim=True), pixels.amax(dim=(-2, -1), keepdim=True)
    constant = high == low
    scale = high.sub_(low).mul_(1.0 / 255).masked_fill_(constant, 1)
    return pixels.sub_(low.masked_fill_(constant, 0)).div_(scale).clamp_(0, 255).to(torch.uint8)


def _torchvision() -> Any:
    """Return torchvision's functions. Their import takes a second, so it waits for their first use."""
    from torchvision.transforms.v2 import functional

    return functional


def _affine(image: Tensor, shift: tuple[int, int] = (0, 0), shear: tuple[float, float] | None = None) -> Tensor:
    """Shift by pixels across and down, or shear around the corner by these tangents across and down."""
    degrees = [math.degrees(math.atan(tangent)) for tangent in shear or (0.0, 0.0)]
    centre = [0, 0] if shear else None
    return _torchvision().affine(image, angle=0.0, translate=list(shift), scale=1.0, shear=degrees, center=centre)


#: Changes of colours, by name: called with frames and the strength.
OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda frames, _: frames,
    "brightness": lambda frames, factor: _torchvision().adjust_brightness(frames, factor),
    "contrast": lambda frames, factor: _torchvision().adjust_contrast(frames, factor),
    "saturation": lambda frames, factor: _torchvision().adjust_saturation(frames, factor),
    "hue": lambda frames, shift: _torchvision().adjust_hue(frames, shift),
    "sharpness": _sharpened,
    "posterize": lambda frames, bits: _torchvision().posterize(frames, int(bits)),
    "solarize": lambda frames, share: _torchvision().solarize(frames, 255 * share),
    "autocontrast": _stretched,
    "equalize": lambda frames, _: _torchvision().equalize(frames),
}
#: Moves of pixels, by name: called with an image and the strength.
MOVES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "shear_x": lambda image, tangent: _affine(image, shear=(tangent, 0.0)),
    "shear_y": lambda image, tangent: _affine(image, shear=(0.0, tangent)),
    "shift_x": lambda image, pixels: _affine(image, shift=(int(pixels), 0)),
    "shift_y": lambda image, pixels: _affine(image, shift=(0, int(pixels))),
    "rotate": lambda image, degrees: _torchvision().rotate(image, degrees),
}
