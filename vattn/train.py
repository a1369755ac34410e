"""Training and evaluation of one model: plain loops over batches, on one device or as one of several workers.

Each epoch is a function of (weights, optimizer state, seed, epoch, rank) alone, and a checkpoint within one has its
workers' random numbers too, so a run that was cut off and resumed ends in the same weights as one that was not.
"""

import io
import math
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from vattn.canonical import trial_id
from vattn.config import TrainConfig, TrialConfig
from vattn.data import open_clips
from vattn.data.cache import Clips
from vattn.files import replacing, writing
from vattn.loader import ahead, eval_batches, train_batches
from vattn.model import VideoModel, load_model
from vattn.recompute import recompute_blocks
from vattn.start import start

# ImageNet's statistics, as torchvision's weights expect; in units of a uint8 value.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
#: After each so many steps several workers agree on whether a checkpoint is due.
AGREE = 16


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: its number from 1, its validation metrics and training loss, its wall-clock seconds."""

    number: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """What a model does with a set of clips.

    ``confusion[i, j]`` counts the clips of class i that were given class j; ``top5`` counts the clips whose class is
    among the five best scores; ``loss`` is the cross-entropy summed over clips; ``branches`` counts the right answers
    of each branch of a model that has some.
    """

    confusion: Tensor
    top5: float
    loss: float
    branches: dict[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Fractions: top1, top5, mean_class (the mean of the classes' own accuracies), top1 by branch; mean loss."""
        clips, each = float(self.confusion.sum()), self.confusion.sum(1)
        right = self.confusion.diagonal()
        return {
            "top1": float(right.sum()) / clips,
            "top5": self.top5 / clips,
            "mean_class": float((right[each > 0] / each[each > 0]).mean()),
            "loss": self.loss / clips,
            **{f"top1_{branch}": right / clips for branch, right in self.branches.items()},
        }


def default_device() -> torch.device:
    """Return this process's GPU where there is one (Ray shows a worker its own as device 0), else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def fit(config: TrialConfig, cache: Path, folder: Path, device: torch.device | None = None) -> Iterator[Epoch]:
    """Train, and yield each epoch once its checkpoint is on the disk; those of an earlier attempt come first.

    In a `torch.distributed` process group the batch is shared among its workers, and rank 0 alone writes. ``folder``
    gets ``checkpoint.pt`` (all that a resume needs) after each epoch, and within one each
    ``train.checkpoint_minutes``, and ``model.pt`` (a plain state dict) after the last. Raises FloatingPointError after
    an epoch whose loss is not finite, and ValueError where ``folder`` belongs to another config.
    """
    device = device or default_device()
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if config.train.batch % world:
        raise ValueError(f"train.batch: must be divisible by the {world} workers (got {config.train.batch})")
    began = time.perf_counter()
    train_clips, val_clips = open_clips(cache, "train"), open_clips(cache, "val")
    torch.manual_seed(config.train.seed)
    net = start(config).to(device)
    if config.train.recompute == "blocks":
        recompute_blocks(net)
    optimizer = _optimizer(net, config.train)
    checkpoint = folder / "checkpoint.pt"
    done, halfway = _load(checkpoint, config, net, optimizer, device, world)
    yield from done
    # Stages of sparse attention's training leave parameters without a gradient.
    stages = config.model.sparse != "none"
    model = DistributedDataParallel(net, find_unused_parameters=stages) if world > 1 else net

    for number in range(len(done) + 1, config.train.epochs + 1):
        # A string's own checksum: Python's hash of a tuple of ints would do, but says nothing of its stability.
        torch.manual_seed(zlib.crc32(f"{config.train.seed} {number} {rank}".encode()))
        net.begin(number, config.train.epochs)
        begun = _Progress(0, torch.zeros((), device=device), 0)
        if halfway:
            begun, began = halfway[rank].taken_up(device), began - halfway[rank].seconds
            halfway = []
        progress, saved = begun, time.perf_counter()
        for progress in _train_epoch(model, net, optimizer, train_clips, config, number, begun, rank, world, device):
            if _is_due(config.train, saved, progress.step, world, device):
                everyone = _gathered(_Halfway.of(progress, device, time.perf_counter() - began), world)
                if rank == 0:
                    _save(checkpoint, config, net, optimizer, done, everyone)
                saved = time.perf_counter()
        loss = progress.mean(config.train, number)
        _share_buffers(net)
        evaluation = evaluate(net, val_clips, config, device, rank, world)
        epoch = Epoch(number, evaluation.metrics | {"train_loss": loss}, time.perf_counter() - began)
        done.append(epoch)
        if rank == 0:
            # The weights first: a process killed between the two trains the last epoch again, and misses nothing.
            if number == config.train.epochs:
                _write(net.state_dict(), folder / "model.pt")
            _save(checkpoint, config, net, optimizer, done, [])
        if world > 1:
            dist.barrier()  # the others must not report an epoch whose checkpoint is not written yet
        yield epoch
        began = time.perf_counter()


def score_test_split(
    config: TrialConfig, cache: Path, folder: Path, device: torch.device | None = None
) -> dict[str, float]:
    """Return what the weights that `fit` left in ``folder`` come to on the test split; {} where the data have none.

    In a process group the clips are shared among its workers, as in `fit`.
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
    """Score each of ``clips`` once, shared among the workers; every worker gets the whole result."""
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
    top5, loss, *right = sums.tolist()
    return Evaluation(confusion.cpu(), top5, loss, dict(zip(net.branches, right, strict=True)))


def score(
    net: VideoModel, clips: Clips, config: TrialConfig, device: torch.device, rank: int = 0, world: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield float scores (N, 1 + branches, classes), the model's own first, and labels (N), batch by batch.

    They are of worker ``rank``'s clips, on ``device``, and averaged over the views of a clip.
    """
    net.eval()
    with torch.inference_mode():
        for images, labels in ahead(eval_batches(clips, config.data, config.model, config.train.batch, rank, world)):
            with _autocast(config.train, device):
                scores = net.scores(normalise(images, device))
            yield averaged(scores.float(), len(labels)), labels.to(device)


def judge(scores: Tensor, target: Tensor) -> Evaluation:
    """Return what clips of these scores (N, classes) and labels (N) come to."""
    confusion, (top5, loss) = _count(scores, target)
    return Evaluation(confusion.double().cpu(), float(top5), float(loss))


def _count(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the confusion matrix, and (clips with their class among the best five, summed loss)."""
    classes = scores.shape[1]
    rows = target * classes + scores.argmax(1)
    best = scores.topk(min(5, classes)).indices
    return (
        torch.bincount(rows, minlength=classes**2).view(classes, classes),
        torch.stack([(best == target[:, None]).any(1).sum(), cross_entropy(scores, target, reduction="sum")]),
    )


def averaged(scores: Tensor, clips: int) -> Tensor:
    """Scores of views (N * views, ..., classes) -> of clips (N, ..., classes): the logarithm of the mean softmax.

    The softmax of the result is that mean. Where each clip has one view, its scores stay as they are.
    """
    views = len(scores) // clips
    if views == 1:
        return scores
    return scores.log_softmax(-1).unflatten(0, (clips, views)).logsumexp(1) - math.log(views)


class _Progress(NamedTuple):
    """How far an epoch has come on one worker: steps, and the sum of the losses of its clips."""

    step: int
    total: Tensor
    seen: int

    def mean(self, train: TrainConfig, number: int) -> float:
        """Return the mean loss; raises FloatingPointError where it is not finite."""
        mean = float(self.total) / self.seen
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the training loss is {mean} in epoch {number}; try a lower train.lr (got {train.lr})"
            )
        return mean


@dataclass(frozen=True)
class _Halfway:
    """What one worker needs to go on within an epoch: its progress, its random numbers, the seconds so far."""

    step: int
    total: float
    seen: int
    random: list[Tensor]
    seconds: float

    @classmethod
    def of(cls, progress: _Progress, device: torch.device, seconds: float) -> "_Halfway":
        random = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
        return cls(progress.step, float(progress.total), progress.seen, random, seconds)

    def taken_up(self, device: torch.device) -> _Progress:
        """Set the generators, and return the progress."""
        torch.set_rng_state(self.random[0].cpu())
        if device.type == "cuda":
            torch.cuda.set_rng_state(self.random[1].cpu(), device)
        return _Progress(self.step, torch.tensor(self.total, device=device), self.seen)


def _train_epoch(
    model: nn.Module, net: VideoModel, optimizer: torch.optim.Optimizer, clips: Clips, config: TrialConfig,
    number: int, start: _Progress, rank: int, world: int, device: torch.device,
) -> Iterator[_Progress]:  # fmt: skip
    """Go on with a pass over the training clips; yield the progress after each step."""
    model.train()
    first, total, seen = start
    batches = train_batches(clips, config.data, config.model, config.train, number, rank, world, first)
    steps = first + len(batches)
    # What recolours draws from torch's one generator, as dropout does: there the order of draws must not be chance.
    recolours = config.data.augment.color or config.data.augment.randaugment
    for step, (images, labels) in enumerate(batches if recolours else ahead(batches), first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config.train, number - 1 + step / steps)
        with _autocast(config.train, device):
            loss = net.loss(model(normalise(images, device)), labels.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        # Nobody looks at the sum within an epoch: that would wait for the GPU at each step.
        total = total + loss.detach() * len(labels)
        seen += len(labels)
        yield _Progress(step + 1, total, seen)


def _is_due(train: TrainConfig, saved: float, step: int, world: int, device: torch.device) -> bool:
    """Whether all workers are to take part in a checkpoint now."""
    if train.checkpoint_minutes == "none":
        return False
    due = time.perf_counter() - saved >= 60 * train.checkpoint_minutes
    if world == 1:
        return due
    if step % AGREE:
        return False
    said = torch.tensor(due, dtype=torch.int32, device=device)
    dist.broadcast(said, 0)
    return bool(said)


def _gathered(mine: _Halfway, world: int) -> list[_Halfway]:
    """Return what every worker has, in the order of ranks."""
    if world == 1:
        return [mine]
    everyone: list[Any] = [None] * world
    dist.all_gather_object(everyone, mine)
    return everyone


def learning_rate(train: TrainConfig, epoch: float) -> float:
    """Rate at ``epoch`` (a fraction within the epoch included, from 0): constant, or half a cosine down to 0."""
    if train.schedule == "constant":
        return train.lr
    return train.lr * (1 + math.cos(math.pi * epoch / train.epochs)) / 2


def _optimizer(net: nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    if train.optimizer == "adamw":
        return torch.optim.AdamW(net.parameters(), lr=train.lr, weight_decay=train.weight_decay)
    return torch.optim.SGD(net.parameters(), lr=train.lr, momentum=0.9, weight_decay=train.weight_decay)


def _autocast(train: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=train.amp == "bf16")


def normalise(images: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, 3, T, H, W) from the cache -> float on ``device``, by ImageNet's mean and deviation."""
    mean = torch.tensor(MEAN, device=device).view(3, 1, 1, 1)
    std = torch.tensor(STD, device=device).view(3, 1, 1, 1)
    return images.to(device, non_blocking=True).float().sub_(mean).div_(std)


def _share_buffers(net: nn.Module) -> None:
    """Give all workers rank 0's running statistics, so that each evaluates the same model."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for buffer in net.buffers():
            dist.broadcast(buffer, 0)


def _save(
    path: Path, config: TrialConfig, net: nn.Module, optimizer: torch.optim.Optimizer, done: list[Epoch],
    halfway: list[_Halfway],
) -> None:  # fmt: skip
    state = {
        "identity": trial_id(config),
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epochs": [asdict(epoch) for epoch in done],
        "halfway": [asdict(worker) for worker in halfway],
    }
    _write(state, path)


def _write(state: dict[str, Any], path: Path) -> None:
    """Write so that ``path`` holds the old content or the new one, whenever the process is killed."""
    content = io.BytesIO()  # as torch tells of a full disk, that is no error of the system, but one of its own
    torch.save(state, content)
    with writing(path, "make room and go on with --resume"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(content.getbuffer())


def _load(
    path: Path, config: TrialConfig, net: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device, world: int
) -> tuple[list[Epoch], list[_Halfway]]:
    """Return the epochs that are done, and what each worker has of the next one, or nothing where it begins anew."""
    if not path.exists():
        return [], []
    state = torch.load(path, map_location=device, weights_only=True)
    if state["identity"] != trial_id(config):
        raise ValueError(f"{path}: was written by another config; train into another folder, or remove it")
    workers = len(state["halfway"])
    if workers not in (0, world):
        raise ValueError(
            f"{path}: was written within an epoch by {workers} workers, each with its own random numbers; go on with "
            f"as many (got {world})"
        )
    net.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return [Epoch(**row) for row in state["epochs"]], [_Halfway(**row) for row in state["halfway"]]
