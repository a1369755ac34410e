"""Feeds batches to a device, while the device works with the one before."""

from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache

import torch
from torch import Tensor

from vattn.training.batches.ahead import ahead, torch_threads
from vattn.training.batches.loader import Batches, Read
from vattn.training.batches.sources import ResidentClips


def feed(batches: Batches, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches in their order: images, uint8 (N, 3, T, H, W), and labels, on ``device``.

    As many threads read batches as torch has threads in this process: ``resources.cpus`` of a trial. On a CPU they also
    augment them. For a GPU, pixels are read to pinned memory; one more thread copies them to the GPU and augments them
    there, on a stream of its own beside the training. Up to three batches are on the GPU then.

    Args:
        batches: the batches, which are made on ``device``.
        device: the device of the network.
    """
    with torch_threads() as threads:
        if device.type == "cuda":
            yield from _feed_gpu(batches, device, threads)
        else:
            yield from ahead(batches.plan, batches.make, len(batches), threads)


def _feed_gpu(batches: Batches, device: torch.device, threads: int) -> Iterator[tuple[Tensor, Tensor]]:
    side = _side_stream(device)
    # The frames of resident clips were copied on the main stream, and must stay while the side stream uses them.
    side.wait_stream(torch.cuda.current_stream(device))
    if isinstance(batches.clips, ResidentClips):
        batches.clips.pixels.record_stream(side)

    def finish(read: Read) -> tuple[Tensor, Tensor, torch.cuda.Event]:
        finished = torch.cuda.Event()
        with torch.cuda.stream(side):
            images, labels = batches.finish(read)
            finished.record(side)
        return images, labels, finished

    with closing(ahead(batches.plan, batches.read, len(batches), threads)) as host:
        for images, labels, finished in ahead(lambda _: next(host), finish, len(batches), threads=1):
            main = torch.cuda.current_stream(device)
            main.wait_event(finished)
            # The memory is reused for another batch only after the main stream has reached the end of its use here.
            images.record_stream(main)
            labels.record_stream(main)
            yield images, labels


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which batches are made. It is one for all passes, as the constants are made on it too."""
    return torch.cuda.Stream(device)
