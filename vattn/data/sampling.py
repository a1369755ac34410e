"""Rules that choose the frames of a clip. Each has a random form for training and a deterministic one for evaluation.

Frames are numbered from 0. `vattn.data.protocols` has the rules of published code for evaluation, to the frame. The
rules here follow

* TSN: L. Wang, Y. Xiong, Z. Wang, Y. Qiao, D. Lin, X. Tang, L. Van Gool: "Temporal Segment Networks: Towards Good
  Practices for Deep Action Recognition", ECCV 2016, arXiv:1608.00859;
* C3D: D. Tran, L. Bourdev, R. Fergus, L. Torresani, M. Paluri: "Learning Spatiotemporal Features with 3D Convolutional
  Networks", ICCV 2015, arXiv:1412.0767;
* non-local networks: X. Wang, R. Girshick, A. Gupta, K. He: "Non-local Neural Networks", CVPR 2018, arXiv:1711.07971;
* TSM: J. Lin, C. Gan, S. Han: "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019,
  arXiv:1811.08383;
* TANet: Z. Liu, L. Wang, W. Wu, C. Qian, T. Lu: "TAM: Temporal Adaptive Module for Video Recognition", ICCV 2021,
  arXiv:2005.06803;
* TDN: L. Wang, Z. Tong, B. Ji, G. Wu: "TDN: Temporal Difference Networks for Efficient Action Recognition", CVPR 2021,
  arXiv:2012.10071.
"""

from typing import Literal

import numpy as np
from jaxtyping import Int64

#: Successive frames over which ``dense`` spreads a clip, as in non-local networks and the code of TSM and TANet.
WINDOW = 64

Indices = Int64[np.ndarray, " t"]
Kind = Literal["segments", "dense", "uniform", "window"]
#: Order of the frames in a test.
Order = Literal["normal", "shuffled", "frozen"]


def training_indices(kind: Kind, num_frames: int, frames: int, rng: np.random.Generator) -> Indices:
    """Sample the frames of a training clip.

    * segments (TSN): one random frame of each of T equal segments.
    * dense (non-local networks): every (64 // T)-th frame from a random start, such that 64 frames fit.
    * uniform: T frames, num_frames / T apart, from a random start within the first step.
    * window (C3D): T successive frames from a random start.

    If a video is too short for ``dense`` or ``window``, it is continued from its first frame.

    Args:
        kind: the rule.
        num_frames: frames of the video.
        frames: T, frames of the clip.
        rng: generator of the random choices.

    Returns:
        T frame numbers, int64.
    """
    match kind:
        case "segments":
            return random_indices(num_frames, frames, rng)
        case "uniform":
            return ((np.arange(frames) + rng.random()) * num_frames / frames).astype(np.int64)
    span, step = window(kind, frames)
    return _cyclic(int(rng.integers(max(num_frames - span, 0), endpoint=True)), step, num_frames, frames)


def evaluation_indices(
    kind: Kind, num_frames: int, frames: int, clip: int = 0, clips: int = 1, late: bool = False
) -> Indices:
    """Return the frames of one of the clips that an evaluation takes of a video.

    * segments, uniform: a single clip has the centres of T segments (`centre_indices`). Of K clips, the k-th has the
      frame at k / K of each segment, as TSM's code does for K = 2.
    * dense, window: a single clip is from the middle of the video. Several clips start at equal distances from the
      first possible frame to the last, rounded down, as TSM's code does for K = 10.

    Args:
        kind: the rule.
        num_frames: frames of the video.
        frames: T, frames of the clip.
        clip: k, number of the clip, from 0.
        clips: K, clips of the video.
        late: see `centre_indices`.

    Returns:
        T frame numbers, int64.
    """
    if kind in ("segments", "uniform"):
        if clips == 1:
            return centre_indices(num_frames, frames, late)
        return ((np.arange(frames) * clips + clip) * num_frames // (clips * frames)).astype(np.int64)
    span, step = window(kind, frames)
    room = max(num_frames - span, 0)
    return _cyclic(room // 2 if clips == 1 else clip * room // (clips - 1), step, num_frames, frames)


def window(kind: Kind, frames: int) -> tuple[int, int]:
    """Return the number of successive frames that a clip of kind dense or window spans, and the step between frames."""
    if kind == "window":
        return frames, 1
    step = max(WINDOW // frames, 1)
    return max(WINDOW, frames), step


def _cyclic(start: int, step: int, num_frames: int, frames: int) -> Indices:
    return (start + step * np.arange(frames)) % num_frames


def random_indices(num_frames: int, frames: int, rng: np.random.Generator) -> Indices:
    """Sample one frame of each of ``frames`` equal segments of ``num_frames`` frames, in order.

    TSN rounds the length of a segment down, so up to T - 1 frames at the end are never sampled. Here segments have
    their exact length and cover every frame; the rules are equal if T divides ``num_frames``. A segment shorter than a
    frame repeats it: a short video is stretched evenly, where TSN returns its first frame T times.
    """
    return ((np.arange(frames) + rng.random(frames)) * num_frames / frames).astype(np.int64)


def surrounding(indices: Indices, per_segment: int, num_frames: int) -> Int64[np.ndarray, " n"]:
    """Return ``per_segment`` (odd) successive frames around each sampled frame, as TDN takes five.

    At the ends of the video, frames are repeated. TDN's code moves the centre instead, if a segment's five frames
    extend beyond the video.
    """
    if per_segment == 1:
        return indices
    around = indices[:, None] + np.arange(per_segment) - per_segment // 2
    return around.clip(0, num_frames - 1).ravel()


def reordered(read: Int64[np.ndarray, " n"], order: Order, seed: int) -> Int64[np.ndarray, " n"]:
    """Return the frames that are read of a clip as if its frames came in another order.

    What a network still gets right then does not need the order of the frames.

    Args:
        read: numbers of the frames, in the order in which the network sees them.
        order: ``shuffled``: the frames of the clip exchange their places at random, wherever they are read; ``frozen``:
            each is the middle one.
        seed: of the random order; the same clip has the same order in every test.
    """
    if order == "normal":
        return read
    frames, place = np.unique(read, return_inverse=True)
    if order == "frozen":
        return np.full_like(read, read[len(read) // 2])
    return np.random.default_rng([seed, len(frames)]).permutation(frames)[place]


def centre_indices(num_frames: int, frames: int, late: bool = False) -> Indices:
    """Return the frame at the centre of each of ``frames`` equal segments of ``num_frames`` frames.

    The choice is symmetric in time, index[k] + index[T - 1 - k] == num_frames - 1, so that a clip and its reverse show
    the same frames. If a centre lies between two frames, segments in the first half of the clip take the later frame,
    as TSN does, and segments in the second half the earlier one. Only the middle segment of an odd T in an even
    ``num_frames`` has no symmetric choice: it takes the earlier frame, or the later one if ``late``. Alternating
    ``late`` from clip to clip favours neither direction of time on average.
    """
    centre = (2 * np.arange(frames) + 1) * num_frames  # in units of 1 / (2 T) frames; frame i covers i to i + 1
    down, up = centre // (2 * frames), -(-centre // (2 * frames)) - 1
    half = np.sign(2 * np.arange(frames) + 1 - frames)
    return np.where(half < (1 if late else 0), down, up).astype(np.int64)
