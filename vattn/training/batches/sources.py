"""Where a training reads its clips: in the clip cache, in a copy of it on the node, or in the memory of the device."""

from datetime import timedelta
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Int64, UInt8
from torch import Tensor

from vattn.config import DataConfig, TrialConfig
from vattn.data.cache import Clips, local_copy
from vattn.files import at_home
from vattn.training.batches.ahead import ahead, torch_threads

#: Longest time that a worker waits for the caches of other nodes to be copied. Usual exchanges wait minutes at most.
COPYING = timedelta(days=1)
#: Share of a GPU's free memory that the frames of one split may take if ``data.resident`` is auto.
SHARE = 0.25


class ResidentClips:
    """The clips of one split, with all of their frames on ``device``, decoded; uint8.

    Args:
        clips: the split. Its frames are read by as many threads as torch has, and their hashes are checked.
        device: where to keep them.

    Raises:
        UserError: a file of the cache was altered after it was written.
        torch.OutOfMemoryError: they do not fit.
    """

    def __init__(self, clips: Clips, device: torch.device) -> None:
        self.labels, self.shapes = clips.labels, clips.shapes
        self.paths, self.seconds, self.times = clips.paths, clips.seconds, clips.times
        pinned = device.type == "cuda"
        ends = np.cumsum(self.shapes.prod(1) * 3).tolist()
        self.pixels = torch.empty(ends[-1], dtype=torch.uint8, device=device)

        def read(i: int) -> Tensor:
            clip = clips.clip(i)
            host = torch.empty(clip.shape, dtype=torch.uint8, pin_memory=pinned)
            host.numpy()[...] = clip
            return host

        self.frames: list[UInt8[Tensor, "t h w 3"]] = []
        with torch_threads() as threads:
            for end, host in zip(ends, ahead(int, read, len(clips), threads), strict=True):
                self.frames.append(self.pixels[end - host.numel() : end].view(host.shape))
                self.frames[-1].copy_(host, non_blocking=True)

    @classmethod
    def of_video(cls, frames: UInt8[np.ndarray, "t h w 3"], device: torch.device) -> Self:
        """Return one clip that is no part of a cache; its path and length in seconds are not known."""
        clips = cls.__new__(cls)
        clips.labels, clips.shapes = np.zeros(1, np.int64), np.array([frames.shape[:3]])
        clips.paths, clips.seconds, clips.times = [""], np.array([-1.0]), lambda i: np.empty(0)
        clips.frames = [torch.from_numpy(frames).to(device)]
        clips.pixels = clips.frames[0].flatten()
        return clips

    def __len__(self) -> int:
        return len(self.labels)


def resident(clips: Clips, config: TrialConfig, device: torch.device) -> Clips | ResidentClips:
    """Return ``clips`` with their frames on ``device`` if `is_resident`, otherwise as they are."""
    return ResidentClips(clips, device) if is_resident(clips, config, device) else clips


def is_resident(clips: Clips, config: TrialConfig, device: torch.device) -> bool:
    """Return whether ``data.resident`` wants the frames of a split on ``device``.

    It is ``auto`` on a GPU if the decoded frames take at most `SHARE` of the memory that is free for this process, and
    the training reads at least as many frames as are stored: otherwise reading all of them would take longer.
    """
    wanted = config.data.resident
    if wanted != "auto":
        return wanted
    return device.type == "cuda" and _pays(clips.shapes, config) and _fits(clips.shapes, device)


def _pays(shapes: Int64[np.ndarray, "clips 3"], config: TrialConfig) -> bool:
    per_clip = config.model.frames * config.model.backbone.frames_per_segment
    return config.train.epochs * per_clip * len(shapes) >= int(shapes[:, 0].sum())


def _fits(shapes: Int64[np.ndarray, "clips 3"], device: torch.device) -> bool:
    free, total = torch.cuda.mem_get_info(device)
    # The process may be limited to a part of the GPU, which it shares with other trials.
    own = total * torch.cuda.get_per_process_memory_fraction(device) - torch.cuda.memory_reserved(device)
    return int(shapes.prod(1).sum()) * 3 <= SHARE * min(free, own)


def node_cache(cache: Path, data: DataConfig) -> Path:
    """Return ``cache``, or its copy in ``data.local`` on this node, which is made if it does not exist.

    In a process group, all workers wait for the copies of all nodes.

    Raises:
        UserError, StorageError: as `vattn.data.cache.local_copy` does.
    """
    if data.local == "none":
        return cache
    copy = local_copy(cache, at_home(data.local))
    if dist.is_initialized():
        group = cast(dist.ProcessGroup, dist.new_group(timeout=COPYING, backend="gloo"))
        dist.barrier(group)
        dist.destroy_process_group(group)
    return copy
