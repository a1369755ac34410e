"""Two other services that search the space of a spec with Ray Tune, written as their users would write them.

    python tests/benchmarks/services.py stock|competent|competent-asha SPEC OUTPUT SEED

* stock: `OptunaSearch`, ASHA on the accuracy, a `TorchTrainer` with one worker for each trial, which decodes its videos
  with decord. The process that drives a trial requests no CPU, so that one trial runs on each CPU. The dashboard is on:
  without it Ray would never free the CPUs of a trial that ASHA stops.
* competent: a class trainable whose processes are reused, clips decoded once into this project's cache, and TPE with
  the options for a conditional space and parallel trials. competent-asha also uses ASHA on the accuracy.

They search until SIGINT. Whenever a trial reports or ends, a line with the time (Unix seconds) is appended to
OUTPUT/reports.jsonl. Networks, training config and the sampling of frames and crops are those of this project.
"""

import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
import ray.train
import ray.train.torch
import torch
from optuna.samplers import TPESampler
from ray import tune
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from ray.tune import Callback, CheckpointConfig, PlacementGroupFactory, TuneConfig
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from search.samplers.shared.optuna_space import distributions, from_optuna
from search.spec.schema import Spec
from search.spec.validation import load
from spaces.space import Domain
from tests.benchmarks.bench_service import REPORTS
from vattn.canonical import architecture_id
from vattn.config import TrialConfig
from vattn.cost import cost
from vattn.data import prepare
from vattn.data.augment import centre, training_region
from vattn.data.sampling import evaluation_indices, training_indices
from vattn.model import build_model
from vattn.training.batches.pixels import normalise
from vattn.training.fit import fit

#: epochs before ASHA's first rung, and its reduction factor, as for the scheduler of the quickstart
GRACE, REDUCTION = 3, 3


class DefineByRun:
    """The space of a spec as a define-by-run function for `OptunaSearch`.

    Its result, the constants of a trial, is the whole config as JSON and ``more``. It is a class, not a closure,
    because Tune pickles it every few seconds.
    """

    def __init__(self, spec: Spec, more: dict[str, str]) -> None:
        self._space, self._known, self._more = spec.space, distributions(spec.space), more

    def __call__(self, trial: optuna.Trial) -> dict[str, str]:
        def choose(name: str, domain: Domain) -> Any:
            # Tune splits names at slashes into nested dictionaries.
            value = trial.suggest_categorical(name.replace("/", ":"), self._known[name].choices)  # pyright: ignore
            return from_optuna(domain, value)

        return {"config": json.dumps(self._space.resolve(choose)), **self._more}


def network_fields(config: TrialConfig) -> dict[str, Any]:
    """Return the fields of each report that describe the network of the trial."""
    gflops = cost(config.model, config.data.num_classes()).gflops
    return {"gflops": gflops, "architecture": architecture_id(config.model)}


class Reports(Callback):
    """Writes a line with the time whenever a trial reports or ends."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        names = ("top1", "seconds", "gflops", "architecture")
        self._write(trial=trial.trial_id, **{name: result[name] for name in names})

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._write(trial=trial.trial_id)

    def _write(self, **event: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"time": time.time(), **event}) + "\n")


def asha() -> ASHAScheduler:
    """Return the scheduler; ``max_t`` is never reached, as a trial ends itself after its last epoch."""
    return ASHAScheduler(metric="top1", mode="max", grace_period=GRACE, reduction_factor=REDUCTION, max_t=10_000)


class Videos(Dataset):
    """A folder of classes; each access decodes a clip and returns uint8 (3, T, size, size) and its label."""

    def __init__(self, root: Path, frames: int, size: int, training: bool, seed: int) -> None:
        labels = sorted(folder.name for folder in root.iterdir())
        self._files = [(path, n) for n, label in enumerate(labels) for path in sorted((root / label).iterdir())]
        self._frames, self._size, self._training = frames, size, training
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        import decord

        path, label = self._files[i]
        reader = decord.VideoReader(str(path), num_threads=1)
        if self._training:
            indices = training_indices("segments", len(reader), self._frames, self._rng)
        else:
            indices = evaluation_indices("segments", len(reader), self._frames, late=i % 2 == 1)
        clip = reader.get_batch(indices.tolist()).asnumpy()
        height, width = clip.shape[1:3]
        if self._training:
            top, left, *_ = training_region("random", height, width, self._size, self._rng)
        else:
            top, left, *_ = centre(height, width, self._size)
        clip = clip[:, top : top + self._size, left : left + self._size]
        return torch.from_numpy(np.ascontiguousarray(clip)).permute(3, 0, 1, 2), label


def train_loop(task: dict[str, Any]) -> None:
    """Train in a worker of Ray Train, and report each epoch."""
    config = TrialConfig.parse(json.loads(task["config"]))
    model, train, network, cpu = config.model, config.train, network_fields(config), torch.device("cpu")
    torch.manual_seed(train.seed)
    # Decoding and training share the one CPU of the trial, so a loader process would only add overhead.
    clips, val_clips = (
        DataLoader(
            Videos(Path(config.data.root) / split, model.frames, model.size, split == "train", train.seed),
            batch_size=train.batch, shuffle=split == "train",
        )
        for split in ("train", "val")
    )  # fmt: skip
    net = ray.train.torch.prepare_model(build_model(model, config.data.num_classes()))
    optimizer = torch.optim.SGD(net.parameters(), lr=train.lr, momentum=0.9, weight_decay=train.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, train.epochs * len(clips))
    for _ in range(train.epochs):
        began = time.perf_counter()
        net.train()
        for images, labels in clips:
            loss = cross_entropy(net(normalise(images, cpu)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        net.eval()
        correct = total = 0
        with torch.no_grad():
            for images, labels in val_clips:
                correct += int((net(normalise(images, cpu)).argmax(1) == labels).sum())
                total += len(labels)
        ray.train.report({"top1": correct / total, "seconds": time.perf_counter() - began, **network})


def stock(spec: Spec, output: Path, seed: int) -> None:
    """Search as Ray's guides for Tune with Train and with Optuna describe."""
    ray.init(address="local")

    def drive(task: dict[str, Any]) -> None:
        TorchTrainer(
            train_loop,
            train_loop_config=task,
            scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
            run_config=ray.train.RunConfig(
                name=tune.get_context().get_trial_id(), storage_path=str(output / "train"),
                callbacks=[TuneReportCallback()],
            ),
        ).fit()  # fmt: skip

    tune.Tuner(
        tune.with_resources(drive, PlacementGroupFactory([{"memory": 256 * 2**20}])),
        tune_config=TuneConfig(
            search_alg=OptunaSearch(DefineByRun(spec, {}), metric=["top1", "gflops"], mode=["max", "min"], seed=seed),
            scheduler=asha(), num_samples=-1, max_concurrent_trials=int(ray.cluster_resources()["CPU"]),
        ),
        run_config=tune.RunConfig(storage_path=str(output / "tune"), callbacks=[Reports(output / REPORTS)]),
    ).fit()  # fmt: skip


class InlineTrial(tune.Trainable):
    """A trial on cached clips; one step is one epoch, and a process is reused for the next trial."""

    @override
    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self.reset_config(config)

    @override
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        config = TrialConfig.parse(json.loads(new_config["config"]))
        self._network = network_fields(config)
        self._epochs = fit(config, Path(new_config["cache"]), Path(new_config["trials"]) / uuid.uuid4().hex)
        return True

    @override
    def step(self) -> dict[str, Any]:
        epoch = next(self._epochs)
        return {"top1": epoch.metrics["top1"], "seconds": epoch.seconds, **self._network}


def competent(spec: Spec, output: Path, seed: int, stops: bool) -> None:
    """Search as an engineer who knows what costs time in Ray Tune; with ASHA if ``stops``."""
    output = output.resolve()  # each worker has its own working directory
    folders = {"cache": str(prepare(spec.data, output, test=False)), "trials": str(output / "trials")}
    ray.init(address="local", include_dashboard=False)
    search = OptunaSearch(
        DefineByRun(spec, folders), metric=["top1", "gflops"], mode=["max", "min"],
        sampler=TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True),
    )  # fmt: skip
    tune.Tuner(
        tune.with_resources(InlineTrial, {"CPU": 1}),
        tune_config=TuneConfig(
            search_alg=search, scheduler=asha() if stops else None, num_samples=-1, reuse_actors=True,
            max_concurrent_trials=int(ray.cluster_resources()["CPU"]),
        ),
        run_config=tune.RunConfig(
            storage_path=str(output / "tune"), callbacks=[Reports(output / REPORTS)], verbose=1,
            stop={"training_iteration": spec.trial_config(spec.space.plain()[1]).train.epochs},
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()  # fmt: skip


def main() -> None:
    """Search until SIGINT."""
    system, path, output, seed = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]).resolve(), int(sys.argv[4])
    spec = load(path)
    output.mkdir(parents=True, exist_ok=True)
    if system == "stock":
        stock(spec, output, seed)
    else:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
        competent(spec, output, seed, stops=system == "competent-asha")


if __name__ == "__main__":
    main()
