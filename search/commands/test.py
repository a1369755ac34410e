"""`vattn test`: the papers' protocols. Many views of each video, and several models whose scores are averaged."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from search.spec.validation import load_config
from vattn.config import TrialConfig
from vattn.data import open_clips, prepare
from vattn.data._base import ViewsConfig
from vattn.data.cache import Clips
from vattn.model import load_model
from vattn.train import default_device, judge, score


class Scored(NamedTuple):
    """What one model makes of a split: names of the clips, log-probabilities (N, classes), labels (N)."""

    names: list[str]
    scores: Tensor
    target: Tensor


def score_files(
    path: Path, checkpoint: Path, sets: list[str], views: str | None, fuse: Sequence[str], out: Path | None
) -> None:
    """Score the checkpoint of a config on the test split, or on the validation split where there is no other.

    ``fuse`` are other models, CONFIG=CHECKPOINT, such as one of flow. With ``split: all`` checkpoints are the output
    folders of trainings, whose three models are scored each on its own split; then the means of their metrics are told.
    Raises ValueError where the input is wrong.
    """
    streams = [(path, checkpoint)]
    for other in fuse:
        config, equals, weights = other.rpartition("=")
        if not equals:
            raise ValueError(f"--fuse {other}: must be CONFIG=CHECKPOINT, such as flow.yaml=flow/model.pt")
        streams.append((Path(config), Path(weights)))
    models = [
        _models(file, weights, sets if place == 0 else [], views) for place, (file, weights) in enumerate(streams)
    ]
    for (file, _), each in zip(streams, models, strict=True):
        if len(each) != len(models[0]):
            raise ValueError(f"{file}: data.split: must be all or one number, as in {path}, to fuse with it")
    told: dict[str, list[dict[str, float]]] = defaultdict(list)
    for together in zip(*models, strict=True):
        number = f"split {together[0].trial.data.split}: " if len(models[0]) > 1 else ""
        for name, metrics in _score_together(together, out, number):
            told[name].append(metrics)
    if len(models[0]) > 1:
        for name, each in told.items():
            mean = {metric: fmean(metrics[metric] for metrics in each) for metric in each[0]}
            print(f"mean of {len(each)} splits: {name}: {_told(mean)}")


class _Model(NamedTuple):
    """A config, where it stands, and its weights."""

    file: Path
    trial: TrialConfig
    weights: Path


def _models(file: Path, weights: Path, sets: list[str], views: str | None) -> list[_Model]:
    """Return the model of a config, or with ``split: all`` that of each split."""
    trial = load_config(file, sets)
    data = trial.data if views is None else trial.data.model_copy(update={"views": parse_views(views)})
    splits = data.each_split()
    models = [
        _Model(
            file,
            trial.model_copy(update={"data": split}),
            weights if len(splits) == 1 else weights / f"split{split.split}" / "model.pt",
        )
        for split in splits
    ]
    if missing := [model.weights for model in models if len(models) > 1 and not model.weights.is_file()]:
        raise ValueError(
            f"--checkpoint {weights}: must be the output folder of a training with split: all, to test all of its "
            f"splits; there is no file {missing[0]}"
        )
    return models


def _score_together(models: Sequence[_Model], out: Path | None, number: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Score models on one split and tell it; yield the metrics of each, and of their mean if they are several."""
    scored, clips = [], None
    for model in models:
        split = clips and clips.split
        clips = _clips(model.trial, out or Path("runs") / model.file.stem)
        if split and clips.split != split:
            raise ValueError(f"{model.file}: has no {split} split to fuse with; its clips are of {clips.split}")
        scored.append(_score(model.trial, model.weights, clips))
        views, metrics = model.trial.data.views, judge(scored[-1].scores, scored[-1].target).metrics
        print(f"{number}{model.file}: {_told(metrics)}; {views.clips} x {views.crops} views")
        yield str(model.file), metrics
    if len(models) > 1:
        both = fused(scored)
        metrics = judge(both.scores, both.target).metrics
        print(f"{number}fused: {_told(metrics)}")
        yield "fused", metrics
    assert clips is not None
    print(f"{number}{len(clips)} clips of the {clips.split} split")


def parse_views(text: str) -> ViewsConfig:
    """Return the views that "10x3" asks for: clips x crops; raises ValueError where it is no such thing."""
    match = re.fullmatch(r"([1-9]\d?|100)x([13])", text)
    if match is None:
        raise ValueError(f"--views: must be clips x crops, 1 to 100 and 1 or 3, such as 10x3 (got {text})")
    return ViewsConfig.parse({"clips": int(match[1]), "crops": int(match[2])})


def fused(streams: Sequence[Scored]) -> Scored:
    """Return the mean of the models' softmax, clip by clip; raises ValueError where they did not see the same clips.

    A clip's name has no ending: one model may have seen a video, and another the folder of its flow.
    """
    first, *others = streams
    scores = [first.scores]
    for other in others:
        place = {name: i for i, name in enumerate(other.names)}
        missing = [name for name in first.names if name not in place]
        if missing or len(other.names) != len(first.names):
            example = f", such as {missing[0]}" if missing else ""
            raise ValueError(
                f"--fuse: all models must have the same clips; {len(missing)} of {len(first.names)} are missing from "
                f"the {len(other.names)} of another{example}"
            )
        order = torch.tensor([place[name] for name in first.names])
        if other.scores.shape != first.scores.shape or not torch.equal(other.target[order], first.target):
            raise ValueError("--fuse: all models must have the same classes; their configs name other data")
        scores.append(other.scores[order])
    return first._replace(scores=torch.stack(scores).logsumexp(0) - math.log(len(scores)))


def _clips(trial: TrialConfig, output: Path) -> Clips:
    from search.report.progress import progress

    cache = prepare(trial.data, output, progress)
    try:
        return open_clips(cache, "test")
    except ValueError:
        return open_clips(cache, "val")  # of many sets the labels of the test split are not published


def _score(trial: TrialConfig, checkpoint: Path, clips: Clips) -> Scored:
    device = default_device()
    net = load_model(trial.model, trial.data.num_classes(), checkpoint)
    batches = [(scores[:, 0].cpu(), target.cpu()) for scores, target in score(net.to(device), clips, trial, device)]
    names = [str(PurePosixPath(path).with_suffix("")) for path in clips.paths]
    scores, target = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return Scored(names, scores.log_softmax(1), target)


def _told(metrics: dict[str, float]) -> str:
    return (
        f"top-1 {metrics['top1']:.2%}  top-5 {metrics['top5']:.2%}  mean class {metrics['mean_class']:.2%}  "
        f"loss {metrics['loss']:.4f}"
    )
