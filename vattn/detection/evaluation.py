"""Average precision of detections, by the official rule of THUMOS'14 and by ActivityNet's.

Numbers of the two rules must not be compared: ActivityNet's gives some points more. Sources: Jiang et al., "THUMOS
Challenge: Action Recognition with a Large Number of Classes", 2014 (TH14evalDet); Caba Heilbron, Escorcia, Ghanem and
Niebles, "ActivityNet: A Large-Scale Video Benchmark for Human Activity Understanding", CVPR 2015.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float64

from vattn.data.untrimmed import Metric

#: The thresholds of THUMOS'14.
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


class Instances(NamedTuple):
    """Annotated segments in the order of their files; times in seconds, classes from 1."""

    video: np.ndarray
    start: np.ndarray
    end: np.ndarray
    label: np.ndarray


class Detections(NamedTuple):
    """Detected segments; times in seconds, classes from 1."""

    video: np.ndarray
    start: np.ndarray
    end: np.ndarray
    label: np.ndarray
    score: np.ndarray


_Rows = TypeVar("_Rows", Instances, Detections)


@dataclass(frozen=True)
class Result:
    """Average precision of each class at each threshold of IoU.

    ``ap`` is NaN for a class without an instance, which has no part in the mean. ``recall`` is the share of the
    instances that some detection of their class matches.
    """

    metric: Metric
    thresholds: tuple[float, ...]
    ap: Float64[np.ndarray, "thresholds classes"]
    recall: Float64[np.ndarray, "thresholds classes"]

    @property
    def map(self) -> Float64[np.ndarray, " thresholds"]:
        """Mean average precision at each threshold; 0 if no class has an instance."""
        present = ~np.isnan(self.ap[0])
        return self.ap[:, present].mean(1) if present.any() else np.zeros(len(self.ap))


def evaluate(
    instances: Instances,
    detections: Detections,
    num_classes: int,
    thresholds: Sequence[float | int] = THRESHOLDS,
    metric: Metric = "thumos14",
    ambiguous: int | None = None,
) -> Result:
    """Return the average precision of ``detections``.

    * thumos14: for each instance in file order, the free detection of the largest IoU matches it if its IoU is above
      the threshold. A free detection that overlaps an ambiguous segment is left out; the other free ones are false. The
      average precision is the sum of the precision at each match, divided by the number of instances.
    * activitynet: each detection, by decreasing score, matches the free instance of the largest IoU, if that is at
      least the threshold. The average precision is the area below the envelope of precision over recall. Ambiguous
      segments are unknown.

    Args:
        instances: the truth.
        detections: the result of a detector; of equal scores, the first one counts as better.
        num_classes: number of classes without background.
        thresholds: of IoU.
        metric: the rule.
        ambiguous: the label of ambiguous segments, if there are any.
    """
    limits = np.asarray(thresholds, np.float64)
    ap = np.full((len(limits), num_classes), np.nan)
    recall = ap.copy()
    unclear = _by_video(_select(instances, instances.label == ambiguous)) if ambiguous is not None else {}
    for number in range(num_classes):
        truth = _select(instances, instances.label == number + 1)
        if not len(truth.label):
            continue
        own = _select(detections, detections.label == number + 1)
        own = _select(own, np.argsort(-own.score, kind="stable"))
        correct, counted = _matched(truth, own, limits, metric, unclear if metric == "thumos14" else {})
        average = _summed_precision if metric == "thumos14" else _area_below_envelope
        for row in range(len(limits)):
            hits = correct[row, counted[row]]
            ap[row, number] = average(hits, len(truth.label))
            recall[row, number] = hits.sum() / len(truth.label)
    return Result(metric, tuple(thresholds), ap, recall)


def proposal_recall(
    instances: Instances, proposals: Detections, thresholds: Sequence[float | int] = THRESHOLDS, most: int = 100
) -> Float64[np.ndarray, " thresholds"]:
    """Return the share of instances that one of the ``most`` best proposals of their video overlaps that much.

    Classes have no part in it. At least the threshold counts.
    """
    limits, found = np.asarray(thresholds, np.float64), np.zeros(len(thresholds))
    proposed = _by_video(_select(proposals, np.argsort(-proposals.score, kind="stable")))
    for video, rows in _groups(instances.video):
        if video in proposed:
            iou = _iou(_select(instances, rows), _select(proposed[video], slice(most)))
            found += (iou.max(1)[:, None] >= limits).sum(0)
    return found / max(len(instances.video), 1)


def _matched(
    truth: Instances, own: Detections, limits: np.ndarray, metric: Metric, unclear: dict[float, Instances]
) -> tuple[Bool[np.ndarray, "thresholds detections"], Bool[np.ndarray, "thresholds detections"]]:
    """Return which detections are correct, and which count at all."""
    correct = np.zeros((len(limits), len(own.label)), bool)
    counted = np.ones_like(correct)
    instances_of = _by_video(truth)
    match = _official if metric == "thumos14" else _greedy
    for video, rows in _groups(own.video):
        here = _select(own, rows)
        if video in instances_of:
            correct[:, rows] = match(_iou(instances_of[video], here), limits)
        if video in unclear:
            touched = (_shared(unclear[video], here) > 0).any(0)
            counted[:, rows] = correct[:, rows] | ~touched
    return correct, counted


def _official(iou: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return which detections match: each instance in order takes the free one with the largest IoU."""
    taken = np.zeros((len(limits), iou.shape[1]), bool)
    row = np.arange(len(limits))
    for values in iou:
        free = np.where(taken, -1.0, values)
        best = free.argmax(1)
        hit = free[row, best] > limits
        taken[row[hit], best[hit]] = True
    return taken


def _greedy(iou: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return which detections match: each by decreasing score takes the free instance with the largest IoU."""
    correct = np.zeros((len(limits), iou.shape[1]), bool)
    taken = np.zeros((len(limits), len(iou)), bool)
    row = np.arange(len(limits))
    for number in np.flatnonzero((iou >= limits.min()).any(0)):
        free = np.where(taken, -1.0, iou[:, number])
        best = free.argmax(1)
        hit = free[row, best] >= limits
        taken[row[hit], best[hit]] = True
        correct[:, number] = hit
    return correct


def _summed_precision(hits: np.ndarray, num_instances: int) -> float:
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    return float(precision[hits].sum() / num_instances)


def _area_below_envelope(hits: np.ndarray, num_instances: int) -> float:
    found = hits.cumsum()
    precision = np.concatenate([[0.0], found / np.arange(1, len(hits) + 1), [0.0]])
    recall = np.concatenate([[0.0], found / num_instances, [1.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[steps] - recall[steps - 1]) * envelope[steps]).sum())


def _shared(truth: Instances, own: Detections) -> Float64[np.ndarray, "instances detections"]:
    """Return the seconds that instances and detections have in common; negative where there is a gap."""
    first = np.maximum(truth.start[:, None], own.start)
    return np.minimum(truth.end[:, None], own.end) - first


def _iou(truth: Instances, own: Detections) -> Float64[np.ndarray, "instances detections"]:
    """Return common seconds, divided by those from the first start to the last end."""
    shared = _shared(truth, own).clip(min=0)
    whole = np.maximum(truth.end[:, None], own.end) - np.minimum(truth.start[:, None], own.start)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _groups(video: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Yield each video and its rows, in order."""
    order = np.argsort(video, kind="stable")
    numbers, first = np.unique(video[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(order, first[1:]) if len(numbers) else [], strict=True)


def _by_video(rows: _Rows) -> dict[float, _Rows]:
    return {video: _select(rows, where) for video, where in _groups(rows.video)}


def _select(rows: _Rows, where: np.ndarray | slice) -> _Rows:
    return type(rows)(*(column[where] for column in rows))
