"""Show what a detector finds in one video: a time line, a video with its segments, and JSON.

The time line is that of Figure 6 of Li, Liu, Zhang, Zhang, Song and Sebe, "Spatio-Temporal Attention Networks for
Action Recognition and Detection", IEEE Transactions on Multimedia, 2020: the truth, the segments of each model, and
below them the weights of frames by the last STA.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from vattn.config import DataConfig, TrialConfig
from vattn.data.layouts.motion import GeneratedDataConfig
from vattn.data.motion import encode
from vattn.data.untrimmed import EMPTY, Annotation
from vattn.detection.config import SCNNConfig
from vattn.detection.samples import Part
from vattn.detection.videos import Video
from vattn.explain.figures import WAY_OUT, save
from vattn.files import at_home, replacing, write_whole, writing
from vattn.modules.sta import STA
from vattn.trained import Trained
from vattn.trained.detector import read_untrimmed
from vattn.training.batches.sources import ResidentClips
from vattn.training.tasks.detecting import Detected, detect, parts_of

#: Segments are shown whose score is at least this share of the best one's.
SHOWN_SHARE = 0.5
#: Rows of pixels of the bar of a class below a video.
_BAR = 4
_COLOURS = np.array(
    [
        (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66),
        (150, 150, 150),
    ]
)  # fmt: skip


class Watched(NamedTuple):
    """What one detector says about one video."""

    detected: Detected
    weights: Float64[np.ndarray, " frames"] | None
    """mean weight of each frame by the last STA; None without one"""

    @property
    def confident(self) -> Float64[np.ndarray, "_ 4"]:
        """The segments that are shown, by decreasing score."""
        found = self.detected.segments(0)
        return found[found[:, 3] >= SHOWN_SHARE * found[:, 3].max()] if len(found) else found

    @property
    def video(self) -> Video:
        """The video."""
        return self.detected.videos[0]


def watch(model: Trained, file: Path, annotation: Annotation = EMPTY) -> tuple[Watched, np.ndarray]:
    """Return what a detector finds in a video file, and the frames that it was read from.

    Raises:
        UserError: the video cannot be read.
    """
    config, net, _ = model
    device = next(net.parameters()).device
    video, frames = read_untrimmed(config, file, annotation)
    clips = ResidentClips.of_video(frames, device)
    has_sta = any(isinstance(module, STA) for module in net.backbone.modules())
    with _frame_weights(net.backbone) as kept:
        detected = detect(net, clips, config, device, every=[video])
        if has_sta and isinstance(config.model.detector, SCNNConfig):
            kept.clear()
            detect(net, clips, _of_all_windows(config), device, every=[video])
    return Watched(detected, _averaged(kept, parts_of(config, [video]), video.frames) if kept else None), frames


def _of_all_windows(config: TrialConfig) -> TrialConfig:
    """Return the config with which Segment-CNN classifies all windows, so that STA sees them."""
    detector = config.model.detector
    assert isinstance(detector, SCNNConfig)
    model = config.model.model_copy(update={"detector": detector.model_copy(update={"threshold": 0.0})})
    return config.model_copy(update={"model": model})


@contextmanager
def _frame_weights(backbone: torch.nn.Module) -> Iterator[list[Tensor]]:
    """Keep the weights of frames (N, T) that the last STA gives to each batch, averaged over channels."""
    last = [module for module in backbone.modules() if isinstance(module, STA)][-1:]
    kept: list[Tensor] = []

    def keep(module: STA, inputs: tuple[Tensor], output: Tensor) -> None:
        kept.append(module.weigh(inputs[0]).mean(1).expand(-1, inputs[0].shape[2]))

    handles = [module.register_forward_hook(keep) for module in last]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _averaged(kept: list[Tensor], parts: Sequence[Part], frames: int) -> Float64[np.ndarray, " frames"]:
    """Return the mean over parts of the weight of each frame; NaN where no part is."""
    rows = torch.cat(kept).double().cpu().numpy()
    total, count = np.zeros(frames), np.zeros(frames)
    for row, part in zip(rows, parts, strict=True):
        place = np.arange(len(part.frames)) * len(row) // len(part.frames)
        inside = part.frames < frames
        np.add.at(total, part.frames[inside], row[place[inside]])
        np.add.at(count, part.frames[inside], 1)
    return np.divide(total, count, out=np.full(frames, np.nan), where=count > 0)


def draw_timeline(watched: Mapping[str, Watched], labels: Sequence[str], fps: float) -> Figure:
    """Draw the truth, the segments of each model, and the weights of frames of those with STA.

    All models have seen the same video. Segments are those of `Watched.confident`; their opacity is their score.
    """
    first = next(iter(watched.values()))
    truth = first.video.annotation.instances
    rows = [("truth", np.column_stack([truth[:, 2] + 1, truth[:, :2], np.ones(len(truth))]))] if len(truth) else []
    rows += [(name, one.confident) for name, one in watched.items()]
    curves = {name: one.weights for name, one in watched.items() if one.weights is not None}
    heights = [0.5 + 0.45 * len(rows), *([1.2] * len(curves))]
    figure = Figure(figsize=(11, 1 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    top = panels[0]
    for place, (_, segments) in enumerate(rows):
        for label, start, end, score in segments[::-1].tolist():
            colour = _COLOURS[(round(label) - 1) % len(_COLOURS)] / 255
            top.barh(-place, end - start, 0.8, start, color=(*colour, 0.15 + 0.85 * min(score, 1.0)))
    top.set_yticks([-place for place in range(len(rows))], [name for name, _ in rows])
    present = sorted({round(row[0]) for _, segments in rows for row in segments.tolist()})
    top.legend(
        handles=[Patch(color=tuple(_COLOURS[(n - 1) % len(_COLOURS)] / 255), label=labels[n - 1]) for n in present],
        loc="upper left", bbox_to_anchor=(1, 1), fontsize=8,
    )  # fmt: skip
    for panel, (name, weights) in zip(panels[1:], curves.items(), strict=True):
        panel.plot(np.arange(len(weights)) / fps, weights, color="#0072B2")
        panel.set_ylabel(f"{name}\nweight", fontsize=8)
    panels[-1].set_xlabel("seconds")
    panels[-1].set_xlim(0, first.video.frames / fps)
    return figure


def with_bars(frames: np.ndarray, watched: Watched, fps: float) -> np.ndarray:
    """Return frames (T, H, W, 3), ``fps`` a second, with bars below: the truth, if it is known, and the best segment.

    A bar has the colour of the class at the time of the frame, of the best segment there; black is background.
    """
    times = np.arange(len(frames)) / fps
    truth = watched.video.annotation.instances
    rows = [truth[:, [2, 0, 1]] + (1, 0, 0)] if len(truth) else []
    rows.append(watched.confident[:, :3])
    height, width = frames.shape[1:3]
    out = np.zeros((len(frames), height + 2 * _BAR * len(rows), width, 3), np.uint8)
    out[:, :height] = frames
    for place, segments in enumerate(rows):
        for label, start, end in segments[::-1].tolist():
            inside = (times >= start) & (times < end)
            top = height + 2 * _BAR * place + _BAR // 2
            out[inside, top : top + _BAR] = _COLOURS[(round(label) - 1) % len(_COLOURS)]
    return out


def known_actions(data: DataConfig, file: Path) -> Annotation:
    """Return the actions of a video file, if it is one of the data set; otherwise none."""
    parts = file.absolute().parts
    if data.root != "auto":
        root = at_home(data.root).absolute()
        path = str(file.absolute().relative_to(root)) if file.absolute().is_relative_to(root) else ""
    else:
        planned = data.planned() if isinstance(data, GeneratedDataConfig) else ()
        path = next((each.path for each in planned if each.path == "/".join(parts[-2:])), "")
    return data.annotations([path])[path] if path else EMPTY


def explain_detection(model: Trained, file: Path, out: Path) -> list[Path]:
    """Write ``timeline.png``, ``segments.mp4`` and ``detections.json`` of a video; return the files.

    The pictures show the truth too where the video is one of the data set.

    Raises:
        UserError: the video cannot be read.
        StorageError: a file cannot be written.
    """
    return draw_watched(model, *watch(model, file, known_actions(model.config.data, file)), out)


def draw_watched(model: Trained, watched: Watched, frames: np.ndarray, out: Path) -> list[Path]:
    """Write the files of `explain_detection` for what `watch` returned."""
    detector = model.config.model.detector
    assert detector != "none"
    labels, fps = model.labels, model.config.data.detection[0]
    files = [out / name for name in ("timeline.png", "segments.mp4", "detections.json")]
    shown = frames[watched.video.stored_frames(np.arange(watched.video.frames))]
    barred = with_bars(shown, watched, fps)
    even = barred[:, : barred.shape[1] // 2 * 2, : barred.shape[2] // 2 * 2]
    with writing(out, WAY_OUT):
        out.mkdir(parents=True, exist_ok=True)
        save(draw_timeline({detector.kind: watched}, labels, fps), files[0])
        with replacing(files[1]) as part:
            encode(part, even, fps)
        write_whole(files[2], watched.detected.text(labels))
    return files
