"""`vattn train`: train one config at full length on one or more workers, and log it to MLflow."""

import json
import shlex
import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import Any

from cluster.address import resolve
from cluster.failures import TrainingError
from cluster.placement import Resources, counted, gpu_problem, node_resources
from search.commands._model_files import write_model_files
from search.commands._origin import Origin, comments_of, origin_of
from search.commands._resume import CONFIG, Resume, output_of
from search.commands._spec import config_file, data_overrides
from search.commands._versions import versions
from search.report.live.progress import progress
from search.report.wording.program import program
from search.report.wording.values import format_duration
from search.spec.exported import Exported, other_data, other_versions, read_exported, refuse_differences
from search.spec.store import check_size, with_chosen_store
from search.spec.validation import read_config
from vattn.config import TrialConfig
from vattn.data import listed
from vattn.data.dataset import Listed, decode
from vattn.data.fingerprint import fingerprint
from vattn.errors import UserError
from vattn.files import write_whole, writing
from vattn.trained.file import FILE, is_model
from vattn.training.batches.loader import step_sizes
from vattn.training.best import best, rate
from vattn.training.checkpoint import Epoch, exists, finished
from vattn.training.distill import load_teacher, shares_clips, teacher_cache
from vattn.training.start import start_and_report
from vattn.training.state_file import WAY_OUT
from vattn.weights import read_checkpoint
from vattn.weights.families import recognise
from vattn.weights.files import refuse_other_files
from vattn.weights.statistics import statistics

#: the metric of the best epoch, in words
RATE_NAMES = {"top1": "top-1", "map": "mAP"}


def run(arguments: Namespace) -> int:
    """Train the config that the command line names; return the exit status."""
    try:
        train_file(
            config_file(arguments.config), data_overrides(arguments), arguments.out, arguments.resume,
            arguments.tracking, arguments.address, arguments.workers, arguments.cpus, arguments.gpus, arguments.force,
        )  # fmt: skip
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def train_file(
    path: Path, sets: list[str], output: Path | None, resume: bool, tracking: str, address: str | None,
    workers: tuple[int, int], cpus: int, gpus: float, force: bool = False,
) -> None:  # fmt: skip
    """Train the config in a file and print its metrics after each epoch, with the time that is left.

    The output folder gets ``config.yaml``, ``checkpoint.pt``, ``metrics.json`` and two state dicts: ``model.pt`` of the
    last epoch and ``best.pt`` of the best one (`vattn.training.best`). Beside these are ``model.safetensors`` and
    ``best.safetensors``, which stand on their own (`vattn.trained`). ``metrics.json`` has the metrics after the last
    epoch, and those of the best one under ``best``. With ``split: all`` one model is trained for each split, one after
    another, in the folders ``splitN``; ``metrics.json`` then has the means over the splits.

    Args:
        path: the config file.
        sets: changes of its values, as A.B=V.
        output: the output folder; None: `search.commands._resume.output_of`.
        resume: whether to continue the training in the output folder. A training that is continued may get another
            ``train.epochs``, greater than the number of finished epochs.
        tracking: URI of the MLflow store; ``auto``: SQLite in the output folder.
        address: Ray cluster to train on, see `cluster.connect.connected`.
        workers: fewest and most workers, which share each batch; where they differ, the number follows the cluster.
        cpus: CPUs of a worker.
        gpus: GPUs of a worker.
        force: train although data or code are others than those with which the config was exported.

    Raises:
        UserError: the input is invalid, the folder holds a training already and ``resume`` is false, or data or code
            are others than those with which the config was exported.
        TrainingError: the training failed.
    """
    if is_model(path):
        raise UserError(
            "is a trained model, and its file does not have all that a training needs", file=path,
            way_out="train a config; to go on from these weights, add --set train.init=FILE",
        )  # fmt: skip
    config, chooses_store, chooses_statistics = read_config(path, sets)
    # A training that goes on began with what is there.
    exported = None if resume or force else read_exported(path)
    least, most = workers
    _check(config, path, least)
    _check_gpus(most, gpus)
    if gpus and config.train.amp == "none":
        print("float32 on GPUs: products with TF32; train.amp: bf16 is faster", file=sys.stderr)
    resolve(address).probe()
    # Paths are absolute: workers have other working directories.
    shown, files = output or output_of(path), None
    output = shown.resolve()
    splits = config.data.each_split()
    folders = [output / f"split{data.split}" for data in splits] if len(splits) > 1 else [output]
    if not resume and any(exists(folder) for folder in folders):
        way_out = "go on with --resume, or name another folder with --out"
        raise UserError("holds a training already", file=shown, way_out=way_out)
    if resume and not any(exists(folder) for folder in folders):
        print(f"{shown}: there is no training to resume; it begins", file=sys.stderr)
    if chooses_store:
        config, files = with_chosen_store(config, output, progress, test=False)
        splits = config.data.each_split()
    split_configs = [config.model_copy(update={"data": data}) for data in splits]
    resumed = Resume(path, split_configs, folders, output)
    files = files or [listed(data, output, progress, test=False) for data in splits]
    if exported:
        differing = other_versions(exported.versions, versions())
        refuse_differences(path, [*differing, *_other_data(exported, files[0])])
    for clips in files:
        _check_clips(config, clips, path, least)
    caches = [cache.resolve() for cache in decode(files, progress)]
    if exported:
        refuse_differences(path, _other_data(exported, files[0], caches[0]))
    for split_config, cache in zip(split_configs, caches, strict=True):
        if not shares_clips(split_config):
            teacher_cache(split_config, cache, progress)
    output.mkdir(parents=True, exist_ok=True)
    resumed.apply()
    written = path.read_text(encoding="utf-8")
    if sets or chooses_store or chooses_statistics or force:
        written = comments_of(written) + json.dumps(config.tree(), indent=2)
    with writing(output / CONFIG, WAY_OUT):
        write_whole(output / CONFIG, written)
    try:
        origin = origin_of(written)
        resources = Resources(workers=least, most=most if most > least else 0, cpus=cpus, gpus=gpus)
        done = _train(split_configs, caches, folders, tracking, output, address, resources, origin)
    except KeyboardInterrupt:
        number = f"{least}" if least == most else f"{least}-{most}"
        given = {
            "--workers": (number, "1"), "--cpus": (cpus, 1), "--gpus": (gpus, 0), "--address": (address, None),
            "--tracking": (tracking, "auto"),
        }  # fmt: skip
        options = [word for name, (value, usual) in given.items() if value != usual for word in (name, f"{value}")]
        print(f"go on with: {_command('train', shown, '--resume', *options)}", file=sys.stderr)
        raise
    for split_config, folder, epochs, clips in zip(split_configs, folders, done, files, strict=True):
        write_model_files(folder, split_config, epochs, clips.summary().totals)
    metrics = _metrics(done)
    with writing(output / "metrics.json", WAY_OUT):
        write_whole(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    where, last = (
        ("/split*", ", mean of the validation splits") if len(splits) > 1 else ("", " on the validation split")
    )
    at_best, name = metrics["best"], rate(metrics)
    numbers = ", ".join(map(str, at_best["epoch"]))
    print(
        f"{RATE_NAMES[name]} {metrics[name]:.2%}{last}; the weights are in {shown}{where}/model.pt\n"
        f"{RATE_NAMES[name]} {at_best[name]:.2%} after the best epoch, {numbers} of {config.train.epochs}: "
        f"{shown}{where}/best.pt"
    )
    split = [] if "test" in files[0].manifest["split"].unique().to_pylist() else ["--split", "val"]
    weights = shown if len(splits) > 1 else shown / "model.pt"
    if len(splits) == 1:
        print(f"it stands on its own: {program()} {shlex.join(['predict', str(shown / FILE), 'VIDEO'])}")
    print(f"next: {_command('test', shown, '--checkpoint', str(weights), *split)}")


def _other_data(exported: Exported, files: Listed, cache: Path | None = None) -> list[str]:
    """Return in what the data differ from those of an exported config; nothing if these are not known."""
    if not exported.data:
        return []
    here = fingerprint(files.manifest, files.data.labels(), cache)
    return other_data(exported.data, here, ("train", "val"))


def _command(name: str, output: Path, *options: str) -> str:
    """Return a command on the config in an output folder."""
    where = [] if name == "test" or output_of(output / CONFIG) == output else ["--out", str(output)]
    return f"{program()} {shlex.join([name, str(output / CONFIG), *options, *where])}"


def _metrics(done: list[list[Epoch]]) -> dict[str, Any]:
    """Return the means over trainings of the metrics after the last epoch, and, as ``best``, after the best one.

    ``best`` also has the number of the best epoch of each training. If a training was lengthened, ``lengths`` are the
    numbers of epochs for which its learning rates were, in order.
    """

    def mean(epochs: list[Epoch]) -> dict[str, Any]:
        return {name: fmean(epoch.metrics[name] for epoch in epochs) for name in epochs[0].metrics}

    bests = [best(epochs) for epochs in done]
    lengths = list(dict.fromkeys(epoch.length for epochs in done for epoch in epochs if epoch.length))
    return (
        mean([epochs[-1] for epochs in done])
        | {"best": {"epoch": [epoch.number for epoch in bests]} | mean(bests)}
        | ({"lengths": lengths} if len(lengths) > 1 else {})
    )


def _check(config: TrialConfig, path: Path, workers: int) -> None:
    """Raise UserError if the batch cannot be shared, crops are larger than frames, or weights do not fit."""
    check_size(config, path)
    if config.train.batch % workers:
        rule = f"must be divisible by the {workers} workers, who share it"
        raise UserError(rule, file=path, path="train.batch", found=config.train.batch)
    if rule := config.train.uneven_parts(workers):
        raise UserError(
            rule, file=path, path="train.accumulate", way_out="take a divisor of it", found=config.train.accumulate
        )
    if config.train.weights and not config.train.weights.is_file():
        raise UserError(
            "there is no such file", file=path, path="train.init", way_out="name another", found=config.train.weights
        )
    if file := config.model.backbone.weights_file:
        try:
            refuse_other_files(file)
        except UserError as error:
            raise UserError(error.rule, file=path, path="model.backbone.weights", way_out="name another") from None
    try:
        lines = describe_weights(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for line in lines:
        print(line, file=sys.stderr)


def describe_weights(config: TrialConfig) -> list[str]:
    """Return what a training takes from files of weights, and how its pixels are normalised; nothing without a file.

    Raises:
        UserError: the weights cannot be read, or do not fit.
    """
    backbone = config.model.backbone
    lines = []
    if config.train.weights:
        lines.append(str(start_and_report(config)[1]))
    elif file := backbone.weights_file:
        try:
            backbone.build()
        except UserError as error:
            raise UserError(f"model.backbone.{error}") from None
        family = recognise(read_checkpoint(file)).family.name
        lines.append(f"{backbone.weights}: {family}: took all tensors of the backbone, {backbone.kind}")
    if config.train.distill != "none":
        load_teacher(config)
    return [f"{line}; pixels: {statistics(config)}" for line in lines]


def _check_clips(config: TrialConfig, clips: Listed, path: Path, workers: int) -> None:
    """Raise UserError if nothing can be trained on the clips; print warnings about them."""
    summary = clips.summary()
    try:
        summary.refuse()
        if config.task == "classification":
            step_sizes(summary.totals["train"], config.train, workers)
    except UserError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    for warning in summary.warnings:
        print(f"{path}: {clips.data.kind}: {warning}", file=sys.stderr)


def _check_gpus(workers: int, gpus: float) -> None:
    if problem := gpu_problem(workers, gpus):
        way_out = f"use --workers {problem.workers} --gpus {problem.gpus:g}"
        raise UserError(problem.rule, path="--gpus", way_out=way_out, found=f"{gpus:g}")


def _train(
    configs: list[TrialConfig], caches: list[Path], folders: list[Path], tracking: str, output: Path,
    address: str | None, resources: Resources, origin: Origin | None,
) -> list[list[Epoch]]:  # fmt: skip
    """Train the configs one after another; return the epochs of each.

    The search of an exported config, ``origin``, shows its training too.
    """
    print(f"Connecting to Ray at {address} ..." if address else "Starting Ray ...", flush=True)
    # Ray and MLflow take seconds to import: this comes after the checks of the input.
    from cluster.connect import connected
    from cluster.devices import smallest_gpu
    from cluster.training import train
    from search.report.tracking.store import tracking_uri
    from search.report.tracking.training import log_beside, log_training

    uri = tracking_uri(tracking, output)
    done = []
    with connected(address):
        resources.concurrency(node_resources())
        if resources.gpus:
            smallest_gpu("--gpus")  # it refuses nodes that cannot use theirs
        for number, (config, cache, folder) in enumerate(zip(configs, caches, folders, strict=True)):
            prefix = f"split {config.data.split}  " if len(configs) > 1 else ""
            others = sum(later.train.epochs for later in configs[number + 1 :])
            seconds: list[float] = []
            with ExitStack() as logs:
                stores = [logs.enter_context(log_training(uri, config, folder))]
                if origin:
                    beside = log_beside(tracking, folder, origin.history, origin.folder, origin.trial)
                    stores.append(logs.enter_context(beside))
                for result in train(config, cache, folder, resources):
                    for log in stores:
                        log(result)
                    seconds.append(result["seconds"])
                    left = config.train.epochs - result["epoch"] + others
                    # The first epoch compiles, and warms up caches: it is left out once there are others.
                    time_left = left * fmean(seconds[1:] or seconds)
                    print(prefix + _epoch_line(result, config, time_left), flush=True)
            done.append(finished(folder, config))
    return done


def _epoch_line(result: dict[str, Any], config: TrialConfig, time_left: float) -> str:
    metrics = result["metrics"]
    if config.task == "detection":
        rule = config.data.detection[1]
        measured = f"mAP {metrics['map']:.2%}  at IoU 0.5 {metrics['map_0.5']:.2%} ({rule})"
    else:
        measured = f"top-1 {metrics['top1']:.2%}  loss {metrics['loss']:.4f}"
    return (
        f"epoch {result['epoch']}/{config.train.epochs}  {measured}  "
        f"training loss {metrics['train_loss']:.4f}  {result['seconds']:.1f} s"
        + (f"  {counted(result['workers'], 'worker')}" if "workers" in result else "")
        + (f"  {format_duration(time_left)} left" if time_left else "")
    )
