"""Evaluation of one model on a set of clips, on one device or as one of several workers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy

from vattn.config import TrialConfig
from vattn.data.cache import Clips
from vattn.data.protocols import averages_logits
from vattn.data.sampling import Order
from vattn.model import VideoModel
from vattn.training.batches.feed import feed
from vattn.training.batches.loader import eval_batches
from vattn.training.batches.pixels import normalise
from vattn.training.batches.sources import ResidentClips
from vattn.training.device import autocast
from vattn.weights.statistics import statistics

#: What is averaged over the views of a clip.
Average = Literal["auto", "softmax", "logits"]


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


def evaluate(
    net: VideoModel,
    clips: Clips | ResidentClips,
    config: TrialConfig,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
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
    net: VideoModel,
    clips: Clips | ResidentClips,
    config: TrialConfig,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
    average: Average = "auto",
    order: Order = "normal",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield scores (N, 1 + branches, classes) and labels (N) of worker ``rank``'s clips, batch by batch, on ``device``.

    The scores are float32 logits, the model's first and then those of its branches. For a clip with several views they
    are averaged as ``average`` says (`averaged`); ``auto``: as the protocol of the data config does.
    ``order`` is the order of the frames (`vattn.data.sampling.reordered`). The other arguments are those of `evaluate`.
    """
    if average == "auto":
        average = "logits" if averages_logits(config.data.sampling.protocol) else "softmax"
    net.eval()
    expected = statistics(config)
    with torch.inference_mode():
        batches = eval_batches(clips, config.data, config.model, config.train.batch, rank, world, device, order)
        for images, labels in feed(batches, device):
            with autocast(config.train, device):
                scores = net.scores(normalise(images, device, expected))
            yield averaged(scores.float(), len(labels), average), labels


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
        # Not torch.bincount, which waits for a GPU to learn the greatest number.
        rows.new_zeros(classes**2).scatter_add_(0, rows, torch.ones_like(rows)).view(classes, classes),
        torch.stack([(best == target[:, None]).any(1).sum(), cross_entropy(scores, target, reduction="sum")]),
    )


def averaged(scores: Tensor, clips: int, average: Average = "softmax") -> Tensor:
    """Average the scores of views (N * views, ..., classes) to scores of clips (N, ..., classes).

    With ``softmax`` the result is the logarithm of the mean over views of the softmax, so that its softmax is that
    mean; with ``logits`` it is the mean of the scores. With one view per clip, scores are unchanged. ``clips`` is N.
    """
    views = len(scores) // clips
    if views == 1:
        return scores
    if average == "logits":
        return scores.unflatten(0, (clips, views)).mean(1)
    return scores.log_softmax(-1).unflatten(0, (clips, views)).logsumexp(1) - math.log(views)
