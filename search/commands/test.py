"""`vattn test`: score checkpoints by the papers' protocols, averaged over views of a video and over models.

Averages are those of the softmax, or of the logits as the code of MARS takes them: N. Crasto, P. Weinzaepfel,
K. Alahari, C. Schmid: "MARS: Motion-Augmented RGB Stream for Action Recognition", CVPR 2019.
"""

import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, get_args

import torch
from pydantic import ValidationError
from torch import Tensor

from search.commands._resume import output_of
from search.commands._spec import checkpoint_of, config_file, data_overrides, parse_views
from search.report.clips.format import SUFFIX, write_test
from search.report.clips.pictures import draw_confusion
from search.report.clips.tables import class_table
from search.report.clips.tested import Tested
from search.report.live.progress import progress
from search.spec.messages import SpecError, problems
from search.spec.store import check_size, with_chosen_store
from search.spec.validation import read_config
from vattn.config import TrialConfig
from vattn.cost import gflops_video
from vattn.data import listed, open_clips
from vattn.data.cache import Clips
from vattn.data.dataset import Listed
from vattn.data.sampling import Order
from vattn.data.untrimmed import Metric
from vattn.detection.evaluation import THRESHOLDS
from vattn.errors import UserError
from vattn.files import replacing, write_whole, writing
from vattn.model import load_model_and_report
from vattn.training.device import default_device, set_up
from vattn.training.evaluation import Average, judge, score
from vattn.training.tasks.detecting import detect
from vattn.weights.statistics import recorded, statistics

#: classes with the lowest accuracy that are printed
_WORST = 5


class Scored(NamedTuple):
    """Scores of one model on a split: names of the N clips, scores (N, classes), labels (N).

    Scores are log-probabilities, or logits where these are averaged. ``parts`` are those of the branches of a model, or
    of the models of a fusion.
    """

    names: list[str]
    scores: Tensor
    target: Tensor
    parts: dict[str, Tensor] = {}  # noqa: RUF012  # a NamedTuple has no default factory


class _Model(NamedTuple):
    """A model to score: the file of its config, the config, and the file of its weights."""

    file: Path
    trial: TrialConfig
    weights: Path
    files: Listed | None = None
    """its clips, if they were listed to choose their store"""

    @property
    def name(self) -> str:
        """The name of its training."""
        return output_of(self.file).name


@dataclass(frozen=True)
class Asked:
    """What a test is asked for.

    Args:
        views: clips x crops of a video, such as 10x3; None: as in the config.
        split: the clips to score, ``test`` or ``val``.
        average: what is averaged over views and models, ``softmax`` or ``logits``; ``auto``: softmax over models, and
            over views what the protocol of the data config averages.
        frames: orders of the frames, each of which is a test.
        out: where results clip by clip are written: a folder, or a file ``NAME.parquet``; None: nowhere.
        cache: folder of the clip cache; None: as in the config.
        fuse: further models as CONFIG=CHECKPOINT, such as one of optical flow, whose scores are averaged with it.
        fuse_weights: the weight of each model in the average, the first model first; none: all are equal.
    """

    views: str | None = None
    split: str = "test"
    average: Average = "auto"
    frames: Sequence[Order] = ("normal",)
    out: Path | None = None
    cache: Path | None = None
    fuse: Sequence[str] = ()
    fuse_weights: Sequence[float] = field(default=())


def run(arguments: Namespace) -> None:
    """Score the checkpoint that the command line names."""
    asked = Asked(
        arguments.views, arguments.split, arguments.average, tuple(dict.fromkeys(arguments.frames)), arguments.out,
        arguments.cache, arguments.fuse, arguments.fuse_weights,
    )  # fmt: skip
    score_files(config_file(arguments.config), checkpoint_of(arguments), data_overrides(arguments), asked)


def score_files(path: Path, checkpoint: Path, sets: list[str], asked: Asked) -> None:
    """Print the metrics of a checkpoint on one split, and write its results clip by clip.

    With ``split: all`` in the config, a checkpoint is the output folder of a training. Each of its three models is
    scored on its own split, and the mean of each metric over the splits is printed last.

    Args:
        path: the config file.
        checkpoint: the weights.
        sets: changes of the config's values, as A.B=V.
        asked: what is asked for.

    Raises:
        UserError: the input is invalid, or the data have no such split.
        StorageError: results cannot be written.
    """
    fuse_weights = asked.fuse_weights
    if fuse_weights and (len(fuse_weights) != 1 + len(asked.fuse) or not sum(fuse_weights)):
        raise UserError(
            f"must be one number of 0 or more for each of the {1 + len(asked.fuse)} models, not all 0",
            path="--fuse-weights", way_out="the first is that of CONFIG, the others are those of --fuse, in order",
            found=" ".join(f"{weight:g}" for weight in fuse_weights),
        )  # fmt: skip
    streams = [(path, checkpoint)]
    for stream in asked.fuse:
        config, equals, weights = stream.rpartition("=")
        if not equals:
            raise UserError("must be CONFIG=CHECKPOINT, such as flow.yaml=flow/model.pt", file=f"--fuse {stream}")
        streams.append((Path(config), Path(weights)))
    models = [
        _models(file, weights, sets if index == 0 else [], asked) for index, (file, weights) in enumerate(streams)
    ]
    for (file, _), splits in zip(streams, models, strict=True):
        if len(splits) != len(models[0]):
            raise UserError(f"must be all or one number, as in {path}, to fuse with it", file=file, path="data.split")
    if any(splits[0].trial.task == "detection" for splits in models):
        _detect(models, asked)
        return
    by_split: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for split_models in zip(*models, strict=True):
        split = f"split {split_models[0].trial.data.split}: " if len(models[0]) > 1 else ""
        for order in asked.frames:
            frames = "" if order == "normal" else f"{order} frames: "
            for name, metrics in _score_together(split_models, asked, order, split + frames):
                by_split[frames, name].append(metrics)
    if len(models[0]) > 1:
        for (frames, name), per_split in by_split.items():
            mean = {metric: fmean(metrics[metric] for metrics in per_split) for metric in per_split[0]}
            print(f"{frames}mean of {len(per_split)} splits: {name}: {_format_metrics(mean)}")


def _models(file: Path, weights: Path, sets: list[str], asked: Asked) -> list[_Model]:
    """Return the model of a config file; with ``split: all``, the models of all splits."""
    trial, chooses_store, _ = read_config(file, sets)
    if asked.cache is not None:
        trial = trial.model_copy(update={"data": trial.data.model_copy(update={"cache": str(asked.cache)})})
    check_size(trial, file)
    files: list[Listed] = []
    if chooses_store:
        trial, files = with_chosen_store(trial, output_of(file), progress)
    if asked.views is not None:
        trial = _with_views(trial, asked.views, file)
    splits = trial.data.each_split()
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
    models: Sequence[_Model], asked: Asked, order: Order, prefix: str
) -> Iterator[tuple[str, dict[str, float]]]:
    """Print and yield the metrics of each model on one split, then those of their fusion if there are several."""
    scored: list[Scored] = []
    tested: list[Clips] = []
    for model in models:
        clips = _clips(model, output_of(model.file), asked.split)
        scored.append(_score(model.trial, model.weights, clips, asked.average, order))
        tested.append(clips)
        views, metrics = model.trial.data.views, judge(scored[-1].scores, scored[-1].target).metrics
        cost = gflops_video(model.trial.model, views, model.trial.data.num_classes())
        views_text = f"{views.clips} x {views.crops} views, {cost:.4g} GFLOPs a video"
        print(f"{prefix}{model.file}: {_format_metrics(metrics)}; {views_text}")
        yield str(model.file), metrics
    result, names = scored[0], [models[0].name]
    if len(models) > 1:
        result = fused(scored, asked.fuse_weights, asked.average)
        parts = zip(_distinct([model.name for model in models]), _matched(scored), strict=True)
        result = result._replace(parts=dict(parts))
        metrics = judge(result.scores, result.target).metrics
        print(f"{prefix}fused: {_format_metrics(metrics)}")
        yield "fused", metrics
        names = [*names, "fused"]
    print(f"{prefix}{len(tested[0])} clips of the {asked.split} split")
    if asked.out is not None:
        marks = [f"split{models[0].trial.data.split}"] if prefix.startswith("split ") else []
        file = _file(asked.out, "-".join(names), [*marks, *([] if order == "normal" else [order])])
        _write(_tested(file.stem, result, tested[0], models[0].trial, asked, order), file, prefix)


def _file(out: Path, name: str, marks: Sequence[str]) -> Path:
    """Return the file of a test's results in the folder ``out``, or by the name that ``out`` itself has."""
    folder, stem = (out.parent, out.stem) if out.suffix == SUFFIX else (out, name)
    return folder / ("-".join([stem, *marks]) + SUFFIX)


def _tested(name: str, scored: Scored, clips: Clips, trial: TrialConfig, asked: Asked, order: Order) -> Tested:
    views = trial.data.views
    return Tested(
        name=name,
        paths=clips.paths,
        labels=scored.target.numpy(),
        scores=scored.scores.double().numpy(),
        classes=tuple(trial.data.labels()),
        lengths=clips.lengths.astype(float),
        spans=clips.spans,
        parts={name: scores.double().numpy() for name, scores in scored.parts.items()},
        about={
            "cache": str(clips.cache.resolve()), "split": clips.split, "views": f"{views.clips}x{views.crops}",
            "frames": order, "scores": "logits" if asked.average == "logits" else "natural logarithms of probabilities",
        },
    )  # fmt: skip


def _write(test: Tested, file: Path, prefix: str) -> None:
    """Write a test as Parquet, its classes as CSV and its confusion as PNG; print the files and the worst classes."""
    table = class_table(test)
    classes, confusion = file.with_name(f"{file.stem}-classes.csv"), file.with_name(f"{file.stem}-confusion.png")
    write_test(test, file)
    with writing(classes, "make room, or name another place with --out"):
        write_whole(classes, table.csv())
        with replacing(confusion) as part:
            draw_confusion(test, part)
    worst = "; ".join(f"{row[0]} {row[3]}" for row in table.rows[:_WORST])
    print(f"{prefix}least accurate classes: {worst}")
    print(f"{prefix}clip by clip in {file}; by class in {classes} and {confusion}")


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names in which those that repeat earlier ones have a number."""
    return [name if name not in names[:n] else f"{name}{n + 1}" for n, name in enumerate(names)]


def _detect(models: Sequence[Sequence[_Model]], asked: Asked) -> None:
    """Print the average precisions of a detector by both rules, and write its segments as JSON."""
    if len(models) > 1 or asked.views is not None:
        raise UserError(
            "task detection has one model and one view of each part of a video",
            file=models[0][0].file, way_out="leave out --fuse and --views",
        )  # fmt: skip
    (model,) = models[0]
    folder, split = asked.out or output_of(model.file), asked.split
    clips, device = _clips(model, output_of(model.file), split), default_device()
    set_up(device, model.trial.train)
    trial = recorded(model.trial, model.weights)
    net, taken = load_model_and_report(trial.model, trial.data.num_classes(), model.weights)
    if taken.renamed or taken.left:
        print(f"{taken}; pixels: {statistics(trial)}", file=sys.stderr)
    detected = detect(net.to(device), clips, trial, device)
    rules = sorted(get_args(get_args(Metric)[0]), key=lambda rule: rule != detected.metric)
    for rule in rules:
        precisions = "  ".join(
            f"{threshold:g} {result.map[0]:.2%}"
            for threshold, result in zip(THRESHOLDS, detected.results(metric=rule), strict=True)
        )
        print(f"{model.file}: mAP by the rule {rule}, at IoU {precisions}")
    file = folder / f"detections_{split}.json"
    with writing(file, "make room, or name another place with --out"):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, detected.text(trial.data.labels()))
    print(
        f"recall of the 100 best segments of a video at IoU 0.5 {detected.recall:.2%}; "
        f"{len(clips)} videos of the {split} split; segments: {file}"
    )


def _with_views(trial: TrialConfig, text: str, file: Path) -> TrialConfig:
    """Return the config with other numbers of clips and crops; raise SpecError if its protocol does not define them."""
    tree = trial.tree()
    tree["data"]["views"] |= parse_views(text)
    try:
        return TrialConfig.parse(tree)
    except ValidationError as error:
        raise SpecError.of(file, problems(error, TrialConfig, tree)) from None


def fused(streams: Sequence[Scored], weights: Sequence[float] = (), average: Average = "auto") -> Scored:
    """Return the weighted mean over models of their softmax, or of their logits, for each clip (late fusion).

    Clips are matched by their names, which have no ending of a video: the input of one model may be a video, that of
    another the folder of its flow.

    Args:
        streams: the scores of the models.
        weights: the weight of each; none: all are equal.
        average: ``softmax`` or ``auto``: the result is the logarithm of the mean; ``logits``: the mean of the scores.

    Raises:
        UserError: the clips or classes of the models differ.
    """
    scores = _matched(streams)
    shares = torch.tensor(list(weights) or [1.0] * len(scores), dtype=torch.float64)
    shares = (shares / shares.sum()).view(-1, 1, 1)
    together = torch.stack(scores).double()
    mean = (together + shares.log()).logsumexp(0) if average != "logits" else (together * shares).sum(0)
    return streams[0]._replace(scores=mean.to(streams[0].scores.dtype))


def _matched(streams: Sequence[Scored]) -> list[Tensor]:
    """Return the scores of each model, with the clips in the order of the first one's; raise as `fused` does."""
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
    return scores


def _clips(model: _Model, output: Path, split: str) -> Clips:
    """Return the clips of a split; raise UserError if the data have no such split."""
    test = split == "test"
    files = replace(model.files, test=test) if model.files else listed(model.trial.data, output, progress, test)
    if split not in files.manifest["split"].unique().to_pylist():
        # Many data sets do not publish the labels of their test split.
        way_out = "give one, hold one out for the training with data.test_share, or score the validation split: "
        raise UserError(f"its data have no {split} split", file=model.file, way_out=f"{way_out}--split val")
    return open_clips(files.decode(progress), split)


def _score(trial: TrialConfig, checkpoint: Path, clips: Clips, average: Average, order: Order) -> Scored:
    device = default_device()
    set_up(device, trial.train)
    trial = recorded(trial, checkpoint)
    net, taken = load_model_and_report(trial.model, trial.data.num_classes(), checkpoint)
    if taken.renamed or taken.left:
        print(f"{taken}; pixels: {statistics(trial)}", file=sys.stderr)
    batches = [
        (scores.cpu(), target.cpu())
        for scores, target in score(net.to(device), clips, trial, device, average=average, order=order)
    ]
    scores, target = (torch.cat(parts) for parts in zip(*batches, strict=True))
    scores = scores if average == "logits" else scores.log_softmax(-1)
    return Scored(clips.names, scores[:, 0], target, dict(zip(net.branches, scores[:, 1:].unbind(1), strict=True)))


def _format_metrics(metrics: dict[str, float]) -> str:
    return (
        f"top-1 {metrics['top1']:.2%}  top-5 {metrics['top5']:.2%}  mean class {metrics['mean_class']:.2%}  "
        f"loss {metrics['loss']:.4f}"
    )
