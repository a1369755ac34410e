"""Augmentation of training clips: random crops, and the mixing of clips.

Random choices are made once for each clip and applied to all of its frames, on uint8. `vattn.data.recolour` changes
colours. The methods are those of

* TSN: L. Wang, Y. Xiong, Z. Wang, Y. Qiao, D. Lin, X. Tang, L. Van Gool: "Temporal Segment Networks: Towards Good
  Practices for Deep Action Recognition", ECCV 2016, arXiv:1608.00859;
* random resized crops: C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke,
  A. Rabinovich: "Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842;
* MixUp: H. Zhang, M. Cisse, Y. N. Dauphin, D. Lopez-Paz: "mixup: Beyond Empirical Risk Minimization", ICLR 2018,
  arXiv:1710.09412;
* CutMix: S. Yun, D. Han, S. J. Oh, S. Chun, J. Choe, Y. Yoo: "CutMix: Regularization Strategy to Train Strong
  Classifiers with Localizable Features", ICCV 2019, arXiv:1905.04899.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from vattn.data.config import AugmentConfig

#: TSN: sides of a crop as shares of the shorter side of the frame. Its height and width are equal or neighbours here.
SCALES = (1, 0.875, 0.75, 0.66)
#: TSN: positions of a crop, in quarters of the free space down and across: corners, sides, centre, and between.
PLACES = [(y, x) for y in range(5) for x in range(5) if (y % 2 == x % 2)]
#: TSN: a side that differs from the wanted size by less than this is replaced by it, pixels.
SIZE_TOLERANCE = 3
#: Random resized crop: range of its area, as a share of the frame's area (torchvision's).
AREA = (0.08, 1.0)
#: Random resized crop: range of width / height (torchvision's).
RATIO = (3 / 4, 4 / 3)
#: Random resized crop: attempts to find one that fits the frame (torchvision's).
ATTEMPTS = 10
#: Stretched crop: its height and width as shares of the frame's: 224 x 224 of 256 x 342 pixels.
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
    """Return ``count`` (1 or 3) squares of ``size`` pixels along the longer side: the centre, or also both ends."""
    middle = centre(height, width, size)
    if count == 1:
        return [middle]
    if width >= height:
        return [middle._replace(left=left) for left in (0, middle.left, width - size)]
    return [middle._replace(top=top) for top in (0, middle.top, height - size)]


def training_region(crop: str, height: int, width: int, size: int, rng: np.random.Generator) -> Region:
    """Sample the region of a training clip's frames that is cut out and then scaled to ``size`` x ``size``.

    * random, center: a square of ``size`` pixels, which needs no scaling.
    * multiscale (TSN): sides from SCALES at one of PLACES. TSN rounds a quarter of the free space down and multiplies
      it; here each position is rounded, so that the last one reaches the edge.
    * resized: a random area in AREA and aspect ratio in RATIO, as torchvision's RandomResizedCrop samples them.
    * stretched: 224 x 224 of the frame scaled to 256 x 342 pixels, whatever its shape; for another ``size``, the same
      share of the frame.

    Args:
        crop: the rule.
        height: of the frames, pixels.
        width: of the frames, pixels.
        size: side of the result, pixels.
        rng: generator of the random choices.
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
    shorter = min(height, width)
    sides = [int(shorter * scale) for scale in SCALES]
    sides = [size if abs(side - size) < SIZE_TOLERANCE and size <= shorter else side for side in sides]
    pairs = [(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1]
    rows, columns = pairs[rng.integers(len(pairs))]
    down, across = PLACES[rng.integers(len(PLACES))]
    return Region((height - rows) * down // 4, (width - columns) * across // 4, rows, columns)


def _resized(height: int, width: int, rng: np.random.Generator) -> Region:
    for _ in range(ATTEMPTS):
        area = height * width * rng.uniform(*AREA)
        ratio = np.exp(rng.uniform(*np.log(RATIO)))
        rows, columns = round(float(np.sqrt(area / ratio))), round(float(np.sqrt(area * ratio)))
        if 0 < rows <= height and 0 < columns <= width:
            return _anywhere(height, width, rows, columns, rng)
    # The centre, as large as the range of aspect ratios allows.
    rows, columns = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    return Region((height - rows) // 2, (width - columns) // 2, rows, columns)


def scaled(frames: UInt8[Tensor, "t c h w"], size: int) -> UInt8[Tensor, "t c size size"]:
    """Return ``frames`` scaled to ``size`` x ``size``, bilinear, with antialiasing when they get smaller."""
    from torchvision.transforms.v2 import functional  # its import takes a second, and unscaled crops do not need it

    return functional.resize(frames, [size, size], antialias=True)


def mixed(
    images: UInt8[Tensor, "n c t h w"], labels: Int64[Tensor, " n"], classes: int, augment: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[UInt8[Tensor, "n c t h w"], Float32[Tensor, "n classes"]]:  # fmt: skip
    """Return each clip mixed with the previous clip of the batch, and the resulting share of each class.

    The results are on the devices of ``images`` and ``labels``, which may differ.

    MixUp blends all pixels, CutMix pastes one rectangle into all frames. The share of the clip itself is sampled from
    Beta(alpha, alpha), once for each batch. If both are on, each batch gets one of them with probability 1/2.
    """
    targets = torch.nn.functional.one_hot(labels, classes).float()
    cut = augment.cutmix > 0 and (augment.mixup == 0 or rng.random() < 0.5)
    alpha = augment.cutmix if cut else augment.mixup
    share = float(rng.beta(alpha, alpha))
    previous = images.roll(1, 0)
    if cut:
        height, width = images.shape[-2:]
        rows, columns = (int(side * np.sqrt(1 - share)) for side in (height, width))
        y, x = int(rng.integers(height)), int(rng.integers(width))
        top, bottom = max(y - rows // 2, 0), min(y + rows // 2, height)
        left, right = max(x - columns // 2, 0), min(x + columns // 2, width)
        images = images.clone()
        images[..., top:bottom, left:right] = previous[..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)  # the part beyond the edge is not pasted
    else:
        images = torch.lerp(previous.float(), images.float(), share).round_().to(torch.uint8)
    return images, share * targets + (1 - share) * targets.roll(1, 0)
