"""`vattn train`: one config at full length, on one worker or many, logged to MLflow."""

import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from search.spec.validation import load_config
from vattn.canonical import trial_id
from vattn.config import TrialConfig
from vattn.data import prepare


def train_file(
    path: Path, sets: list[str], output: Path | None, resume: bool, tracking: str, address: str | None,
    workers: int, cpus: int, gpus: float,
) -> None:  # fmt: skip
    """Train the config in a file and say how it goes, epoch by epoch.

    The output folder gets ``config.yaml``, ``checkpoint.pt``, ``model.pt`` (a plain state dict) and ``metrics.json``.
    With ``split: all`` there is one training after another, each in a folder ``splitN`` there, and the metrics are the
    mean of their last ones. Raises ValueError where the input is wrong, or the folder holds a training already and
    ``resume`` is not asked for.
    """
    config = load_config(path, sets)
    if config.train.batch % workers:
        rule = f"must be divisible by the {workers} workers, who share it"
        raise ValueError(f"{path}: train.batch: {rule} (got {config.train.batch})")
    if config.train.weights and not config.train.weights.is_file():
        raise ValueError(f"{path}: train.init: there is no such file; name another (got {config.train.weights})")
    output = output or Path("runs") / path.stem
    splits = config.data.each_split()
    folders = [output / f"split{data.split}" for data in splits] if len(splits) > 1 else [output]
    if any((folder / "checkpoint.pt").exists() for folder in folders):
        if not resume:
            way_out = "go on with --resume, or name another folder with --out"
            raise ValueError(f"{output}: holds a training already; {way_out}")
        if trial_id(load_config(output / "config.yaml")) != trial_id(config):
            way_out = "undo the change, or name another folder with --out"
            raise ValueError(f"{path}: must be as when the training in {output} began, to go on with it; {way_out}")
    from search.report.progress import progress

    # Workers have working directories of their own.
    output, folders = output.resolve(), [folder.resolve() for folder in folders]
    caches = [prepare(data, output, progress, test=False).resolve() for data in splits]
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.yaml").write_text(path.read_text() if not sets else json.dumps(config.tree(), indent=2))

    from cluster.connect import connected
    from cluster.train import Resources, train
    from search.report.tracking.store import tracking_uri
    from search.report.tracking.training import log_training

    resources, uri = Resources(workers=workers, cpus=cpus, gpus=gpus), tracking_uri(tracking, output)
    last: list[dict[str, float]] = []
    try:
        with connected(address) as have:
            resources.concurrency(have)
            for data, cache, folder in zip(splits, caches, folders, strict=True):
                part, metrics = config.model_copy(update={"data": data}), {}
                with log_training(uri, part, folder) as log:
                    for result in train(part, cache, folder, resources):
                        metrics = result["metrics"]
                        log(result)
                        print(
                            f"split {data.split}  " if len(splits) > 1 else "", _told(result, part), sep="", flush=True
                        )
                last.append(metrics)
    except KeyboardInterrupt:
        print("the same command with --resume goes on after the last epoch above", file=sys.stderr)
        raise
    mean = {name: fmean(metrics[name] for metrics in last) for name in last[0]}
    (output / "metrics.json").write_text(json.dumps(mean, indent=2) + "\n")
    if len(splits) == 1:
        print(f"top-1 {mean['top1']:.2%} on the validation split; the weights are in {output / 'model.pt'}")
    else:
        print(f"top-1 {mean['top1']:.2%} on the validation splits, their mean; the weights are in {output}/split*")


def _told(result: dict[str, Any], config: TrialConfig) -> str:
    metrics = result["metrics"]
    return (
        f"epoch {result['epoch']}/{config.train.epochs}  top-1 {metrics['top1']:.2%}  loss {metrics['loss']:.4f}  "
        f"training loss {metrics['train_loss']:.4f}  {result['seconds']:.1f} s"
    )
