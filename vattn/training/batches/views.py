"""The frames and the regions of the views of a video in evaluation."""

import numpy as np
from jaxtyping import Int64

from vattn.config import DataConfig, ModelConfig
from vattn.data.augment import Region, crops
from vattn.data.protocols import protocol_crops, protocol_indices
from vattn.data.sampling import evaluation_indices


def view_frames(
    data: DataConfig, model: ModelConfig, num_frames: int, clip: int = 0, late: bool = False
) -> Int64[np.ndarray, " t"]:
    """Return the sampled frames of the ``clip``-th of the clips of a video in evaluation, one for each of T places.

    If several frames are read at a place, the returned one is in the middle (see `surrounding`).

    Args:
        data: sampling of frames, modality and views.
        model: number of the frames.
        num_frames: frames of the video.
        clip: number of the clip, from 0.
        late: see `centre_indices`; no protocol of published code has such a choice.
    """
    kind, protocol, clips = data.sampling.kind, data.sampling.protocol, data.views.clips
    if protocol == "auto":
        return evaluation_indices(kind, num_frames, model.frames, clip, clips, late)
    around = model.backbone.frames_per_segment
    length = around + (data.modality == "diff")  # a difference needs the next frame too
    return protocol_indices(protocol, kind, num_frames, model.frames, clip, clips, length) + around // 2


def view_regions(data: DataConfig, height: int, width: int, size: int) -> list[Region]:
    """Return the regions of stored frames (``height`` x ``width``) that are the crops of an evaluation.

    The crops have ``size`` pixels after the scaling that ``data.views.short`` asks for. They are placed in the scaled
    frame, and the same region of the stored frame is cut out and scaled.
    """
    views, protocol = data.views, data.sampling.protocol
    share = 1 if views.short == "auto" else min(height, width) / views.short
    rows, columns = round(height / share), round(width / share)
    if protocol == "auto":
        regions = crops(rows, columns, size, views.crops)
    else:
        regions = protocol_crops(protocol, rows, columns, size, views.crops)
    if share == 1:
        return regions
    side = round(size * share)
    return [
        Region(min(round(top * share), height - side), min(round(left * share), width - side), side, side)
        for top, left, _, _ in regions
    ]
