"""`vattn test`: score checkpoints by the papers' protocols, averaged over views of a video and over models."""

import math
import re
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from search.report.live.progress import progress
from search.spec.store import check_size, with_chosen_store
from search.spec.validation import read_config
from vattn.config import TrialConfig
from vattn.data import listed, open_clips
from vattn.data.cache import Clips
from vattn.data.config import ViewsConfig
from vattn.data.dataset import Listed
from vattn.errors import UserError
from vattn.model import load_model
from vattn.training.device import default_device, set_up
from vattn.training.evaluation import judge, score


class Scored(NamedTuple):
    """Scores of one model on a split: names of the N clips, log-probabilities (N, classes), labels (N)."""

    names: list[str]
    scores: Tensor
    target: Tensor


class _Model(NamedTuple):
    """A model to score: the file of its config, the config, and the file of its weights."""

    file: Path
    trial: TrialConfig
    weights: Path
    files: Listed | None = None
    """its clips, if they were listed to choose their store"""


def run(arguments: Namespace) -> None:
    """Score the checkpoint that the command line names."""
    score_files(
        arguments.config, arguments.checkpoint, arguments.set, arguments.views, arguments.fuse, arguments.out,
        arguments.split,
    )  # fmt: skip


def score_files(
    path: Path, checkpoint: Path, sets: list[str], views: str | None, fuse: Sequence[str], out: Path | None,
    split: str = "test",
) -> None:  # fmt: skip
    """Print the metrics of a checkpoint on one split.

    With ``split: all`` in the config, a checkpoint is the output folder of a training. Each of its three models is
    scored on its own split, and the mean of each metric over the splits is printed last.

    Args:
        path: the config file.
        checkpoint: the weights.
        sets: changes of the config's values, as A.B=V.
        views: clips x crops of a video, such as 10x3; None: as in the config.
        fuse: further models as CONFIG=CHECKPOINT, such as one of optical flow, whose softmax is averaged with it.
        out: folder of the clip cache; None: runs/<name of the config file>.
        split: the clips to score, ``test`` or ``val``.

    Raises:
        UserError: the input is invalid, or the data have no such split.
    """
    streams = [(path, checkpoint)]
    for stream in fuse:
        config, equals, weights = stream.rpartition("=")
        if not equals:
            raise UserError("must be CONFIG=CHECKPOINT, such as flow.yaml=flow/model.pt", file=f"--fuse {stream}")
        streams.append((Path(config), Path(weights)))
    models = [
        _models(file, weights, sets if index == 0 else [], views, out) for index, (file, weights) in enumerate(streams)
    ]
    for (file, _), splits in zip(streams, models, strict=True):
        if len(splits) != len(models[0]):
            raise UserError(f"must be all or one number, as in {path}, to fuse with it", file=file, path="data.split")
    by_split: dict[str, list[dict[str, float]]] = defaultdict(list)
    for split_models in zip(*models, strict=True):
        prefix = f"split {split_models[0].trial.data.split}: " if len(models[0]) > 1 else ""
        for name, metrics in _score_together(split_models, out, prefix, split):
            by_split[name].append(metrics)
    if len(models[0]) > 1:
        for name, per_split in by_split.items():
            mean = {metric: fmean(metrics[metric] for metrics in per_split) for metric in per_split[0]}
            print(f"mean of {len(per_split)} splits: {name}: {_format_metrics(mean)}")


def _models(file: Path, weights: Path, sets: list[str], views: str | None, out: Path | None) -> list[_Model]:
    """Return the model of a config file; with ``split: all``, the models of all splits."""
    trial, chooses_store = read_config(file, sets)
    check_size(trial, file)
    files: list[Listed] = []
    if chooses_store:
        trial, files = with_chosen_store(trial, out or Path("runs") / file.stem, progress)
    data = trial.data if views is None else trial.data.model_copy(update={"views": parse_views(views)})
    splits = data.each_split()
    models = [
        _Model(
            file,
            trial.model_copy(update={"data": split}),
            weights if len(splits) == 1 else weights / f"split{split.split}" / "model.pt",
            files[number] if files else None,
        )
        for number, split in enumerate(splits)
    ]
    if missing := [model.weights for model in models if len(models) > 1 and not model.weights.is_file()]:
        raise UserError(
            "must be the output folder of a training with split: all, to test all of its splits",
            file=f"--checkpoint {weights}",
            way_out=f"there is no file {missing[0]}",
        )
    return models


def _score_together(
    models: Sequence[_Model], out: Path | None, prefix: str, split: str
) -> Iterator[tuple[str, dict[str, float]]]:
    """Print and yield the metrics of each model on one split, then those of their fusion if there are several."""
    scored, clips = [], None
    for model in models:
        clips = _clips(model, out or Path("runs") / model.file.stem, split)
        scored.append(_score(model.trial, model.weights, clips))
        views, metrics = model.trial.data.views, judge(scored[-1].scores, scored[-1].target).metrics
        print(f"{prefix}{model.file}: {_format_metrics(metrics)}; {views.clips} x {views.crops} views")
        yield str(model.file), metrics
    if len(models) > 1:
        fusion = fused(scored)
        metrics = judge(fusion.scores, fusion.target).metrics
        print(f"{prefix}fused: {_format_metrics(metrics)}")
        yield "fused", metrics
    assert clips is not None
    print(f"{prefix}{len(clips)} clips of the {clips.split} split")


def parse_views(text: str) -> ViewsConfig:
    """Return the views that a text such as "10x3", clips x crops, asks for; raise UserError if it has another form."""
    match = re.fullmatch(r"([1-9]\d?|100)x([13])", text)
    if match is None:
        rule = "must be clips x crops, 1 to 100 and 1 or 3, such as 10x3"
        raise UserError(rule, path="--views", found=text)
    return ViewsConfig.parse({"clips": int(match[1]), "crops": int(match[2])})


def fused(streams: Sequence[Scored]) -> Scored:
    """Return the mean over models of their softmax, for each clip (late fusion).

    Clips are matched by their names, which have no file ending: the input of one model may be a video, that of another
    the folder of its flow.

    Raises:
        UserError: the clips or classes of the models differ.
    """
    first, *further = streams
    scores = [first.scores]
    for stream in further:
        index_of = {name: i for i, name in enumerate(stream.names)}
        missing = [name for name in first.names if name not in index_of]
        if missing or len(stream.names) != len(first.names):
            example = f", such as {missing[0]}" if missing else ""
            raise UserError(
                f"all models must have the same clips; {len(missing)} of {len(first.names)} are missing from "
                f"the {len(stream.names)} of another{example}",
                path="--fuse",
            )
        order = torch.tensor([index_of[name] for name in first.names])
        if stream.scores.shape != first.scores.shape or not torch.equal(stream.target[order], first.target):
            raise UserError("all models must have the same classes; their configs name different data", path="--fuse")
        scores.append(stream.scores[order])
    return first._replace(scores=torch.stack(scores).logsumexp(0) - math.log(len(scores)))


def _clips(model: _Model, output: Path, split: str) -> Clips:
    """Return the clips of a split; raise UserError if the data have no such split."""
    test = split == "test"
    files = replace(model.files, test=test) if model.files else listed(model.trial.data, output, progress, test)
    if split not in files.manifest["split"].unique().to_pylist():
        # Many data sets do not publish the labels of their test split.
        way_out = "give one, hold one out for the training with data.test_share, or score the validation split: "
        raise UserError(f"its data have no {split} split", file=model.file, way_out=f"{way_out}--split val")
    return open_clips(files.decode(progress), split)


def _score(trial: TrialConfig, checkpoint: Path, clips: Clips) -> Scored:
    device = default_device()
    set_up(device, trial.train)
    net = load_model(trial.model, trial.data.num_classes(), checkpoint)
    batches = [(scores[:, 0].cpu(), target.cpu()) for scores, target in score(net.to(device), clips, trial, device)]
    names = [str(PurePosixPath(path).with_suffix("")) for path in clips.paths]
    scores, target = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return Scored(names, scores.log_softmax(1), target)


def _format_metrics(metrics: dict[str, float]) -> str:
    return (
        f"top-1 {metrics['top1']:.2%}  top-5 {metrics['top5']:.2%}  mean class {metrics['mean_class']:.2%}  "
        f"loss {metrics['loss']:.4f}"
    )
