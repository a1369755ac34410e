"""`vattn train`: train one config at full length on one or more workers, and log it to MLflow."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from statistics import fmean
from typing import Any

from cluster.address import resolve
from cluster.failures import TrainingError
from cluster.placement import Resources, gpu_problem, node_resources
from search.report.live.progress import progress
from search.spec.store import check_size, with_chosen_store
from search.spec.validation import load_config, read_config
from vattn.canonical import trial_id
from vattn.config import TrialConfig
from vattn.data import listed
from vattn.data.dataset import Listed, decode
from vattn.errors import UserError
from vattn.files import at_home
from vattn.training.batches.loader import step_sizes
from vattn.training.checkpoint import exists
from vattn.training.start import start
from vattn.weights import refuse_other_files


def run(arguments: Namespace) -> int:
    """Train the config that the command line names; return the exit status."""
    try:
        train_file(
            arguments.config, arguments.set, arguments.out, arguments.resume, arguments.tracking, arguments.address,
            arguments.workers, arguments.cpus, arguments.gpus,
        )  # fmt: skip
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def train_file(
    path: Path, sets: list[str], output: Path | None, resume: bool, tracking: str, address: str | None,
    workers: int, cpus: int, gpus: float,
) -> None:  # fmt: skip
    """Train the config in a file and print its metrics after each epoch.

    The output folder gets ``config.yaml``, ``checkpoint.pt``, ``model.pt`` (a plain state dict) and ``metrics.json``.
    With ``split: all`` one model is trained for each split, one after another, in the folders ``splitN``;
    ``metrics.json`` then has the mean over the splits of the metrics after the last epoch.

    Args:
        path: the config file.
        sets: changes of its values, as A.B=V.
        output: the output folder; None: runs/<name of the config file>.
        resume: whether to continue the training in the output folder.
        tracking: URI of the MLflow store; ``auto``: SQLite in the output folder.
        address: Ray cluster to train on, see `cluster.connect.connected`.
        workers: number of workers, which share each batch.
        cpus: CPUs of a worker.
        gpus: GPUs of a worker.

    Raises:
        UserError: the input is invalid, or the folder holds a training already and ``resume`` is false.
        TrainingError: the training failed.
    """
    config, chooses_store = read_config(path, sets)
    _check(config, path, workers)
    _check_gpus(workers, gpus)
    resolve(address).probe()
    output = output or Path("runs") / path.stem
    if chooses_store:
        config = with_chosen_store(config, output)
    splits = config.data.each_split()
    folders = [output / f"split{data.split}" for data in splits] if len(splits) > 1 else [output]
    if any(exists(folder) for folder in folders):
        _check_output(config, path, output, resume)
    # Paths are absolute: workers have other working directories.
    output, folders = output.resolve(), [folder.resolve() for folder in folders]
    files = [listed(data, output, progress, test=False) for data in splits]
    for clips in files:
        _check_clips(config, clips, path, workers)
    caches = [cache.resolve() for cache in decode(files, progress)]
    output.mkdir(parents=True, exist_ok=True)
    written = json.dumps(config.tree(), indent=2) if sets or chooses_store else path.read_text()
    (output / "config.yaml").write_text(written)
    split_configs = [config.model_copy(update={"data": data}) for data in splits]
    try:
        final = _train(split_configs, caches, folders, tracking, output, address, (workers, cpus, gpus))
    except KeyboardInterrupt:
        print("the same command with --resume continues after the last epoch above", file=sys.stderr)
        raise
    mean = {name: fmean(metrics[name] for metrics in final) for name in final[0]}
    (output / "metrics.json").write_text(json.dumps(mean, indent=2) + "\n")
    if len(splits) == 1:
        print(f"top-1 {mean['top1']:.2%} on the validation split; the weights are in {output / 'model.pt'}")
    else:
        print(f"top-1 {mean['top1']:.2%}, mean of the validation splits; the weights are in {output}/split*")


def _check(config: TrialConfig, path: Path, workers: int) -> None:
    """Raise UserError if the batch cannot be shared, crops are larger than frames, or initial weights do not fit."""
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
    if (weights := config.model.backbone.weights) not in ("none", "default"):
        try:
            refuse_other_files(at_home(weights))
        except UserError as error:
            raise UserError(error.rule, file=path, path="model.backbone.weights", way_out="name another") from None
    if config.train.weights:
        try:
            start(config)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def _check_clips(config: TrialConfig, clips: Listed, path: Path, workers: int) -> None:
    """Raise UserError if nothing can be trained on the clips; print warnings about them."""
    summary = clips.summary()
    try:
        summary.refuse()
        step_sizes(summary.totals["train"], config.train, workers)
    except UserError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    for warning in summary.warnings:
        print(f"{path}: {clips.data.kind}: {warning}", file=sys.stderr)


def _check_gpus(workers: int, gpus: float) -> None:
    if problem := gpu_problem(workers, gpus):
        way_out = f"use --workers {problem.workers} --gpus {problem.gpus:g}"
        raise UserError(problem.rule, path="--gpus", way_out=way_out, found=f"{gpus:g}")


def _check_output(config: TrialConfig, path: Path, output: Path, resume: bool) -> None:
    """Raise UserError if the training in the output folder may not be continued, or is one of another config."""
    if not resume:
        way_out = "go on with --resume, or name another folder with --out"
        raise UserError("holds a training already", file=output, way_out=way_out)
    if trial_id(load_config(output / "config.yaml")) != trial_id(config):
        rule = f"must be as when the training in {output} began, to go on with it"
        raise UserError(rule, file=path, way_out="undo the change, or name another folder with --out")


def _train(
    configs: list[TrialConfig], caches: list[Path], folders: list[Path], tracking: str, output: Path,
    address: str | None, amounts: tuple[int, int, float],
) -> list[dict[str, float]]:  # fmt: skip
    """Train the configs one after another; return the metrics of each after its last epoch.

    ``amounts`` are the number of workers, and the CPUs and GPUs of each.
    """
    # Ray and MLflow take seconds to import: this comes after the checks of the input.
    from cluster.connect import connected
    from cluster.devices import smallest_gpu
    from cluster.training import train
    from search.report.tracking.store import tracking_uri
    from search.report.tracking.training import log_training

    workers, cpus, gpus = amounts
    resources, uri = Resources(workers=workers, cpus=cpus, gpus=gpus), tracking_uri(tracking, output)
    final = []
    with connected(address):
        resources.concurrency(node_resources())
        if gpus:
            smallest_gpu("--gpus")  # it refuses nodes that cannot use theirs
        for config, cache, folder in zip(configs, caches, folders, strict=True):
            prefix, metrics = f"split {config.data.split}  " if len(configs) > 1 else "", {}
            with log_training(uri, config, folder) as log:
                for result in train(config, cache, folder, resources):
                    metrics = result["metrics"]
                    log(result)
                    print(prefix + _epoch_line(result, config), flush=True)
            final.append(metrics)
    return final


def _epoch_line(result: dict[str, Any], config: TrialConfig) -> str:
    metrics = result["metrics"]
    return (
        f"epoch {result['epoch']}/{config.train.epochs}  top-1 {metrics['top1']:.2%}  loss {metrics['loss']:.4f}  "
        f"training loss {metrics['train_loss']:.4f}  {result['seconds']:.1f} s"
    )
