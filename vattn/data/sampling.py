"""Which frames make a clip: of segments, of a window of 64 frames, evenly of all, or successive ones.

Frames are numbered from 0. Each rule has a random form for training, and one for each of a video's clips in evaluation.
"""

from typing import Literal

import numpy as np
from jaxtyping import Int64

#: Frames that "dense" spreads a clip over (Wang et al., CVPR 2018, arXiv:1711.07971; TSM's and TANet's code).
WINDOW = 64

Indices = Int64[np.ndarray, " t"]
Kind = Literal["segments", "dense", "uniform", "window"]


def training_indices(kind: Kind, num_frames: int, frames: int, rng: np.random.Generator) -> Indices:
    """Return the frames of a training clip.

    * segments: one random frame of each of T equal segments (TSN, Wang et al., ECCV 2016, arXiv:1608.00859).
    * dense: every (64 // T)-th frame from a random start on, such that 64 frames fit.
    * uniform: frames num_frames / T apart, from a random start within the first of these steps.
    * window: T successive frames from a random start on (C3D, Tran et al., ICCV 2015, arXiv:1412.0767).

    Where a video is too short for a window, it begins again from the front.
    """
    match kind:
        case "segments":
            return random_indices(num_frames, frames, rng)
        case "uniform":
            return ((np.arange(frames) + rng.random()) * num_frames / frames).astype(np.int64)
    span, step = _window(kind, frames)
    return _looped(int(rng.integers(max(num_frames - span, 0), endpoint=True)), step, num_frames, frames)


def evaluation_indices(
    kind: Kind, num_frames: int, frames: int, clip: int = 0, clips: int = 1, late: bool = False
) -> Indices:
    """Return the frames of clip number ``clip``, from 0, of ``clips`` taken of a video.

    * segments, uniform: one clip takes the centres of segments (`centre_indices`). Of several, the k-th takes the frame
      k / clips into each segment, as TSM's code does with two.
    * dense, window: one clip is from the middle of the video. Several start evenly from the first possible frame to the
      last, rounded down, as in TSM's code (there ten).
    """
    if kind in ("segments", "uniform"):
        if clips == 1:
            return centre_indices(num_frames, frames, late)
        return ((np.arange(frames) * clips + clip) * num_frames // (clips * frames)).astype(np.int64)
    span, step = _window(kind, frames)
    room = max(num_frames - span, 0)
    return _looped(room // 2 if clips == 1 else clip * room // (clips - 1), step, num_frames, frames)


def _window(kind: Kind, frames: int) -> tuple[int, int]:
    """Return the frames that a clip needs in one piece, and the step within them."""
    if kind == "window":
        return frames, 1
    step = max(WINDOW // frames, 1)
    return max(WINDOW, frames), step


def _looped(start: int, step: int, num_frames: int, frames: int) -> Indices:
    return (start + step * np.arange(frames)) % num_frames


def random_indices(num_frames: int, frames: int, rng: np.random.Generator) -> Indices:
    """Return one random frame of each of ``frames`` equal segments of ``num_frames``, in order.

    TSN rounds the length of a segment down, so that up to T - 1 frames at the end are never seen; here segments keep
    their exact length and cover every frame, which is the same wherever T divides ``num_frames``. A segment shorter
    than a frame repeats it, so a short clip is stretched evenly instead of giving its first frame T times.
    """
    return ((np.arange(frames) + rng.random(frames)) * num_frames / frames).astype(np.int64)


def surrounding(indices: Indices, per_segment: int, num_frames: int) -> Int64[np.ndarray, " n"]:
    """Return each frame in the middle of ``per_segment`` (odd) successive ones; at the ends frames are repeated.

    TDN's code moves the middle instead where a segment's five frames would reach beyond the video.
    """
    if per_segment == 1:
        return indices
    around = indices[:, None] + np.arange(per_segment) - per_segment // 2
    return around.clip(0, num_frames - 1).ravel()


def centre_indices(num_frames: int, frames: int, late: bool = False) -> Indices:
    """Return the frame at the centre of each of ``frames`` equal segments of ``num_frames``.

    The choice is symmetric in time, index[k] + index[T - 1 - k] == num_frames - 1, so that a clip and its reverse show
    the same frames: where a centre falls between two frames, the first half of the clip takes the later one (as TSN
    does) and the second half the earlier one. Only the middle of an odd T in an even ``num_frames`` has no symmetric
    choice: it is the earlier frame, or the later one if ``late``. Alternate ``late`` from clip to clip, and neither
    direction of time is favoured in the average.
    """
    centre = (2 * np.arange(frames) + 1) * num_frames  # in units of 1 / (2 T) frames; frame i covers i to i + 1
    down, up = centre // (2 * frames), -(-centre // (2 * frames)) - 1
    half = np.sign(2 * np.arange(frames) + 1 - frames)
    return np.where(half < (1 if late else 0), down, up).astype(np.int64)
