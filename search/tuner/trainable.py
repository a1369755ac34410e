"""The process of a trial: it trains one task after another and reports each epoch to Ray Tune."""

import json
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import ray
from ray import tune
from ray.tune import PlacementGroupFactory
from typing_extensions import override

from cluster.devices import GpuError, free_memory, limit_memory, trial_device
from cluster.placement import Resources
from cluster.recovery import ends_process, out_of_memory
from cluster.training import epochs, run
from search.ledger.remote import Remote
from search.tuner.mirror import TrainingMirror, fetch_cache
from search.tuner.storage import check_places
from search.tuner.task import Task
from vattn.config import TrialConfig
from vattn.errors import UserError

#: modules that the process of a trial imports; torch imports the last one with its first optimizer
MODULES = ("search.tuner.trainable", "torch._dynamo")

#: bytes of memory that the driver process of a distributed trial reserves. It waits for its workers; if it reserved a
#: CPU meanwhile, the cluster could deadlock.
DRIVER_MEMORY = 256 * 2**20


def trainable(resources: Resources) -> Any:
    """Return what Ray Tune runs for a trial with these resources, which it reserves.

    The GPUs of a trial on one worker are those of its task.
    """
    if max(resources.workers, resources.most) == 1:

        def reserved(task: dict[str, Any]) -> PlacementGroupFactory:
            gpus = {"GPU": task["gpus"]} if task["gpus"] else {}
            return PlacementGroupFactory([{"CPU": resources.cpus} | gpus])

        return tune.with_resources(InlineTrial, cast(Any, reserved))  # it names only one of the mappings of Tune

    def distributed_trial(task: Task) -> None:
        from ray.tune.integration.ray_train import TuneReportCallback

        try:
            _check_places(task)
            failure = run(
                TrialConfig.parse(json.loads(task["config"])), Path(task["cache"]), Path(task["folder"]), resources,
                [TuneReportCallback()], task["tested"], task["known"], wanted=task["workers"],
            )  # fmt: skip
            if "user" in failure:
                _check_places(task)
        except OSError as error:
            failure = {"storage": str(error)}
        if failure:
            tune.report(failure)

    return tune.with_resources(distributed_trial, PlacementGroupFactory([{"memory": DRIVER_MEMORY}]))


class InlineTrial(tune.Trainable):
    """A trial on one worker. One step is one epoch; its process is reused for the next trial."""

    _results: Generator[dict[str, Any]] | None = None

    @override
    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    @override
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        free_memory()
        self._results = _train(cast(Task, new_config))
        return True

    @override
    def cleanup(self) -> None:
        if self._results:
            self._results.close()  # it waits for a checkpoint that is being written

    @override
    def step(self) -> dict[str, Any]:
        assert self._results is not None
        return next(self._results)


def _failure(error: Exception, task: Task) -> dict[str, Any]:
    """Return the result of an error whose message is for the user, unless the files of the search are gone."""
    try:
        _check_places(task)
    except OSError as problem:
        return {"storage": str(problem)}
    return {"error": str(error)}


def _mirror(task: Task, config: TrialConfig) -> TrainingMirror | None:
    """Get what this machine lacks of a training in a store, and return what copies its files there."""
    if not task["remote"]:
        return None
    remote = Remote(task["remote"])
    fetch_cache(remote, Path(task["cache"]))
    mirror = TrainingMirror(remote, Path(task["folder"]))
    mirror.fetch(config.train.weights)
    return mirror


def _check_places(task: Task) -> None:
    """Raise StorageError if the files of the search are not there: nothing may be written in their place."""
    check_places(None if task["remote"] else Path(task["folder"]).parent.parent, Path(task["cache"]))


def _train(task: Task) -> Generator[dict[str, Any]]:
    """Yield a result for each epoch, as `search.tuner.results.parse_result` reads it.

    An exception of training becomes a result too: Ray Tune would otherwise retry it in a new process, where it would
    be raised again. A lack of GPU memory becomes a result, and is raised by the next step. Another error of the GPU is
    raised. After an exception Ray Tune ends this process, in which the next trials might fail too.
    """
    import torch

    try:
        torch.set_num_threads(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
        config = TrialConfig.parse(json.loads(task["config"]))
        device = trial_device()
        if task["limited"]:
            limit_memory(device, task["gpus"])
        mirror = _mirror(task, config)
        _check_places(task)
        for result in epochs(config, Path(task["cache"]), Path(task["folder"]), task["tested"], device, task["known"]):
            if mirror:
                mirror.copy(wait=result["epoch"] == config.train.epochs)
            yield result
    except GpuError as error:
        yield {"halt": str(error)}
    except OSError as error:
        yield {"storage": str(error)}
    except (UserError, FloatingPointError) as error:
        yield _failure(error, task)
    except Exception as error:
        if ends_process(error):
            raise
        if not out_of_memory(error):
            yield {"error": traceback.format_exc()}
            return
        yield {"memory": traceback.format_exc()}
        raise
