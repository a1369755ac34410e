"""The loss of a training: cross-entropy with label smoothing and class weights."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy


class Criterion:
    """The cross-entropy that torch's `cross_entropy` gives, for a step that is divided among workers and into parts.

    Label smoothing is that of Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for
    Computer Vision", CVPR 2016 (arXiv:1512.00567). As in torch, the mean over clips with class weights is the weighted
    sum divided by the sum of the weights, but by the number of clips if clips are mixed.

    Args:
        smoothing: share of a label that is spread evenly over all classes.
        weights: weight of each class, on the device of the scores; None: all are equal.
    """

    def __init__(self, smoothing: float = 0.0, weights: Tensor | None = None) -> None:
        self._smoothing, self._weights = smoothing, weights

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of clips with scores (N, classes) and labels (N), or shares of classes (N, classes)."""
        # Autocast on a CPU leaves scores in half precision, which torch does not combine with weights in float32.
        scores = scores if self._weights is None else scores.float()
        return cross_entropy(scores, labels, weight=self._weights, label_smoothing=self._smoothing)

    def weight(self, labels: Tensor) -> Tensor | float:
        """Return the weight of these clips in the mean over a step: their number, or the sum of their class weights."""
        if self._weights is None or labels.is_floating_point():
            return float(len(labels))
        return self._weights[labels].sum()

    def total(self, labels: Tensor, clips: int, workers: int) -> Tensor | float:
        """Return the weight of a whole step with ``clips`` clips, of which this worker has those with ``labels``."""
        own = self.weight(labels)
        if not isinstance(own, Tensor):
            return float(clips)
        if workers > 1:
            dist.all_reduce(own)
        return own


def class_weights(counts: Tensor, exponent: float) -> Tensor | None:
    """Return the weight of each class by its number of clips, n ** -exponent, with mean 1 over all clips.

    A class without clips has the smallest weight. None if all weights are equal.
    """
    if not exponent:
        return None
    weights = counts.clamp(min=1).double() ** -exponent
    weights[counts == 0] = weights[counts > 0].min()
    return (weights * counts.sum() / (weights * counts).sum()).float()


def criterion_of(smoothing: float, exponent: float, counts: Tensor, device: torch.device) -> Criterion:
    """Return the loss for ``train.label_smoothing`` and ``train.balance.weights``.

    Args:
        smoothing: see `Criterion`.
        exponent: see `class_weights`.
        counts: number of training clips of each class.
        device: device of the network.
    """
    weights = class_weights(counts, exponent)
    return Criterion(smoothing, None if weights is None else weights.to(device))
