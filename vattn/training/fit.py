"""Training of one model, on one device or as one of several workers.

The result of an epoch depends only on the weights, the optimizer state, the seed, the epoch and the rank. A checkpoint
within an epoch also holds each worker's random state. On CPUs, a run that was interrupted and resumed therefore ends
with the same weights as a run that was not, bit for bit. On GPUs this is not guaranteed, as some of torch's operations
there add numbers in an order that varies.
"""

import math
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from vattn.config import TrainConfig, TrialConfig
from vattn.data import open_clips
from vattn.errors import UserError
from vattn.model import VideoModel, load_model
from vattn.training.batches.loader import step_sizes
from vattn.training.batches.sources import node_cache, resident
from vattn.training.best import rate, settle
from vattn.training.checkpoint import Epoch, Progress, WorkerState, load
from vattn.training.device import compile_network, default_device, set_up
from vattn.training.distill import Teacher, feed_both
from vattn.training.optimization import ScaledOptimizer
from vattn.training.recipe.losses import Criterion, criterion_of
from vattn.training.recipe.norms import prepare
from vattn.training.recompute import recompute_blocks
from vattn.training.saver import Saver
from vattn.training.start import start
from vattn.training.state_file import write_state
from vattn.training.step import distributed, train_step
from vattn.training.tasks.task import Task, task_of
from vattn.weights.statistics import recorded, statistics

#: Number of steps between two exchanges in which several workers decide whether a checkpoint is due.
STEPS_PER_AGREEMENT = 16


def fit(
    config: TrialConfig, cache: Path, folder: Path, device: torch.device | None = None, keep_best: bool = False
) -> Iterator[Epoch]:
    """Train a model by SGD with momentum or AdamW, and yield each epoch as soon as it has ended.

    Checkpoints are written by a thread, while the next epoch trains. The last epoch is yielded when its checkpoint and
    the weights are on the disk. Epochs of an earlier attempt in the same ``folder`` that are in its checkpoint are
    yielded first, and the training continues after them. In a `torch.distributed` process group the batch is divided
    among the workers, and only rank 0 writes.

    Args:
        config: data, model and training.
        cache: the folder of the decoded clips, with the splits train and val.
        folder: the folder to write to. It gets ``checkpoint.pt`` after the first and the last epoch, and after each
            epoch in between, unless the last one was written less than `Saver.spacing` and less than
            ``train.checkpoint_seconds`` ago. It gets ``partial_epoch.pt`` every ``train.checkpoint_minutes`` within an
            epoch (see `vattn.training.checkpoint`), which stands for the epoch if it is being written as that ends.
            With another number of workers, or on another type of device, the interrupted epoch starts again. The
            folder gets ``model.pt``, a state dict, after the last epoch.
        device: the device to train on; None stands for `default_device`.
        keep_best: also write ``best.pt``, see `vattn.training.best`.

    Raises:
        UserError: ``folder`` belongs to another config, ``train.batch`` is not divisible by the number of workers, or
            initial weights or clips cannot be read.
        FloatingPointError: the loss of an epoch is not finite.
        StorageError: a checkpoint cannot be written; it is raised at the next step.
    """
    config = recorded(config)
    saver = Saver(folder, config, keep_best)
    try:
        yield from _fit(config, cache, folder, device or default_device(), saver)
    finally:
        saver.close()


def _fit(config: TrialConfig, cache: Path, folder: Path, device: torch.device, saver: Saver) -> Iterator[Epoch]:
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if config.train.batch % world:
        raise UserError(f"must be divisible by the {world} workers", path="train.batch", found=config.train.batch)
    if rule := config.train.uneven_parts(world):
        raise UserError(rule, path="train.accumulate", way_out="take a divisor", found=config.train.accumulate)
    set_up(device, config.train)
    began = time.perf_counter()
    near = node_cache(cache, config.data)
    train_clips, val_clips = (resident(open_clips(near, split), config, device) for split in ("train", "val"))
    torch.manual_seed(config.train.seed)
    net = start(config).to(device)
    prepare(net, config.train.norm, config.train.freeze, world)
    if config.train.recompute == "blocks":
        recompute_blocks(net)
    compile_network(net, config.train)
    optimizer = ScaledOptimizer(net, config.train, device)
    counts = torch.from_numpy(np.bincount(train_clips.labels, minlength=config.data.num_classes()))
    criterion = criterion_of(config.train.label_smoothing, config.train.balance.weights, counts, device)
    teacher = None if config.train.distill == "none" else Teacher(config, train_clips, cache, device)
    task = task_of(config, train_clips)
    task.begin(net)
    done, interrupted = load(folder, config, net, optimizer, device, world)
    if rank == 0:
        settle(folder, done)
    paused = time.perf_counter()
    yield from done
    began += time.perf_counter() - paused  # the caller's time is not part of the next epoch
    # In some stages of training with sparse attention, parameters have no gradient, and detectors find no regions.
    has_stages = config.model.sparse != "none" or config.task == "detection"
    model = distributed(net, config.train, has_stages) if world > 1 else net

    for number in range(len(done) + 1, config.train.epochs + 1):
        # A checksum of a string, because Python does not guarantee that the hash of a tuple stays the same.
        torch.manual_seed(zlib.crc32(f"{config.train.seed} {number} {rank}".encode()))
        net.begin(number, config.train.epochs)
        first = Progress(0, torch.zeros((), device=device), 0)
        if interrupted:
            first, began = interrupted[rank].restore(device), began - interrupted[rank].seconds
            interrupted = []
        progress, epoch_began = first, time.perf_counter()
        steps = _train_epoch(
            model, net, optimizer, criterion, teacher, task, config, number, first, rank, world, device
        )  # fmt: skip
        for progress in steps:
            saver.check()
            if _is_due(config.train, saver, epoch_began, progress.step, world, device):
                states = _gathered(WorkerState.of(progress, device, time.perf_counter() - began), world)
                if rank == 0:
                    saver.save(net, optimizer, done, states)
        loss = _mean_loss(progress, config.train, number, world)
        _share_buffers(net, optimizer)
        metrics = {"train_loss": loss}
        if optimizer.average:
            plain = task.evaluate(net, val_clips, device, rank, world)
            metrics[f"{rate(plain)}_plain"] = plain[rate(plain)]
        is_last = number == config.train.epochs
        with optimizer.averaged():
            metrics = task.evaluate(net, val_clips, device, rank, world) | metrics
            epoch = Epoch(number, metrics, time.perf_counter() - began, config.train.epochs)
            if rank == 0:
                saver.keep_best(net, [*done, epoch])
            if rank == 0 and is_last:
                saver.wait()
                saver.check_folder()
                # The weights first: a process that is killed between the two writes trains the last epochs again.
                write_state(net.state_dict(), folder / "model.pt")
        done.append(epoch)
        if rank == 0 and is_last:
            saver.save(net, optimizer, done, [])
            saver.wait()
        elif rank == 0 and saver.is_due(min(config.train.checkpoint_seconds, saver.spacing)):
            saver.save(net, optimizer, done, [])
        if world > 1 and is_last:
            dist.barrier()  # no worker may report the last epoch before its weights are written
        yield epoch
        began = time.perf_counter()


def score_test_split(
    config: TrialConfig, cache: Path, folder: Path, device: torch.device | None = None
) -> dict[str, float]:
    """Return the metrics on the test split of the weights that `fit` wrote to ``folder``; {} if there is no such split.

    In a process group the clips are divided among its workers, as in `fit`. The arguments are those of `fit`.

    Raises:
        UserError: the weights cannot be read.
    """
    config = recorded(config)
    try:
        clips = open_clips(node_cache(cache, config.data), "test")
    except ValueError:
        return {}
    device = device or default_device()
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    set_up(device, config.train)
    net = load_model(config.model, config.data.num_classes(), folder / "model.pt")
    return task_of(config).evaluate(net.to(device), clips, device, rank, world)


def _train_epoch(
    model: nn.Module, net: VideoModel, optimizer: ScaledOptimizer, criterion: Criterion, teacher: Teacher | None,
    task: Task, config: TrialConfig, number: int, start: Progress, rank: int, world: int,
    device: torch.device,
) -> Iterator[Progress]:  # fmt: skip
    """Continue a pass over the training samples after the progress ``start``; yield the progress after each step."""
    model.train()
    first, total, seen = start
    batches = task.batches(number, rank, world, first, device)
    sizes = step_sizes(task.num_samples(number), config.train, world)
    steps, expected = len(sizes), statistics(config)
    for step, (images, labels, shown) in enumerate(feed_both(batches, teacher, device), first):
        lr = config.train.lr_at(number - 1 + step / steps)
        losses = train_step(
            model, net, optimizer, config.train, images, labels, sizes[step], world, lr, criterion, expected, teacher,
            shown,
        )  # fmt: skip
        # The sum is not read within an epoch, because that would wait for the GPU at each step.
        total = total + losses
        seen += len(labels)
        yield Progress(step + 1, total, seen)


def _mean_loss(progress: Progress, train: TrainConfig, number: int, world: int) -> float:
    """Return the mean loss of a clip in epoch ``number``, over the clips of all workers.

    Raises:
        FloatingPointError: it is not finite.
    """
    total, seen = progress.total, progress.seen
    if world > 1:
        sums = torch.stack([total.double(), torch.tensor(seen, dtype=torch.float64, device=total.device)])
        dist.all_reduce(sums)
        total, seen = sums.tolist()
    mean = float(total) / seen
    if not math.isfinite(mean):
        raise FloatingPointError(
            f"the training loss is {mean} in epoch {number}; try a lower train.lr (got {train.lr})"
        )
    return mean


def _is_due(train: TrainConfig, saver: Saver, epoch_began: float, step: int, world: int, device: torch.device) -> bool:
    """Return whether a checkpoint is due. It is the same for all workers, which take part in it together."""
    if train.checkpoint_minutes == "none":
        return False
    due = saver.is_due(60 * train.checkpoint_minutes, epoch_began)
    if world == 1:
        return due
    if step % STEPS_PER_AGREEMENT:
        return False
    decision = torch.tensor(due, dtype=torch.int32, device=device)
    dist.broadcast(decision, 0)
    return bool(decision)


def _gathered(own: WorkerState, world: int) -> list[WorkerState]:
    """Return the states of all workers, in the order of ranks."""
    if world == 1:
        return [own]
    states: list[Any] = [None] * world
    dist.all_gather_object(states, own)
    return states


def _share_buffers(net: nn.Module, optimizer: ScaledOptimizer) -> None:
    """Copy rank 0's buffers (running statistics) to all workers, so that all evaluate the same model."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for buffer in net.buffers():
            dist.broadcast(buffer, 0)
        if optimizer.average:
            optimizer.average.share()
