"""The Optuna study of a search, as a projection of the ledger."""

import json
import random
import re
import warnings
from collections.abc import Hashable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import TrialState
from typing_extensions import override

from search.ledger.events import Event, Failed, Finished, Guarded, Measured, Proposed, Rejected, Stopped
from search.ledger.history import History
from search.proposals.latency import Latencies
from search.proposals.time_budget import spent
from search.proposals.warm_start import moved
from search.samplers import SearchContext
from search.samplers.shared.optuna_space import distributions, fixed_params, suggest
from search.spec.schema import Spec
from search.spec.sections import LATENCY, MODEL_COSTS
from spaces.space import Params, Tree
from vattn.files import writing

#: models whose cost is kept for samplers
MAX_COSTS = 10_000
#: names of the ranges of the training
_OF_TRAINING = re.compile(r"train\b")


class Study:
    """An Optuna study that mirrors the ledger, and the sampler that learns from it.

    `apply` builds the study from events alone, whether they happen now or are replayed. The study is stored in the file
    ``storage``, which optuna-dashboard can open, and is written anew from the ledger at each start.

    Finished trials are COMPLETE. Trials that were stopped early are PRUNED, with their last metrics in the attribute
    ``partial``. Failed and rejected trials are FAIL. The attribute ``curve`` holds the measured objective after each
    epoch. Trials of a trusted earlier search are COMPLETE, with their accuracies moved to the level of this search, and
    have the attribute ``source``. Bases and retrainings are not in the study.

    Args:
        spec: the search.
        storage: the file, which is written anew.
        history: the history in the ledger.
        latencies: the latencies of the search; None if it measures none. The sampler is made once their forecast is.

    Raises ValueError if the space has a range from which no sampler can choose.
    """

    def __init__(self, spec: Spec, storage: Path, history: History, latencies: Latencies | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self._spec, self._storage, self._history, self._latencies = spec, storage, history, latencies
        self._context = SearchContext(
            spec.space,
            spec.objectives,
            spec.measured[0],
            self._cost_within_limits,
            lambda: spent(spec, history),
            spec.prior,
        )
        distributions(spec.space)
        self._costs: dict[Hashable, dict[str, float] | None] = {}  # of models that samplers asked for
        self._study = self._create()
        self._applied: list[Event] = []
        self._asked: optuna.Trial | None = None  # whose config is not recorded yet
        self._open: dict[int, optuna.Trial] = {}

    def _create(self) -> optuna.Study:
        self._storage.unlink(missing_ok=True)
        self._has_sampler = not (self._latencies and self._latencies.left())
        study = optuna.create_study(
            study_name=self._spec.name,
            storage=JournalStorage(_Journal(self._storage)),
            directions=[
                "maximize" if direction == "max" else "minimize" for direction in self._spec.objectives.values()
            ],
            sampler=self._sampler(attempts=0) if self._has_sampler else None,
        )
        study.set_metric_names(list(self._spec.objectives))
        return study

    def _sampler(self, attempts: int) -> BaseSampler:
        """Return the sampler of the proposal after ``attempts`` earlier ones; each has its own seed."""
        config = self._spec.search.sampler
        return config.build(self._context, seed=random.Random(f"{config.seed} {attempts}").randrange(2**31))

    def ask(self) -> tuple[Params, Tree]:
        """Return the params and the config that the sampler proposes; record them as proposed or rejected next."""
        if self._spec.search.sampler.keeps_state:
            for number, trial in self._open.items():
                self._set_curve(trial, number)
        else:
            self._study.sampler = self._sampler(len(self._history.trials) + len(self._history.rejected))
        self._asked = self._study.ask()
        return suggest(self._spec.space, self._asked)

    def fix(self, params: Params) -> None:
        """Add a trial with these params, which the sampler did not choose; record them next."""
        self._asked = self._fixed(params)

    def _fixed(self, params: Params) -> optuna.Trial:
        self._study.enqueue_trial(fixed_params(self._spec.space, params))
        trial = self._study.ask()
        self._spec.search.sampler.prepare_fixed(trial)
        suggest(self._spec.space, trial)
        return trial

    @property
    def why(self) -> dict[str, Any]:
        """The sampler's explanation of its last proposal; empty if it has none."""
        return getattr(self._study.sampler, "why", {})

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All trials of the study."""
        return self._study.get_trials(deepcopy=False)

    def apply(self, event: Event) -> None:
        """Update the study by an event of the ledger."""
        match event:
            case Guarded(trusted=False):
                # Optuna cannot delete trials, so the study is made anew without those of this earlier search.
                applied, self._applied = self._applied, []
                self._study = self._create()
                self._open.clear()
                for old in applied:
                    if not (isinstance(old, Guarded) and old.source == event.source):
                        self.apply(old)
            case Measured() if self._latencies and not self._has_sampler and not self._latencies.left():
                self._study.sampler, self._has_sampler = self._sampler(attempts=0), True
            case Guarded() | Proposed() | Rejected() | Finished() | Stopped() | Failed():
                self._applied.append(event)
                self._update(event)
            case _:
                pass

    def _update(self, event: Event) -> None:
        match event:
            case Guarded():
                self._add_earlier(event)
            case Proposed():
                trial = self._take(event.params)
                self._open[event.trial] = trial
                trial.set_user_attr("trial", event.trial)
                trial.set_user_attr("epochs", event.config["train"]["epochs"])
                if (predicted := (event.why or {}).get("predicted_error")) is not None:
                    trial.set_user_attr("predicted_error", predicted)
            case Rejected():
                trial = self._take(event.params)
                trial.set_user_attr("rejected", event.reason)
                self._study.tell(trial, state=TrialState.FAIL)
            case Finished():
                metrics = self._history.trials[event.trial].metrics
                trial = self._open.pop(event.trial)
                self._set_curve(trial, event.trial)
                self._study.tell(trial, [metrics[name] for name in self._spec.objectives])
            case Stopped():
                trial = self._open.pop(event.trial)
                self._set_curve(trial, event.trial)
                trial.set_user_attr("partial", self._history.trials[event.trial].reports[-1].metrics)
                trial.set_user_attr("epoch", event.epoch)
                self._study.tell(trial, state=TrialState.PRUNED)
            case Failed(final=True):
                trial = self._open.pop(event.trial)
                trial.set_user_attr("error", event.error)
                self._study.tell(trial, state=TrialState.FAIL)
            case _:
                pass

    def _take(self, params: Params) -> optuna.Trial:
        """Return the trial that was just asked for, or a new one with the params of a replayed event."""
        trial, self._asked = self._asked or self._fixed(params), None
        return trial

    def _add_earlier(self, event: Guarded) -> None:
        """Add the trials of an earlier search that is trusted now."""
        for earlier in self._history.warm[event.source].trials:
            trial = self._fixed(earlier.params)
            trial.set_user_attr("source", event.source)
            trial.set_user_attr("earlier", earlier.trial)
            values = moved(earlier.metrics, event.offset)
            self._study.tell(trial, [values[name] for name in self._spec.objectives])

    def _set_curve(self, trial: optuna.Trial, number: int) -> None:
        """Show the sampler what a trial has reported."""
        if curve := self._history.trials[number].curve(self._spec.measured[0]):
            trial.set_user_attr("curve", curve)

    def _cost_within_limits(self, params: Params) -> dict[str, float] | None:
        """Return the cost of a config as samplers know it, its latency by the forecast; None if it is over a limit.

        Only an objective adds the cost of a video to those of the model: the sampler learns from each cost, and a
        search whose objectives are others proposes the same configs as before there was this cost.
        """
        # The training has no influence, so that many configs have one model.
        key = tuple(item for item in params.items() if not _OF_TRAINING.match(item[0]))
        if key not in self._costs:
            if len(self._costs) == MAX_COSTS:
                self._costs.clear()
            self._costs[key] = self._count(params)
        return self._costs[key]

    def _count(self, params: Params) -> dict[str, float] | None:
        model, views = self._spec.subject(params)
        cost = self._spec.cost_of(model, views)
        if self._latencies:
            cost[LATENCY] = self._latencies.expected(model)
        if self._spec.broken_limits(cost):
            return None
        return {name: cost[name] for name in (*MODEL_COSTS, *self._spec.objectives) if name in cost}


class _Journal(BaseJournalBackend):
    """Optuna's journal in memory and in a file: without a lock or waiting for the disk, as the ledger has it all.

    What cannot be written is written by a later call, and a file that is gone is not made again: its disk may be gone.

    Raises StorageError, naming the file, where it cannot be made at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, 0
        self._logs: list[dict[str, Any]] = []
        self._unwritten = b""
        with writing(path, "make room"):
            path.write_bytes(b"")

    @override
    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return iter(self._logs[log_number_from:])

    @override
    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = [json.dumps(log, separators=(",", ":")).encode() for log in logs]
        self._logs += map(json.loads, lines)
        self._unwritten += b"".join(line + b"\n" for line in lines)
        with suppress(OSError), self._path.open("r+b", buffering=0) as file:
            file.seek(self._size)  # over what an earlier call wrote in part
            if file.write(self._unwritten) == len(self._unwritten):
                self._size, self._unwritten = self._size + len(self._unwritten), b""
