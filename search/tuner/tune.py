"""The main job: Ray Tune trains what the study proposes; the ledger hears of everything first."""

import logging
import signal
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.train import Resources, release
from search.tuner.state import Search
from search.tuner.trainable import trainable

#: how often a trial whose process dies is taken up again, from its last checkpoint
RETRIES = 3


def tune_search(search: Search, joined: Callable[[], dict[str, float]]) -> None:
    """Run trials until the budget or the space is spent, or until it is interrupted.

    ``joined`` waits for the cluster, as `connecting` yields it. Raises ValueError where not even one trial fits that,
    OSError where a trial cannot write its checkpoint.
    """
    wanted = search.spec.resources
    resources = Resources(workers=wanted.workers, cpus=wanted.cpus, gpus=wanted.gpus)
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))  # Tune leaves its own behind
        concurrent = resources.concurrency(joined())
        if wanted.concurrent != "auto":
            concurrent = min(concurrent, wanted.concurrent)
        search.slots = concurrent
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # it misses the result files that we do not let it write
        tuner = tune.Tuner(
            trainable(resources),
            tune_config=TuneConfig(
                search_alg=_Proposals(search), scheduler=_Verdicts(search), num_samples=-1,
                max_concurrent_trials=concurrent, reuse_actors=wanted.workers == 1,
                trial_name_creator=_name, trial_dirname_creator=_name,
            ),
            run_config=RunConfig(
                name="tune", storage_path=str(search.output), callbacks=[_Bridge(search)], verbose=0,
                failure_config=FailureConfig(max_failures=RETRIES),
                # Our checkpoints are our own; a trial that fails to give Tune one could not hand its process on.
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            ),
        )  # fmt: skip
        try:
            tuner.fit()
        except Exception:
            if not search.halt:  # else it is what became of that on its way through Tune
                raise
    if search.halt:
        raise OSError(search.halt)


def _name(trial: TuneTrial) -> str:
    return f"{trial.config['number']:04d}"


class _Proposals(Searcher):
    """Hands Tune the search's tasks."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search

    def suggest(self, trial_id: str) -> Any:
        # None: Tune asks again while trials run.
        return self._search.next_task() or (Searcher.FINISHED if self._search.at_end() else None)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to do: the ledger knows already."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: the ledger alone decides a resume."""

    restore = save


class _Verdicts(FIFOScheduler):
    """Tells Tune whether a trial goes on."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        tree = trial_result(result)
        return TrialScheduler.STOP if self._search.reported(trial.config["number"], tree) else TrialScheduler.CONTINUE


def trial_result(flat: dict[str, Any]) -> dict[str, Any]:
    """Undo Tune's flattening ("metrics/top1") of a result."""
    metrics = {key.removeprefix("metrics/"): value for key, value in flat.items() if key.startswith("metrics/")}
    return {key: flat[key] for key in ("epoch", "seconds", "error", "halt") if key in flat} | {"metrics": metrics}


class _Bridge(Callback):
    """Records starts and failures, and gives back what the workers of an ended distributed trial still hold."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number = trial.config["number"]
        resources = self._search.spec.resources
        self._search.record(
            "started", trial=number, epoch=self._search.ledger.history.trial(number).epoch,
            gpus=resources.workers * resources.gpus,
        )  # fmt: skip

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._release(trial)

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._failed(trial, final=False)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._failed(trial, final=True)

    def _failed(self, trial: TuneTrial, final: bool) -> None:
        self._release(trial)
        if self._search.ledger.history.trial(trial.config["number"]).end is not None:
            return  # what was left of an ended trial died
        error = str(trial.get_error() or "its process died")
        self._search.record("failed", trial=trial.config["number"], error=error, final=final)

    def _release(self, trial: TuneTrial) -> None:
        release(self._search.folder(trial.config["number"]))
