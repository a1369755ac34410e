"""The main job: Ray Tune trains what the study proposes; the ledger hears of everything first."""

import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import PlacementGroupFactory
from typing_extensions import override

from cluster.train import Resources, epochs, trainer
from vattn.config import TrialConfig

#: what the process of a trial needs; the last is what torch imports with the first optimizer
MODULES = ("search.tuner.trainable", "torch._dynamo")

#: memory that the process of a distributed trial asks for: it waits for its workers, and must not hold a CPU meanwhile
DRIVER_MEMORY = 256 * 2**20


def trainable(resources: Resources) -> Any:
    if resources.workers == 1:
        bundle: dict[str, float] = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
        return tune.with_resources(InlineTrial, PlacementGroupFactory([bundle]))

    def distributed_trial(task: dict[str, Any]) -> None:
        from ray.train import TrainingFailedError
        from ray.tune.integration.ray_train import TuneReportCallback

        try:
            trainer(
                TrialConfig.parse(json.loads(task["config"])), Path(task["cache"]), Path(task["folder"]), resources,
                [TuneReportCallback()], task["tested"],
            ).fit()  # fmt: skip
        except TrainingFailedError:
            tune.report({"error": traceback.format_exc()})

    return tune.with_resources(distributed_trial, PlacementGroupFactory([{"memory": DRIVER_MEMORY}]))


class InlineTrial(tune.Trainable):
    """A trial on one worker: one step is one epoch, in a process that is used for one trial after another."""

    @override
    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    @override
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._results = _train(new_config)
        return True

    @override
    def step(self) -> dict[str, Any]:
        return next(self._results)


def _train(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a result an epoch. What training raises is a result too: it would raise again in a new process."""
    import torch

    try:
        torch.set_num_threads(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
        config = TrialConfig.parse(json.loads(task["config"]))
        yield from epochs(config, Path(task["cache"]), Path(task["folder"]), task["tested"])
    except OSError as error:
        yield {"halt": str(error)}
    except Exception:
        yield {"error": traceback.format_exc()}
