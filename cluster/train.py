"""Trains one config on several workers with Ray Train."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.util
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Queue

from vattn.base import Config
from vattn.config import TrialConfig
from vattn.train import fit, score_test_split

#: file in a training's folder that names what its workers hold
GROUP = "placement_group"


class Resources(Config):
    """What one training takes: so many workers, each with so many CPUs (its torch threads) and GPUs."""

    workers: int
    cpus: int
    gpus: float

    def concurrency(self, cluster: dict[str, float]) -> int:
        """Return how many trainings fit a cluster with these resources at once; raises ValueError if not one does."""
        need = {"CPU": self.workers * self.cpus, "GPU": self.workers * self.gpus}
        fits = min(int(cluster.get(kind, 0) // amount) for kind, amount in need.items() if amount)
        if fits < 1:
            takes = ", ".join(f"{amount:g} {kind}s" for kind, amount in need.items() if amount)
            has = ", ".join(f"{cluster.get(kind, 0):g} {kind}s" for kind in need)
            raise ValueError(
                f"resources: one training takes {takes}, more than the whole cluster has ({has}); lower workers, "
                "cpus or gpus"
            )
        return fits


def epochs(config: TrialConfig, cache: Path, folder: Path, tested: bool) -> Iterator[dict[str, Any]]:
    """Train, and yield each epoch's number, metrics and seconds; where ``tested``, the last has the test split's too.

    Those begin with ``test_``; there are none where the data have no test split.
    """
    for epoch in fit(config, cache, folder):
        last = tested and epoch.number == config.train.epochs
        scores = score_test_split(config, cache, folder) if last else {}
        scores = {f"test_{name}": value for name, value in scores.items()}
        yield {"epoch": epoch.number, "metrics": epoch.metrics | scores, "seconds": epoch.seconds}


def trainer(
    config: TrialConfig, cache: Path, folder: Path, resources: Resources, callbacks: list[Any], tested: bool = False
) -> TorchTrainer:
    """Return a trainer whose workers report what `epochs` yields; all nodes must see ``folder``."""
    per_worker: dict[str, float] = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
    return TorchTrainer(
        _work,
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
            # A worker that dies takes its group along; the group starts again from our own checkpoint.
            failure_config=FailureConfig(max_failures=3),
        ),
    )  # fmt: skip


def _work(task: dict[str, Any]) -> None:
    torch.set_num_threads(task["threads"])
    folder = Path(task["folder"])
    group = ray.util.get_current_placement_group()
    if group and ray.train.get_context().get_world_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GROUP).write_text(group.id.hex())
    try:
        for result in epochs(TrialConfig.parse(task["config"]), Path(task["cache"]), folder, task["tested"]):
            ray.train.report(result)
    except OSError as error:
        if ray.train.get_context().get_world_size() > 1:
            raise  # the others wait for this one: Ray has to end them
        ray.train.report({"halt": str(error)})


def release(folder: Path) -> None:
    """Give back the CPUs and GPUs of the workers that trained into ``folder``, whose driver was stopped or has died.

    Ray itself frees a placement group only with the job that made it.
    """
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    note = folder / GROUP
    if note.exists():
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(note.read_text()))))
        note.unlink()


def train(config: TrialConfig, cache: Path, folder: Path, resources: Resources) -> Iterator[dict[str, Any]]:
    """Train to the end and yield each epoch's result (epoch, metrics, seconds), those of an earlier attempt first.

    Raises ray.train.TrainingFailedError with the worker's own error, OSError where one worker cannot read or write.
    """
    results: Queue = Queue(actor_options={"num_cpus": 0})
    # Not in this process: Ray would take our SIGINT there, and its thread would outlive our Ctrl-C and crash us.
    drive = ray.remote(num_cpus=0, max_retries=0)(_drive).remote(config.tree(), cache, folder, resources, results)
    done = False
    while not done:
        done = bool(ray.wait([drive], timeout=0.5)[0])
        while not results.empty():
            result = results.get()
            if "halt" in result:
                raise OSError(result["halt"])
            yield result
    ray.get(drive)


def _drive(tree: dict[str, Any], cache: Path, folder: Path, resources: Resources, results: Queue) -> None:
    trainer(TrialConfig.parse(tree), cache, folder, resources, [_Forward(results)]).fit()


class _Forward(UserCallback):
    """Runs beside the workers' controller and passes their reports on."""

    def __init__(self, results: Queue) -> None:
        self._results = results

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        self._results.put(metrics[0])
