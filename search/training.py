"""`vattn train`: one config at full length, on one worker or many, logged to MLflow."""

import json
import sys
from pathlib import Path

from search.spec import load_config
from vattn.canonical import trial_id
from vattn.data import prepare


def train_file(
    path: Path, sets: list[str], output: Path | None, resume: bool, tracking: str, address: str | None,
    workers: int, cpus: int, gpus: float,
) -> None:  # fmt: skip
    """Train the config in a file and say how it goes, epoch by epoch.

    The output folder gets ``config.yaml``, ``checkpoint.pt``, ``model.pt`` (a plain state dict) and ``metrics.json``.
    Raises ValueError where the input is wrong, or the folder holds a training already and ``resume`` is not asked for.
    """
    config = load_config(path, sets)
    if config.train.batch % workers:
        rule = f"must be divisible by the {workers} workers, who share it"
        raise ValueError(f"{path}: train.batch: {rule} (got {config.train.batch})")
    if config.train.weights and not config.train.weights.is_file():
        raise ValueError(f"{path}: train.init: there is no such file; name another (got {config.train.weights})")
    output = output or Path("runs") / path.stem
    if (output / "checkpoint.pt").exists():
        if not resume:
            way_out = "go on with --resume, or name another folder with --out"
            raise ValueError(f"{output}: holds a training already; {way_out}")
        if trial_id(load_config(output / "config.yaml")) != trial_id(config):
            way_out = "undo the change, or name another folder with --out"
            raise ValueError(f"{path}: must be as when the training in {output} began, to go on with it; {way_out}")
    from search.display import progress

    output = output.resolve()  # workers have working directories of their own
    cache = prepare(config.data, output, progress).resolve()
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.yaml").write_text(path.read_text() if not sets else json.dumps(config.tree(), indent=2))

    from cluster.connect import connected
    from cluster.train import Resources, train
    from search.tracking import log_training

    resources = Resources(workers=workers, cpus=cpus, gpus=gpus)
    metrics: dict[str, float] = {}
    try:
        with connected(address) as have, log_training(tracking, config, output) as log:
            resources.concurrency(have)
            for result in train(config, cache, output, resources):
                metrics = result["metrics"]
                log(result)
                print(
                    f"epoch {result['epoch']}/{config.train.epochs}  top-1 {metrics['top1']:.2%}  loss "
                    f"{metrics['loss']:.4f}  training loss {metrics['train_loss']:.4f}  {result['seconds']:.1f} s",
                    flush=True,
                )
    except KeyboardInterrupt:
        print("the same command with --resume goes on after the last epoch above", file=sys.stderr)
        raise
    (output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"top-1 {metrics['top1']:.2%} on the validation split; the weights are in {output / 'model.pt'}")
