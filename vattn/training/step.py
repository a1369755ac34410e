"""One step of a training: forward and backward passes of a worker's clips, and the optimizer's step."""

from contextlib import nullcontext
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vattn.config import TrainConfig
from vattn.model import VideoModel
from vattn.normalization import IMAGENET, Statistics
from vattn.training.batches.pixels import normalise
from vattn.training.device import autocast, backward_pass
from vattn.training.distill import Teacher
from vattn.training.optimization import ScaledOptimizer
from vattn.training.recipe.losses import Criterion

#: The loss without smoothing and class weights.
CROSS_ENTROPY = Criterion()


def distributed(net: VideoModel, train: TrainConfig, has_stages: bool) -> DistributedDataParallel:
    """Return ``net`` with gradients that are averaged over the workers.

    Buffers stay those of each worker, and `fit` shares them after an epoch. ``has_stages``: in some stages of training,
    parameters have no gradient.
    """
    # Torch renamed the option, and warns about its old name.
    names = signature(DistributedDataParallel).parameters
    buffers: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers": False
    }
    return DistributedDataParallel(
        net, gradient_as_bucket_view=True, find_unused_parameters=has_stages,
        # Torch cannot leave out an exchange of gradients in a static graph.
        static_graph=not has_stages and train.accumulate == 1, **buffers,
    )  # fmt: skip


def train_step(
    model: nn.Module, net: VideoModel, optimizer: ScaledOptimizer, train: TrainConfig, images: Tensor, labels: Tensor,
    clips: int, world: int, lr: float, criterion: Criterion = CROSS_ENTROPY, statistics: Statistics = IMAGENET,
    teacher: Teacher | None = None, shown: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Train on a worker's clips of one step; return the sum of their losses.

    Nothing here waits for the device.

    Args:
        model: ``net``, or its wrapper that averages gradients over the workers.
        net: the network, on its device.
        optimizer: the optimizer of its parameters.
        train: the precision, and the number of parts (``accumulate``).
        images: uint8 (N, 3, T, H, W), of this worker.
        labels: their labels, as `VideoModel.loss` takes them, or the targets of a detector.
        clips: number of clips of the step, summed over the workers.
        world: number of workers.
        lr: the learning rate.
        criterion: the loss.
        statistics: how the images are normalised.
        teacher: adds a term to the loss.
        shown: images (N, 3, T, H, W) that the teacher sees; None: ``images``.
    """
    device = net.fc.weight.device
    sizes = part_sizes(len(labels), train.batch // world // train.accumulate)
    optimizer.start(lr)
    total = torch.zeros((), device=device)
    labels = labels.to(device, non_blocking=True)
    step_weight = criterion.total(labels, clips, world)
    shown = images if shown is None else shown
    parts = zip(images.split(sizes), labels.split(sizes), shown.split(sizes), strict=True)
    for number, (part, target, shown_part) in enumerate(parts, start=1):
        # Only the last part exchanges gradients with the other workers.
        waits = number < len(sizes)
        with model.no_sync() if waits and isinstance(model, DistributedDataParallel) else nullcontext():
            # Summed over the parts and averaged over the workers, the gradient is that of the mean over all clips of
            # the step, also where one worker has a clip more than another.
            weight = criterion.weight(target) * world / step_weight
            with autocast(train, device):
                if net.takes_targets:
                    loss = model(normalise(part, device, statistics), target).sum()
                    weighted = loss * weight
                elif teacher is None:
                    loss = net.loss(model(normalise(part, device, statistics)), target, criterion)
                    weighted = loss * weight
                else:
                    taught = teacher(shown_part)  # first: the student's activations are not in memory yet
                    scores, features = model(normalise(part, device, statistics), with_features=True)
                    loss, term = net.loss(scores, target, criterion), teacher.loss(scores, features, taught)
                    loss, weighted = loss + term, loss * weight + term * (len(part) * world / clips)
            with backward_pass(train, device):
                optimizer.backward(weighted)
        total = total + loss.detach() * len(part)
    optimizer.step()
    return total


def part_sizes(clips: int, limit: int) -> list[int]:
    """Return the sizes of the parts of ``clips`` clips: as few as ``limit`` clips each allow, as equal as possible.

    Batch normalization has no statistics of one clip. So if the limit is 2 and the number odd, one part has 3 clips.
    """
    parts = -(-clips // limit)
    if limit > 1:
        parts = max(min(parts, clips // 2), 1)
    return [len(range(part, clips, parts)) for part in range(parts)]
