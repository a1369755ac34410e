"""Trains one config on several workers, with Ray Train."""

import os
import time
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from cluster.devices import rank_device
from cluster.elastic import Growth, as_many_as_fit
from cluster.failures import TrainingError, WorkerError, classified, final_result, living_nodes, lost_nodes
from cluster.network import NodeAddressConfig
from cluster.placement import Resources, record_group
from vattn.config import TrialConfig
from vattn.errors import StorageError, UserError
from vattn.training.checkpoint import finished
from vattn.training.fit import fit, score_test_split

#: restarts of all workers after one of them died while its node lived on, in one training
MAX_RESTARTS = 3
#: seconds between two looks at the results of a training
POLL_INTERVAL = 0.5
#: seconds that a worker waits for the others in one exchange. The longest normal wait is that for the worker that
#: writes a checkpoint to a slow disk. Torch's 1,800 s would hide a worker that hangs for half an hour.
TIMEOUT = 300
#: seconds that a worker keeps an error back that another worker's failure may have caused, so that the cause is seen
#: first
GRACE = 5


#: the way out where a GPU's memory is too small
SAVE_MEMORY = (
    "the GPU's memory is too small: set train.recompute: blocks, or a smaller train.batch; `vattn cost` predicts it"
)


def epochs(
    config: TrialConfig, cache: Path, folder: Path, tested: bool, device: torch.device, known: int = 0,
    keep_best: bool = False,
) -> Generator[dict[str, Any]]:  # fmt: skip
    """Train in this process, and yield the result of each epoch.

    Args:
        config: data, model and training.
        cache: folder of the decoded clips.
        folder: keeps the checkpoint; a training that was interrupted continues from it.
        tested: add the metrics of the test split to the last result, with names that begin with ``test_``. There are
            none if the data have no test split.
        device: the device to train on.
        known: number of epochs whose results are known; they are not yielded.
        keep_best: also keep the weights of the best epoch.

    Yields:
        ``epoch`` (from 1), ``metrics`` of the validation split, ``seconds``.
    """
    for epoch in fit(config, cache, folder, device, keep_best):
        if epoch.number <= known:
            continue
        last = tested and epoch.number == config.train.epochs
        scores = score_test_split(config, cache, folder, device) if last else {}
        scores = {f"test_{name}": value for name, value in scores.items()}
        yield {"epoch": epoch.number, "metrics": epoch.metrics | scores, "seconds": epoch.seconds}


def run(
    config: TrialConfig, cache: Path, folder: Path, resources: Resources, callbacks: list[Any], tested: bool = False,
    known: int = 0, keep_best: bool = False, wanted: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Train on workers that report what `epochs` yields; start them again after one of their processes was lost.

    All nodes must have ``cache`` and ``folder`` at the same path.

    Where the number of workers follows the cluster, the training begins with at most ``wanted`` of them. It goes on
    from its last checkpoint with as many as there is room for after one was lost, and after an epoch when there has
    been room for more for a while. The global batch stays the same.

    Returns:
        {} if the training ended well. If it failed: ``error``, the text of the error, with ``user`` if the input is
        wrong, ``memory``, that text where a GPU's memory is too small, ``storage``, the message of a file that cannot
        be read or written, or ``halt``, that of a GPU that cannot be used. After an error that a worker raised, or
        where a worker hangs, it is not tried again.
    """
    # Ray Train's controller looks at the workers, and takes one result of each, at this interval (default: 2 s). Ray
    # reads the variable where a trainer is started and passes it on. It is not set when this module is imported: Ray
    # would then start new processes for all trials, instead of using those that started with the cluster. A value that
    # the user has set is kept.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    losses = 0
    while True:
        nodes = living_nodes()
        try:
            fitting = resources if not resources.most else as_many_as_fit(resources, config.train, wanted)
            trainer(config, cache, folder, fitting, callbacks, tested, known, keep_best).fit()
            return {}
        except WorkerGroupError as error:
            errors = error.worker_failures.values()
            if result := final_result(errors):
                return result
            grows = any(isinstance(each, WorkerError) and each.kind == "grows" for each in errors)
            losses += not grows and not lost_nodes(nodes)  # the loss of a node is no failure of the training
            wanted = resources.most
            if losses > MAX_RESTARTS:
                return {"error": f"a worker was lost {losses} times\n{error}"}
        except TrainingFailedError:
            return {"error": traceback.format_exc()}
        # The last of them may not have been reported.
        known = max(known, len(finished(folder, config)) - 1)


def trainer(
    config: TrialConfig, cache: Path, folder: Path, resources: Resources, callbacks: list[Any], tested: bool = False,
    known: int = 0, keep_best: bool = False,
) -> TorchTrainer:  # fmt: skip
    """Return a Ray trainer, data-parallel over ``resources.workers``; the arguments are those of `run`."""
    per_worker: dict[str, float] = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
    return TorchTrainer(
        _train_on_worker,
        train_loop_config={
            "config": config.tree(), "cache": str(cache), "folder": str(folder), "threads": resources.cpus,
            "tested": tested, "known": known, "keep_best": keep_best, "timeout": TIMEOUT,
            "resources": resources.tree(),
        },
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=resources.gpus > 0, resources_per_worker=per_worker
        ),
        torch_config=NodeAddressConfig(backend="nccl" if resources.gpus else "gloo", timeout_s=TIMEOUT),
        run_config=RunConfig(
            name="ray-train", storage_path=str(folder.resolve()), callbacks=callbacks,
            failure_config=FailureConfig(max_failures=0),  # `run` decides which failures are tried again
        ),
    )  # fmt: skip


def _train_on_worker(task: dict[str, Any]) -> None:
    torch.set_num_threads(task["threads"])
    device = rank_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL exchanges objects, and waits at barriers, on the current device
    folder = Path(task["folder"])
    rank, world = ray.train.get_context().get_world_rank(), ray.train.get_context().get_world_size()
    if rank == 0:
        record_group(folder)
    config, cache = TrialConfig.parse(task["config"]), Path(task["cache"])
    try:
        results = epochs(config, cache, folder, task["tested"], device, task["known"], task["keep_best"])
        growth = Growth(Resources.parse(task["resources"]), config.train, world)
        for result in results:
            ray.train.report(result | ({"workers": world} if growth.numbers else {}))
            if result["epoch"] < config.train.epochs and growth.is_due(rank):
                results.close()  # it waits for a checkpoint that is being written
                raise WorkerError("grows", f"there is room for more than {world} workers")
    except WorkerError:
        raise
    except Exception as error:
        failure = classified(error, rank, task["timeout"])
        if world == 1 and (result := final_result([failure])):
            ray.train.report(result)
            return
        # With several workers, the others wait for this one: raising makes Ray end them.
        if failure.kind == "lost":
            time.sleep(GRACE)
        raise failure from None


def train(config: TrialConfig, cache: Path, folder: Path, resources: Resources) -> Iterator[dict[str, Any]]:
    """Train on the workers of a Ray cluster, and yield the result of each epoch as `epochs` does.

    ``folder`` gets the weights of the last epoch and those of the best one (`vattn.training.best`).

    If ``folder`` has the checkpoint of an interrupted training, its results come first.

    Raises:
        UserError: ``folder`` belongs to another config, or a worker found that the input is wrong.
        StorageError: a worker cannot read or write a file.
        TrainingError: a worker failed.
    """
    done = finished(folder, config)
    for epoch in done:
        yield {"epoch": epoch.number, "metrics": epoch.metrics, "seconds": epoch.seconds}
    if (last := len(done)) == config.train.epochs:
        return
    results: Queue = Queue(actor_options={"num_cpus": 0})
    # In a process of its own: Ray Train would replace the SIGINT handler of this one, and after Ctrl-C its thread would
    # outlive the main thread and crash the process.
    driver = ray.remote(num_cpus=0, max_retries=0)(_drive).remote(
        config.tree(), cache, folder, resources, results, last
    )
    ended = False
    while not ended:
        ended = bool(ray.wait([driver], timeout=POLL_INTERVAL)[0])
        while not results.empty():
            result = results.get()
            _raise_failure(result)
            if result["epoch"] > last:  # the last epoch before a restart is reported again
                last = result["epoch"]
                yield result
    _raise_failure(ray.get(driver))


def _raise_failure(result: dict[str, Any]) -> None:
    if problem := result.get("storage") or result.get("halt"):
        raise StorageError(problem)
    if "memory" in result:
        raise TrainingError(f"{result['memory']}\n{SAVE_MEMORY}")
    if "user" in result:
        raise UserError(result["error"])
    if "error" in result:
        raise TrainingError(result["error"])


def _drive(
    tree: dict[str, Any], cache: Path, folder: Path, resources: Resources, results: Queue, known: int
) -> dict[str, Any]:
    return run(
        TrialConfig.parse(tree), cache, folder, resources, [_ReportForwarder(results)], known=known, keep_best=True
    )


class _ReportForwarder(UserCallback):
    """Puts each report of the workers into a queue; runs in the process of Ray Train's controller."""

    def __init__(self, results: Queue) -> None:
        self._results = results

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        self._results.put(metrics[0])
