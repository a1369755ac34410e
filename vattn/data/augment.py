"""What training does to clips: which square is cut out, its colours, and how clips of a batch are mixed.

Everything is drawn once a clip and done to all of its frames, on uint8.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from vattn.data._base import AugmentConfig

#: TSN's shares of the shorter side; a crop's height and width are neighbours in this list, or the same.
SCALES = (1, 0.875, 0.75, 0.66)
#: Where TSN's crops lie, in quarters of the space down and across: corners, sides, centre, and between.
PLACES = [(y, x) for y in range(5) for x in range(5) if (y % 2 == x % 2)]
#: Share of the frame's area, and width by height, of a random resized crop (torchvision's).
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
#: Of the height and the width of a frame: 224 x 224 of 256 x 342 pixels.
STRETCHED = (224 / 256, 224 / 342)


class Region(NamedTuple):
    """A rectangle of a frame, pixels."""

    top: int
    left: int
    height: int
    width: int


def centre(height: int, width: int, size: int) -> Region:
    """Return the central square of ``size`` pixels."""
    return Region((height - size) // 2, (width - size) // 2, size, size)


def crops(height: int, width: int, size: int, count: int) -> list[Region]:
    """Return ``count`` (1 or 3) squares along the middle of the longer side: the centre, or both ends too."""
    middle = centre(height, width, size)
    if count == 1:
        return [middle]
    if width >= height:
        return [middle._replace(left=left) for left in (0, middle.left, width - size)]
    return [middle._replace(top=top) for top in (0, middle.top, height - size)]


def training_region(crop: str, height: int, width: int, size: int, rng: np.random.Generator) -> Region:
    """Return what is cut out of the frames of a training clip, before it is scaled to ``size`` x ``size``.

    * random, center: a square of ``size`` as it is stored.
    * multiscale: TSN's (Wang et al., ECCV 2016): SCALES at PLACES. There positions are multiples of a quarter of the
      space rounded down, here they are rounded one by one, so that the last reaches the edge.
    * resized: a random AREA and RATIO (Szegedy et al., CVPR 2015), as torchvision's RandomResizedCrop draws it.
    * stretched: frames are scaled to 256 x 342 pixels whatever their shape, and 224 x 224 are cut out; for another
      ``size`` the same share of the frame.
    """
    match crop:
        case "center":
            return centre(height, width, size)
        case "multiscale":
            return _multiscale(height, width, size, rng)
        case "resized":
            return _resized(height, width, rng)
        case "stretched":
            share_y, share_x = STRETCHED
            return _anywhere(height, width, max(round(height * share_y), 1), max(round(width * share_x), 1), rng)
    return _anywhere(height, width, size, size, rng)


def _anywhere(height: int, width: int, rows: int, columns: int, rng: np.random.Generator) -> Region:
    top = int(rng.integers(height - rows, endpoint=True))
    return Region(top, int(rng.integers(width - columns, endpoint=True)), rows, columns)


def _multiscale(height: int, width: int, size: int, rng: np.random.Generator) -> Region:
    sides = [int(min(height, width) * scale) for scale in SCALES]
    # What is nearly of the right size is taken as it is.
    sides = [size if abs(side - size) < 3 and size <= min(height, width) else side for side in sides]
    pairs = [(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1]
    rows, columns = pairs[rng.integers(len(pairs))]
    down, across = PLACES[rng.integers(len(PLACES))]
    return Region((height - rows) * down // 4, (width - columns) * across // 4, rows, columns)


def _resized(height: int, width: int, rng: np.random.Generator) -> Region:
    for _ in range(10):
        area = height * width * rng.uniform(*AREA)
        ratio = np.exp(rng.uniform(*np.log(RATIO)))
        rows, columns = round(float(np.sqrt(area / ratio))), round(float(np.sqrt(area * ratio)))
        if 0 < rows <= height and 0 < columns <= width:
            return _anywhere(height, width, rows, columns, rng)
    # Of a frame that is too long or too high, its middle.
    rows, columns = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    return Region((height - rows) // 2, (width - columns) // 2, rows, columns)


def scaled(frames: UInt8[Tensor, "t c h w"], size: int) -> UInt8[Tensor, "t c size size"]:
    """Return ``frames`` scaled to ``size`` x ``size``, bilinear, with the filter that fits where they get smaller."""
    from torchvision.transforms.v2 import functional  # takes a second to import, and plain crops do without

    return functional.resize(frames, [size, size], antialias=True)


class Recolour:
    """Colour jitter and RandAugment (Cubuk et al., 2020, arXiv:1909.13719), as torchvision has them."""

    def __init__(self, augment: AugmentConfig) -> None:
        from torchvision.transforms import v2

        self._steps: list[Any] = []
        if augment.randaugment:
            self._steps.append(v2.RandAugment(augment.randaugment, augment.magnitude))
        if augment.color:
            self._steps.append(v2.ColorJitter(augment.color, augment.color, augment.color, augment.color / 4))

    def __call__(self, frames: UInt8[Tensor, "t 3 h w"], rng: np.random.Generator) -> UInt8[Tensor, "t 3 h w"]:
        """Return ``frames`` with one draw of everything; torch's own generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            for step in self._steps:
                frames = step(frames)
        return frames


def mixed(
    images: UInt8[Tensor, "n c t h w"], labels: Int64[Tensor, " n"], classes: int, augment: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[UInt8[Tensor, "n c t h w"], Float32[Tensor, "n classes"]]:  # fmt: skip
    """Return each clip mixed with the one before it in the batch, and how much of each class it then has.

    MixUp (Zhang et al., 2018, arXiv:1710.09412) blends all pixels, CutMix (Yun et al., 2019, arXiv:1905.04899) pastes
    one rectangle into all frames; the share of the clip itself is drawn from Beta(alpha, alpha), once a batch. Where
    both are on, half of the batches get each.
    """
    targets = torch.nn.functional.one_hot(labels, classes).float()
    cut = augment.cutmix > 0 and (augment.mixup == 0 or rng.random() < 0.5)
    alpha = augment.cutmix if cut else augment.mixup
    share = float(rng.beta(alpha, alpha))
    others = images.roll(1, 0)
    if cut:
        height, width = images.shape[-2:]
        rows, columns = (int(side * np.sqrt(1 - share)) for side in (height, width))
        y, x = int(rng.integers(height)), int(rng.integers(width))
        top, bottom = max(y - rows // 2, 0), min(y + rows // 2, height)
        left, right = max(x - columns // 2, 0), min(x + columns // 2, width)
        images = images.clone()
        images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)  # what is beyond the edge is not pasted
    else:
        images = torch.lerp(others.float(), images.float(), share).round_().to(torch.uint8)
    return images, share * targets + (1 - share) * targets.roll(1, 0)
