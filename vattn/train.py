"""Training and evaluation of one model, on one device or as one of several workers.

The result of an epoch depends only on the weights, the optimizer state, the seed, the epoch and the rank. A checkpoint
within an epoch also holds each worker's random state. On CPUs, a run that was interrupted and resumed therefore ends
with the same weights as a run that was not, bit for bit. On GPUs this is not guaranteed, as some of torch's operations
there add numbers in an order that varies.
"""

import math
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from vattn.checkpoint import Epoch, Progress, WorkerState, load, save, write_state
from vattn.config import TrainConfig, TrialConfig
from vattn.data import open_clips
from vattn.data.cache import Clips
from vattn.errors import UserError
from vattn.loader import ahead, eval_batches, step_sizes, train_batches
from vattn.model import VideoModel, load_model
from vattn.recompute import recompute_blocks
from vattn.start import start

#: Mean of ImageNet's pixels by colour, as torchvision's weights expect it; in units of a uint8 value.
MEAN = (123.675, 116.28, 103.53)
#: Standard deviation of ImageNet's pixels by colour; in units of a uint8 value.
STD = (58.395, 57.12, 57.375)
#: Number of steps between two exchanges in which several workers decide whether a checkpoint is due.
STEPS_PER_AGREEMENT = 16
#: Momentum of SGD.
MOMENTUM = 0.9


@dataclass(frozen=True)
class Evaluation:
    """The result of a model on a set of clips.

    ``confusion[i, j]`` is the number of clips of class i that were classified as class j. ``top5`` is the number of
    clips whose class is among the 5 highest scores. ``loss`` is the cross-entropy summed over clips, in nats.
    ``branches`` is the number of correct clips by branch, for a model with branches.
    """

    confusion: Tensor
    top5: float
    loss: float
    branches: dict[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by name.

        ``top1``, ``top5``, ``mean_class`` (the mean of the accuracies of the classes that occur) and ``top1_BRANCH``
        are fractions. ``loss`` is the mean cross-entropy of a clip, in nats.
        """
        clips, of_class = float(self.confusion.sum()), self.confusion.sum(1)
        correct = self.confusion.diagonal()
        return {
            "top1": float(correct.sum()) / clips,
            "top5": self.top5 / clips,
            "mean_class": float((correct[of_class > 0] / of_class[of_class > 0]).mean()),
            "loss": self.loss / clips,
            **{f"top1_{branch}": count / clips for branch, count in self.branches.items()},
        }


def default_device() -> torch.device:
    """Return the process's GPU if it has one, otherwise the CPU. Ray makes a worker's GPU its device 0."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def fit(config: TrialConfig, cache: Path, folder: Path, device: torch.device | None = None) -> Iterator[Epoch]:
    """Train a model by SGD with momentum or AdamW, and yield each epoch when its checkpoint is on the disk.

    Epochs of an earlier attempt in the same ``folder`` are yielded first, and the training continues after them. In a
    `torch.distributed` process group the batch is divided among the workers, and only rank 0 writes.

    Args:
        config: data, model and training.
        cache: the folder of the decoded clips, with the splits train and val.
        folder: the folder to write to. It gets ``checkpoint.pt`` after each epoch, and ``partial_epoch.pt`` every
            ``train.checkpoint_minutes`` within one (see `vattn.checkpoint`). With another number of workers, or on
            another type of device, the interrupted epoch starts again. The folder gets ``model.pt``, a state dict,
            after the last epoch.
        device: the device to train on; None stands for `default_device`.

    Raises:
        UserError: ``folder`` belongs to another config, ``train.batch`` is not divisible by the number of workers, or
            initial weights or clips cannot be read.
        FloatingPointError: the loss of an epoch is not finite.
        StorageError: a checkpoint cannot be written.
    """
    device = device or default_device()
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if config.train.batch % world:
        raise UserError(f"must be divisible by the {world} workers", path="train.batch", found=config.train.batch)
    began = time.perf_counter()
    train_clips, val_clips = open_clips(cache, "train"), open_clips(cache, "val")
    torch.manual_seed(config.train.seed)
    net = start(config).to(device)
    if config.train.recompute == "blocks":
        recompute_blocks(net)
    optimizer = _optimizer(net, config.train)
    done, interrupted = load(folder, config, net, optimizer, device, world)
    paused = time.perf_counter()
    yield from done
    began += time.perf_counter() - paused  # the caller's time is not part of the next epoch
    # In some stages of training with sparse attention, parameters have no gradient.
    has_stages = config.model.sparse != "none"
    model = DistributedDataParallel(net, find_unused_parameters=has_stages) if world > 1 else net

    for number in range(len(done) + 1, config.train.epochs + 1):
        # A checksum of a string, because Python does not guarantee that the hash of a tuple stays the same.
        torch.manual_seed(zlib.crc32(f"{config.train.seed} {number} {rank}".encode()))
        net.begin(number, config.train.epochs)
        first = Progress(0, torch.zeros((), device=device), 0)
        if interrupted:
            first, began = interrupted[rank].restore(device), began - interrupted[rank].seconds
            interrupted = []
        progress, saved = first, time.perf_counter()
        for progress in _train_epoch(model, net, optimizer, train_clips, config, number, first, rank, world, device):
            if _is_due(config.train, saved, progress.step, world, device):
                states = _gathered(WorkerState.of(progress, device, time.perf_counter() - began), world)
                if rank == 0:
                    save(folder, config, net, optimizer, done, states)
                saved = time.perf_counter()
        loss = _mean_loss(progress, config.train, number, world)
        _share_buffers(net)
        evaluation = evaluate(net, val_clips, config, device, rank, world)
        epoch = Epoch(number, evaluation.metrics | {"train_loss": loss}, time.perf_counter() - began)
        done.append(epoch)
        if rank == 0:
            # The weights first: a process that is killed between the two writes trains the last epoch again.
            if number == config.train.epochs:
                write_state(net.state_dict(), folder / "model.pt")
            save(folder, config, net, optimizer, done, [])
        if world > 1:
            dist.barrier()  # no worker may report an epoch before its checkpoint is written
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
    try:
        clips = open_clips(cache, "test")
    except ValueError:
        return {}
    device = device or default_device()
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    net = load_model(config.model, config.data.num_classes(), folder / "model.pt")
    return evaluate(net.to(device), clips, config, device, rank, world).metrics


def evaluate(
    net: VideoModel, clips: Clips, config: TrialConfig, device: torch.device, rank: int = 0, world: int = 1
) -> Evaluation:
    """Evaluate ``net`` on each of ``clips`` once, divided among the workers; every worker gets the whole result.

    Args:
        net: the network, on ``device``.
        clips: the clips of one split.
        config: its data config gives the sampling and the views of a clip, its training config batch and precision.
        device: the device of ``net``.
        rank: the number of this worker, from 0.
        world: the number of workers; if it is more than 1, the process group of `torch.distributed` must exist.
    """
    classes = config.data.num_classes()
    confusion = torch.zeros(classes, classes, dtype=torch.float64, device=device)
    sums = torch.zeros(2 + len(net.branches), dtype=torch.float64, device=device)
    for scores, target in score(net, clips, config, device, rank, world):
        counted, summed = _count(scores[:, 0], target)
        confusion += counted
        sums += torch.cat([summed, (scores[:, 1:].argmax(2) == target[:, None]).sum(0)])
    if world > 1:
        dist.all_reduce(confusion)
        dist.all_reduce(sums)
    top5, loss, *correct = sums.tolist()
    return Evaluation(confusion.cpu(), top5, loss, dict(zip(net.branches, correct, strict=True)))


def score(
    net: VideoModel, clips: Clips, config: TrialConfig, device: torch.device, rank: int = 0, world: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield scores (N, 1 + branches, classes) and labels (N) of worker ``rank``'s clips, batch by batch, on ``device``.

    The scores are float32 logits, the model's first and then those of its branches. For a clip with several views they
    are the logarithm of the mean probabilities (`averaged`). The arguments are those of `evaluate`.
    """
    net.eval()
    with torch.inference_mode():
        for images, labels in ahead(eval_batches(clips, config.data, config.model, config.train.batch, rank, world)):
            with _autocast(config.train, device):
                scores = net.scores(normalise(images, device))
            yield averaged(scores.float(), len(labels)), labels.to(device)


def judge(scores: Tensor, target: Tensor) -> Evaluation:
    """Return the evaluation of clips with scores (N, classes) and labels (N)."""
    confusion, (top5, loss) = _count(scores, target)
    return Evaluation(confusion.double().cpu(), float(top5), float(loss))


def _count(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the confusion matrix, and (number of clips with their class among the 5 best, summed cross-entropy)."""
    classes = scores.shape[1]
    rows = target * classes + scores.argmax(1)
    best = scores.topk(min(5, classes)).indices
    return (
        torch.bincount(rows, minlength=classes**2).view(classes, classes),
        torch.stack([(best == target[:, None]).any(1).sum(), cross_entropy(scores, target, reduction="sum")]),
    )


def averaged(scores: Tensor, clips: int) -> Tensor:
    """Average the scores of views (N * views, ..., classes) to scores of clips (N, ..., classes).

    The result is the logarithm of the mean over views of the softmax, so that its softmax is that mean. With one view
    per clip, scores are unchanged. ``clips`` is N.
    """
    views = len(scores) // clips
    if views == 1:
        return scores
    return scores.log_softmax(-1).unflatten(0, (clips, views)).logsumexp(1) - math.log(views)


def _train_epoch(
    model: nn.Module, net: VideoModel, optimizer: torch.optim.Optimizer, clips: Clips, config: TrialConfig,
    number: int, start: Progress, rank: int, world: int, device: torch.device,
) -> Iterator[Progress]:  # fmt: skip
    """Continue a pass over the training clips after the progress ``start``; yield the progress after each step."""
    model.train()
    first, total, seen = start
    batches = train_batches(clips, config.data, config.model, config.train, number, rank, world, first)
    sizes = step_sizes(len(clips), config.train, world)
    steps = len(sizes)
    # Recolouring draws from torch's global generator, as dropout does. Loading ahead in a thread would make the order
    # of these draws random.
    recolours = config.data.augment.color or config.data.augment.randaugment
    for step, (images, labels) in enumerate(batches if recolours else ahead(batches), first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config.train, number - 1 + step / steps)
        with _autocast(config.train, device):
            loss = net.loss(model(normalise(images, device)), labels.to(device))
        optimizer.zero_grad(set_to_none=True)
        # Averaged over the workers, the gradient is that of the mean over all clips of the step, also where one worker
        # has a clip more than another.
        weight = len(labels) * world / sizes[step]
        (loss if weight == 1 else loss * weight).backward()
        optimizer.step()
        # The sum is not read within an epoch, because that would wait for the GPU at each step.
        total = total + loss.detach() * len(labels)
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


def _is_due(train: TrainConfig, saved: float, step: int, world: int, device: torch.device) -> bool:
    """Return whether a checkpoint is due. It is the same for all workers, which take part in it together."""
    if train.checkpoint_minutes == "none":
        return False
    due = time.perf_counter() - saved >= 60 * train.checkpoint_minutes
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


def learning_rate(train: TrainConfig, epoch: float) -> float:
    """Return the learning rate at ``epoch``, from 0 and with a fraction: constant, or half a cosine from `lr` to 0."""
    if train.schedule == "constant":
        return train.lr
    return train.lr * (1 + math.cos(math.pi * epoch / train.epochs)) / 2


def _optimizer(net: nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    if train.optimizer == "adamw":
        return torch.optim.AdamW(net.parameters(), lr=train.lr, weight_decay=train.weight_decay)
    return torch.optim.SGD(net.parameters(), lr=train.lr, momentum=MOMENTUM, weight_decay=train.weight_decay)


def _autocast(train: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=train.amp == "bf16")


def normalise(images: Tensor, device: torch.device) -> Tensor:
    """Convert uint8 clips (N, 3, T, H, W) to float32 on ``device``, normalised by ImageNet's mean and deviation."""
    mean = torch.tensor(MEAN, device=device).view(3, 1, 1, 1)
    std = torch.tensor(STD, device=device).view(3, 1, 1, 1)
    return images.to(device, non_blocking=True).float().sub_(mean).div_(std)


def _share_buffers(net: nn.Module) -> None:
    """Copy rank 0's buffers (running statistics) to all workers, so that all evaluate the same model."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for buffer in net.buffers():
            dist.broadcast(buffer, 0)
