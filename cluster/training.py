"""Trains one config on several workers, with Ray Train."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.queue import Queue

from cluster.placement import Resources, record_group
from vattn.config import TrialConfig
from vattn.errors import StorageError
from vattn.train import fit, score_test_split

#: restarts of all workers after one of them died, in one training
MAX_RESTARTS = 3
#: seconds between two looks at the results of a training
POLL_INTERVAL = 0.5


def trial_device() -> torch.device:
    """Return the device of a training in this process of Ray Tune: the GPU that Ray assigned to it, or the CPU.

    Ray shows a process the GPUs that it assigned to it, but all GPUs of the node if it assigned none.
    """
    return torch.device("cuda", 0) if _has_gpu() else torch.device("cpu")


def rank_device() -> torch.device:
    """Return the device of this worker of Ray Train: the GPU that Ray assigned to it, or the CPU.

    Ray Train shows each worker the GPUs of all workers on its node.
    """
    return get_device() if _has_gpu() else torch.device("cpu")


def _has_gpu() -> bool:
    return bool(ray.get_gpu_ids()) and torch.cuda.is_available()


def epochs(
    config: TrialConfig, cache: Path, folder: Path, tested: bool, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Train in this process, and yield the result of each epoch.

    Args:
        config: data, model and training.
        cache: folder of the decoded clips.
        folder: keeps the checkpoint; a training that was interrupted continues from it.
        tested: add the metrics of the test split to the last result, with names that begin with ``test_``. There are
            none if the data have no test split.
        device: the device to train on.

    Yields:
        ``epoch`` (from 1), ``metrics`` of the validation split, ``seconds``.
    """
    for epoch in fit(config, cache, folder, device):
        last = tested and epoch.number == config.train.epochs
        scores = score_test_split(config, cache, folder, device) if last else {}
        scores = {f"test_{name}": value for name, value in scores.items()}
        yield {"epoch": epoch.number, "metrics": epoch.metrics | scores, "seconds": epoch.seconds}


def trainer(
    config: TrialConfig, cache: Path, folder: Path, resources: Resources, callbacks: list[Any], tested: bool = False
) -> TorchTrainer:
    """Return a Ray trainer, data-parallel over ``resources.workers``, whose workers report what `epochs` yields.

    All nodes must have ``cache`` and ``folder`` at the same path.
    """
    per_worker: dict[str, float] = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
    return TorchTrainer(
        _train_on_worker,
        train_loop_config={
            "config": config.tree(), "cache": str(cache), "folder": str(folder), "threads": resources.cpus,
            "tested": tested,
        },
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=resources.gpus > 0, resources_per_worker=per_worker
        ),
        torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
        run_config=RunConfig(
            name="ray-train", storage_path=str(folder.resolve()), callbacks=callbacks,
            # If a worker dies, Ray ends all of them and starts them again; `fit` then continues from its checkpoint.
            failure_config=FailureConfig(max_failures=MAX_RESTARTS),
        ),
    )  # fmt: skip


def _train_on_worker(task: dict[str, Any]) -> None:
    torch.set_num_threads(task["threads"])
    device = rank_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL exchanges objects, and waits at barriers, on the current device
    config, cache, folder = TrialConfig.parse(task["config"]), Path(task["cache"]), Path(task["folder"])
    if ray.train.get_context().get_world_rank() == 0:
        record_group(folder)
    try:
        for result in epochs(config, cache, folder, task["tested"], device):
            ray.train.report(result)
    except OSError as error:
        if ray.train.get_context().get_world_size() > 1:
            raise  # the other workers wait for this one, so Ray has to end them
        ray.train.report({"halt": str(error)})


def train(config: TrialConfig, cache: Path, folder: Path, resources: Resources) -> Iterator[dict[str, Any]]:
    """Train on the workers of a Ray cluster, and yield the result of each epoch as `epochs` does.

    If ``folder`` has the checkpoint of an interrupted training, its results come first.

    Raises:
        StorageError: the only worker cannot read or write a file.
        ray.train.TrainingFailedError: a worker failed; it has the worker's own error.
    """
    results: Queue = Queue(actor_options={"num_cpus": 0})
    # In a process of its own: Ray Train would replace the SIGINT handler of this one, and after Ctrl-C its thread would
    # outlive the main thread and crash the process.
    driver = ray.remote(num_cpus=0, max_retries=0)(_drive).remote(config.tree(), cache, folder, resources, results)
    done = False
    while not done:
        done = bool(ray.wait([driver], timeout=POLL_INTERVAL)[0])
        while not results.empty():
            result = results.get()
            if "halt" in result:
                raise StorageError(result["halt"])
            yield result
    ray.get(driver)


def _drive(tree: dict[str, Any], cache: Path, folder: Path, resources: Resources, results: Queue) -> None:
    trainer(TrialConfig.parse(tree), cache, folder, resources, [_ReportForwarder(results)]).fit()


class _ReportForwarder(UserCallback):
    """Puts each report of the workers into a queue; runs in the process of Ray Train's controller."""

    def __init__(self, results: Queue) -> None:
        self._results = results

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        self._results.put(metrics[0])
