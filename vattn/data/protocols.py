"""The test protocols of published code: which frames and which crops of a video an evaluation takes, to the frame.

Each rule is that of the authors' code, with its rounding and what it does with short videos:

* tsn: L. Wang et al., "Temporal Segment Networks", ECCV 2016, arXiv:1608.00859 (dataset.py of tsn-pytorch);
* tsm: J. Lin, C. Gan, S. Han, "TSM", ICCV 2019, arXiv:1811.08383 (ops/dataset.py and ops/transforms.py); the code of
  TEA (Y. Li et al., CVPR 2020, arXiv:2004.01398) has the same rules;
* tanet: Z. Liu et al., "TAM", ICCV 2021, arXiv:2005.06803 (ops/dataset.py: ``uniform-K`` and ``dense-K``);
* tdn: L. Wang, Z. Tong, B. Ji, G. Wu, "TDN", CVPR 2021, arXiv:2012.10071 (ops/dataset.py);
* slowfast: C. Feichtenhofer et al., "SlowFast", ICCV 2019, arXiv:1812.03982, as in PySlowFast (datasets/decoder.py,
  datasets/ssv2.py and datasets/transform.py).

All but slowfast average the scores of the views before the softmax, slowfast after it (`averages_logits`).
"""

import math
from typing import Literal

import numpy as np
import torch

from vattn.data.augment import Region
from vattn.data.sampling import Indices, Kind, window

Protocol = Literal["tsm", "tsn", "tanet", "tdn", "slowfast"]


def averages_logits(protocol: Protocol | Literal["auto"]) -> bool:
    """Return whether a protocol averages the scores of views before their softmax."""
    return protocol not in ("auto", "slowfast")


def protocol_indices(
    protocol: Protocol, kind: Kind, num_frames: int, frames: int, clip: int = 0, clips: int = 1, length: int = 1
) -> Indices:
    """Return the first frame that is read at each of the T places of a clip, as the authors' code chooses it.

    * tsn, tsm, tanet with segments: T segments of tick = (n - length + 1) / T frames. A single clip has
      int(tick / 2 + tick * x) for x = 0 ... T - 1. The second of two clips of tsm has int(tick * x). The k-th of K > 1
      clips of tanet starts at the k-th of ``linspace(0, tick - 1, K)``, rounded towards 0.
    * tdn: the same single clip, but frame 0 T times if n <= T + length - 1. TDN's code draws each of several clips (of
      Kinetics) at random, as it does for training; here, so that an evaluation can be repeated, the draws are seeded
      by n and the number of the clip.
    * tsm, tanet with dense: every (64 // T)-th frame, continued from the first one at the end, from starts
      ``linspace(0, m, K)``, rounded down, where m = max(n - 64, 0) for tsm, and 64 // T * T in place of 64 for tanet.
      Its single clip starts at (m + 1) // 2.
    * slowfast with dense or window: delta = max(n - c, 0) for clips of c = T or (64 // T) * T frames; the k-th of K
      clips starts at s = delta * k / K, and has ``linspace(s, s + c - 1, T)`` in float32, at most n - 1, rounded down.
    * slowfast with segments (its code for Something-Something V2): the middle of round(x * w) and round((x + 1) * w),
      rounded down, for w = (n - 1) / T; halves are rounded to even numbers.

    Args:
        protocol: whose rule.
        kind: way of sampling, one of ``vattn.data.config.PROTOCOLS[protocol]``.
        num_frames: n, frames of the video.
        frames: T, places of the clip.
        clip: k, number of the clip, from 0.
        clips: K, clips of the video.
        length: successive frames that are read at each place.

    Returns:
        T frame numbers, int64. Those that are read may extend beyond the end of the video, where they repeat its last
        frame.
    """
    if protocol == "slowfast":
        offsets = _slowfast(kind, num_frames, frames, clip, clips)
    elif kind == "dense":
        offsets = _dense(protocol, num_frames, frames, clip, clips)
    else:
        offsets = _segments(protocol, num_frames, frames, clip, clips, length)
    return np.asarray(offsets).astype(np.int64)


def _segments(protocol: Protocol, num_frames: int, frames: int, clip: int, clips: int, length: int) -> np.ndarray:
    """Return the offsets of the protocols that follow TSN."""
    room, places = num_frames - length + 1, np.arange(frames)
    if protocol == "tdn" and clips > 1:
        return _tdn_training(num_frames, room, frames, np.random.default_rng([num_frames, clip]))
    if protocol == "tdn" and num_frames <= frames + length - 1:
        return np.zeros(frames)
    # In floating point, as published: a quotient of integers would differ where tick has no exact value.
    tick = room / float(frames)
    if protocol == "tanet" and clips > 1:
        # The numpy of that time rounds towards 0; since 1.20 it rounds down, and the start of a short video is -1.
        start = int(np.linspace(0, tick - 1, clips)[clip])
        return np.trunc(start + tick * places) % num_frames
    offsets = tick * places if clip == 1 else tick / 2.0 + tick * places
    return np.trunc(offsets).clip(0)


def _tdn_training(num_frames: int, room: int, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random frame of each segment, as TDN's code draws it for training and for the clips of Kinetics."""
    if duration := max(room, 0) // frames:
        return np.arange(frames) * duration + rng.integers(duration, size=frames)
    return np.sort(rng.integers(max(room, 1), size=frames)) if num_frames > frames else np.zeros(frames)


def _dense(protocol: Protocol, num_frames: int, frames: int, clip: int, clips: int) -> np.ndarray:
    span, step = window("dense", frames)
    positions = max(1, 1 + num_frames - (span if protocol == "tsm" else step * frames))
    starts = [positions // 2] if protocol == "tanet" and clips == 1 else np.linspace(0, positions - 1, clips)
    start = int(starts[clip])
    return (np.arange(frames) * step + start) % num_frames


def _slowfast(kind: Kind, num_frames: int, frames: int, clip: int, clips: int) -> np.ndarray:
    if kind == "segments":
        edges = np.round((num_frames - 1) / frames * np.arange(frames + 1)).astype(np.int64)
        return (edges[:-1] + edges[1:]) // 2
    _, step = window(kind, frames)
    size = step * frames
    start = max(num_frames - size, 0) * clip / clips
    # By torch, because its float32 arithmetic decides in which frame a point falls that is close to an integer.
    return torch.linspace(start, start + size - 1, frames).clamp(0, num_frames - 1).long().numpy()


def protocol_crops(protocol: Protocol, height: int, width: int, size: int, count: int) -> list[Region]:
    """Return ``count`` (1 or 3) squares of ``size`` pixels, at the places and in the order of the authors' code.

    * One crop: the centre; half a pixel is rounded to an even place (torchvision's CenterCrop), by slowfast up.
    * Three crops of TSN's followers (GroupFullResSample): left, right and centre, at 0, 4 and 2 quarters of the free
      width and at 2 quarters of the free height, where a quarter is rounded down. The right one may end 3 pixels
      before the edge, and those of an upright video are three times its centre.
    * Three crops of slowfast (uniform_crop): both ends and the centre of the longer side, in this order.
    """
    free = height - size, width - size
    if protocol == "slowfast":
        top, left = (math.ceil(side / 2) for side in free)
        if count == 1:
            places = [(top, left)]
        elif height > width:
            places = [(0, left), (top, left), (free[0], left)]
        else:
            places = [(top, 0), (top, left), (top, free[1])]
    elif count == 1:
        places = [(round(free[0] / 2), round(free[1] / 2))]
    else:
        down, across = (side // 4 for side in free)
        places = [(2 * down, 0), (2 * down, 4 * across), (2 * down, 2 * across)]
    return [Region(top, left, size, size) for top, left in places]
