"""`vattn test`: the papers' test protocols, with many views of each video and several models averaged."""

import math
import re
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from search.report.live.progress import progress
from search.spec.validation import load_config
from vattn.config import TrialConfig
from vattn.data import open_clips, prepare
from vattn.data.cache import Clips
from vattn.data.config import ViewsConfig
from vattn.errors import UserError
from vattn.model import load_model
from vattn.train import default_device, judge, score


class Scored(NamedTuple):
    """Scores of one model on a split: names of the clips, log-probabilities (N, classes), labels (N)."""

    names: list[str]
    scores: Tensor
    target: Tensor


class _Model(NamedTuple):
    """A config, its file, and its weights."""

    file: Path
    trial: TrialConfig
    weights: Path


def run(arguments: Namespace) -> None:
    """Score the checkpoint of the command line."""
    score_files(arguments.config, arguments.checkpoint, arguments.set, arguments.views, arguments.fuse, arguments.out)


def score_files(
    path: Path, checkpoint: Path, sets: list[str], views: str | None, fuse: Sequence[str], out: Path | None
) -> None:
    """Score the checkpoint of a config on the test split, or on the validation split where there is no test split.

    ``fuse`` are further models, CONFIG=CHECKPOINT, such as one of optical flow. With ``split: all`` the checkpoints are
    output folders of trainings, whose three models are each scored on their own split; the means of their metrics are
    printed last. Raises UserError where the input is wrong.
    """
    streams = [(path, checkpoint)]
    for stream in fuse:
        config, equals, weights = stream.rpartition("=")
        if not equals:
            raise UserError("must be CONFIG=CHECKPOINT, such as flow.yaml=flow/model.pt", file=f"--fuse {stream}")
        streams.append((Path(config), Path(weights)))
    models = [
        _models(file, weights, sets if place == 0 else [], views) for place, (file, weights) in enumerate(streams)
    ]
    for (file, _), splits in zip(streams, models, strict=True):
        if len(splits) != len(models[0]):
            raise UserError(f"must be all or one number, as in {path}, to fuse with it", file=file, path="data.split")
    by_split: dict[str, list[dict[str, float]]] = defaultdict(list)
    for together in zip(*models, strict=True):
        prefix = f"split {together[0].trial.data.split}: " if len(models[0]) > 1 else ""
        for name, metrics in _score_together(together, out, prefix):
            by_split[name].append(metrics)
    if len(models[0]) > 1:
        for name, each in by_split.items():
            mean = {metric: fmean(metrics[metric] for metrics in each) for metric in each[0]}
            print(f"mean of {len(each)} splits: {name}: {_line(mean)}")


def _models(file: Path, weights: Path, sets: list[str], views: str | None) -> list[_Model]:
    """Return the model of a config; with ``split: all``, the model of each split."""
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
        raise UserError(
            "must be the output folder of a training with split: all, to test all of its splits",
            file=f"--checkpoint {weights}",
            way_out=f"there is no file {missing[0]}",
        )
    return models


def _score_together(models: Sequence[_Model], out: Path | None, prefix: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Score models on one split and print their metrics; yield those of each model, and of their fusion if several."""
    scored, clips = [], None
    for model in models:
        split = clips and clips.split
        clips = _clips(model.trial, out or Path("runs") / model.file.stem)
        if split and clips.split != split:
            raise UserError(f"has no {split} split to fuse with; its clips are of {clips.split}", file=model.file)
        scored.append(_score(model.trial, model.weights, clips))
        views, metrics = model.trial.data.views, judge(scored[-1].scores, scored[-1].target).metrics
        print(f"{prefix}{model.file}: {_line(metrics)}; {views.clips} x {views.crops} views")
        yield str(model.file), metrics
    if len(models) > 1:
        fusion = fused(scored)
        metrics = judge(fusion.scores, fusion.target).metrics
        print(f"{prefix}fused: {_line(metrics)}")
        yield "fused", metrics
    assert clips is not None
    print(f"{prefix}{len(clips)} clips of the {clips.split} split")


def parse_views(text: str) -> ViewsConfig:
    """Return the views that "10x3" asks for, clips x crops; raises UserError for a text of another form."""
    match = re.fullmatch(r"([1-9]\d?|100)x([13])", text)
    if match is None:
        rule = "must be clips x crops, 1 to 100 and 1 or 3, such as 10x3"
        raise UserError(rule, path="--views", found=text)
    return ViewsConfig.parse({"clips": int(match[1]), "crops": int(match[2])})


def fused(streams: Sequence[Scored]) -> Scored:
    """Return the mean of the models' softmax, clip by clip; raises UserError where their clips differ.

    Clips are matched by name without ending: one model may have read a video, and another the folder of its flow.
    """
    first, *others = streams
    scores = [first.scores]
    for stream in others:
        place = {name: i for i, name in enumerate(stream.names)}
        missing = [name for name in first.names if name not in place]
        if missing or len(stream.names) != len(first.names):
            example = f", such as {missing[0]}" if missing else ""
            raise UserError(
                f"all models must have the same clips; {len(missing)} of {len(first.names)} are missing from "
                f"the {len(stream.names)} of another{example}",
                path="--fuse",
            )
        order = torch.tensor([place[name] for name in first.names])
        if stream.scores.shape != first.scores.shape or not torch.equal(stream.target[order], first.target):
            raise UserError("all models must have the same classes; their configs name other data", path="--fuse")
        scores.append(stream.scores[order])
    return first._replace(scores=torch.stack(scores).logsumexp(0) - math.log(len(scores)))


def _clips(trial: TrialConfig, output: Path) -> Clips:
    cache = prepare(trial.data, output, progress)
    try:
        return open_clips(cache, "test")
    except UserError:
        return open_clips(cache, "val")  # many data sets do not publish the labels of their test split


def _score(trial: TrialConfig, checkpoint: Path, clips: Clips) -> Scored:
    device = default_device()
    net = load_model(trial.model, trial.data.num_classes(), checkpoint)
    batches = [(scores[:, 0].cpu(), target.cpu()) for scores, target in score(net.to(device), clips, trial, device)]
    names = [str(PurePosixPath(path).with_suffix("")) for path in clips.paths]
    scores, target = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return Scored(names, scores.log_softmax(1), target)


def _line(metrics: dict[str, float]) -> str:
    return (
        f"top-1 {metrics['top1']:.2%}  top-5 {metrics['top5']:.2%}  mean class {metrics['mean_class']:.2%}  "
        f"loss {metrics['loss']:.4f}"
    )
