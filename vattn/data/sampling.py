"""Which frames make a clip: one from each of T equal segments (TSN, Wang et al., ECCV 2016, arXiv:1608.00859)."""

import numpy as np
from jaxtyping import Int64


def random_indices(num_frames: int, frames: int, rng: np.random.Generator) -> Int64[np.ndarray, " t"]:
    """Return one random frame of each of ``frames`` equal segments of ``num_frames``, in order: the rule of training.

    TSN rounds the length of a segment down, so that up to T - 1 frames at the end are never seen; here segments keep
    their exact length and cover every frame, which is the same wherever T divides ``num_frames``. A segment shorter
    than a frame repeats it, so a short clip is stretched evenly instead of giving its first frame T times.
    """
    return ((np.arange(frames) + rng.random(frames)) * num_frames / frames).astype(np.int64)


def surrounding(indices: Int64[np.ndarray, " t"], per_segment: int, num_frames: int) -> Int64[np.ndarray, " n"]:
    """Return each frame in the middle of ``per_segment`` (odd) successive ones; at the ends frames are repeated.

    TDN's code moves the middle instead where a segment's five frames would reach beyond the video.
    """
    around = indices[:, None] + np.arange(per_segment) - per_segment // 2
    return around.clip(0, num_frames - 1).ravel()


def centre_indices(num_frames: int, frames: int, late: bool = False) -> Int64[np.ndarray, " t"]:
    """Return the frame at the centre of each of ``frames`` equal segments of ``num_frames``: the rule of evaluation.

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
