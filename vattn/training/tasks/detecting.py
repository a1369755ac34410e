"""Detection with a trained network: the segments of untrimmed videos, and their average precision."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float64

from vattn.config import TrialConfig
from vattn.data.cache import Clips
from vattn.data.untrimmed import Metric
from vattn.detection.config import RC3DConfig, SCNNConfig
from vattn.detection.detections import buffer_segments, suppressed, video_segments, window_segments
from vattn.detection.evaluation import THRESHOLDS, Instances, Result, evaluate, proposal_recall
from vattn.detection.rc3d import RC3D
from vattn.detection.samples import Part, rc3d_parts, scnn_parts
from vattn.detection.scnn import SCNN
from vattn.detection.videos import AMBIGUOUS, Video, detections, truth, videos
from vattn.training.batches.feed import feed
from vattn.training.batches.parts import test_parts
from vattn.training.batches.pixels import normalise
from vattn.training.batches.sources import ResidentClips
from vattn.training.device import autocast
from vattn.video_model import VideoModel
from vattn.weights.statistics import statistics

#: Thresholds of IoU whose mean average precisions are averaged to ``map``.
MAP_THRESHOLDS = (0.3, 0.4, 0.5)
#: Number of a video's proposals of which the recall is measured.
NUM_PROPOSALS = 100
#: A suppression with this threshold keeps everything.
_KEEPS_ALL = 2.0
#: The threshold of IoU for which segments are suppressed that are shown or written.
SHOWN = 0.5


@dataclass(frozen=True)
class Detected:
    """The segments that a network found in videos, rows (class, start, end, score): classes from 1, times in seconds.

    They are not yet suppressed for a threshold of IoU: see `segments`.
    """

    videos: list[Video]
    found: list[Float64[np.ndarray, "_ 4"]]
    num_classes: int
    metric: Metric

    def segments(self, video: int, threshold: float = SHOWN) -> Float64[np.ndarray, "_ 4"]:
        """Return the segments of a video for a threshold of IoU: those of a class overlap by 0.1 less at most."""
        return suppressed(self.found[video], max(threshold - 0.1, 0.0))

    def results(self, thresholds: Sequence[float] = THRESHOLDS, metric: Metric | None = None) -> list[Result]:
        """Return the average precisions at each threshold, by the metric of the data or another."""
        instances, rule = truth(self.videos), metric or self.metric
        return [
            evaluate(
                instances, detections([self.segments(number, t) for number in range(len(self.videos))]),
                self.num_classes, (t,), rule, AMBIGUOUS,
            )
            for t in thresholds
        ]  # fmt: skip

    @property
    def recall(self) -> float:
        """Share of the actions that one of the 100 best segments of their video overlaps by 0.5 or more.

        The class of the segment does not matter.
        """
        instances = truth(self.videos)
        clear = Instances(*(column[instances.label != AMBIGUOUS] for column in instances))
        return float(proposal_recall(clear, detections(self.found), (0.5,), NUM_PROPOSALS)[0])

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by name: fractions.

        ``map_T`` is the mean average precision at the threshold T of IoU, ``map`` the mean of those at 0.3, 0.4 and
        0.5; ``recall`` is `recall`.
        """
        by_threshold = {t: float(result.map[0]) for t, result in zip(THRESHOLDS, self.results(), strict=True)}
        return {
            "map": float(np.mean([by_threshold[t] for t in MAP_THRESHOLDS])),
            **{f"map_{t:g}": value for t, value in by_threshold.items()},
            "recall": self.recall,
        }

    def tree(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the segments as ActivityNet's form of JSON has them."""
        return {
            "version": "VERSION 1.3",
            "results": {
                video.path: [
                    {"label": labels[round(label) - 1], "segment": [start, end], "score": score}
                    for label, start, end, score in self.segments(number).tolist()
                ]
                for number, video in enumerate(self.videos)
            },
            "external_data": {"metric": self.metric},
        }

    def text(self, labels: Sequence[str]) -> str:
        """Return `tree` as JSON."""
        return json.dumps(self.tree(labels), indent=1) + "\n"


def detect(
    net: VideoModel, clips: Clips | ResidentClips, config: TrialConfig, device: torch.device, rank: int = 0,
    world: int = 1, every: list[Video] | None = None,
) -> Detected:  # fmt: skip
    """Return what ``net`` finds in the videos of a split, divided among the workers; all workers get the whole result.

    The arguments are those of `vattn.training.evaluation.evaluate`, and the videos, where ``clips`` are not of a cache.
    """
    every = videos(clips, config.data) if every is None else every
    net.eval()
    fps, metric = config.data.detection
    if isinstance(net, RC3D):
        found = _by_rc3d(net, clips, every, config, device, rank, world, fps)
    else:
        assert isinstance(net, SCNN)
        found = _by_scnn(net, clips, every, config, device, rank, world, fps)
    return Detected(every, found, config.data.num_classes(), metric)


def parts_of(config: TrialConfig, every: list[Video]) -> list[Part]:
    """Return the parts of videos that a detector sees, in order."""
    detector = config.model.detector
    if isinstance(detector, RC3DConfig):
        return rc3d_parts(every, detector, config.model.frames)[0]
    assert isinstance(detector, SCNNConfig)
    return scnn_parts(every, detector, config.model.frames)[0]


def _by_rc3d(
    net: RC3D, clips: Clips | ResidentClips, every: list[Video], config: TrialConfig, device: torch.device, rank: int,
    world: int, fps: float,
) -> list[np.ndarray]:  # fmt: skip
    detector, length = config.model.detector, config.model.frames
    assert isinstance(detector, RC3DConfig)
    parts, cut = rc3d_parts(every, detector, length)
    how, expected = detector.cleaning(), statistics(config)
    own: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        for images, numbers in feed(test_parts(clips, every, parts, config, rank, world, device), device):
            with autocast(config.train, device):
                outputs = net(normalise(images, device, expected))
            for number, (boxes, scores, offsets) in zip(numbers.tolist(), outputs, strict=True):
                # Many small operations, for which a GPU would be slower.
                own[number] = buffer_segments(boxes.cpu(), scores.softmax(1).cpu(), offsets.cpu(), length, how)
    gathered = _gathered(own, world)
    found = iter([gathered[number] for number in range(len(parts))])
    return [video_segments([next(found) for _ in buffers], buffers, fps, how) for buffers in cut]


def _by_scnn(
    net: SCNN, clips: Clips | ResidentClips, every: list[Video], config: TrialConfig, device: torch.device, rank: int,
    world: int, fps: float,
) -> list[np.ndarray]:  # fmt: skip
    detector = config.model.detector
    assert isinstance(detector, SCNNConfig)
    parts, cut = scnn_parts(every, detector, config.model.frames)
    expected = statistics(config)
    own: dict[int, tuple[float, np.ndarray]] = {}
    with torch.inference_mode():
        for images, numbers in feed(test_parts(clips, every, parts, config, rank, world, device), device):
            with autocast(config.train, device):
                pixels = normalise(images, device, expected)
                proposed = net.propose(pixels).softmax(1)[:, 1]
                chosen = torch.nonzero(proposed >= detector.threshold)[:, 0]
                classes = net.localise(pixels[chosen]).softmax(1) if len(chosen) else proposed.new_zeros(0, 1)
            rows = iter(classes.cpu().numpy())
            for number, score in zip(numbers.tolist(), proposed.tolist(), strict=True):
                own[number] = score, next(rows) if score >= detector.threshold else np.empty(0)
    scored, first, found = _gathered(own, world), 0, []
    prior = net.prior.cpu().numpy()
    for windows in cut:
        of_video = [scored[number] for number in range(first, first + len(windows.rows))]
        first += len(windows.rows)
        scores = np.array([score for score, _ in of_video])
        chosen = [row for score, row in of_video if score >= detector.threshold]
        classes = np.array(chosen).reshape(len(chosen), 1 + prior.shape[1])
        _, segments = window_segments(
            windows, scores, classes, prior, fps, detector.lengths, detector.threshold, _KEEPS_ALL
        )
        found.append(segments[segments[:, 3] > 0])
    return found


def _gathered(own: dict[int, Any], world: int) -> dict[int, Any]:
    """Return the entries of all workers."""
    if world == 1:
        return own
    parts: list[Any] = [None] * world
    dist.all_gather_object(parts, own)
    return {number: value for part in parts for number, value in part.items()}
