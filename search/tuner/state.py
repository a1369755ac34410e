"""The main job: Ray Tune trains what the study proposes; the ledger hears of everything first."""

import json
import shutil
from pathlib import Path
from typing import Any, Protocol

from search.analysis.confirmation import plan
from search.ledger.events import Event
from search.ledger.file import Ledger
from search.ledger.history import EXHAUSTED, FAILING, LATE, Trial
from search.proposals.inheritance import base_of, nearest
from search.proposals.proposer import Proposer
from search.schedulers.base import Scheduler
from search.schedulers.frontier import Frontier
from search.schedulers.halving import Halving
from search.spec.schema import Spec
from search.tuner.late_decisions import overdue
from vattn.canonical import architecture_id, trial_id
from vattn.config import TrialConfig

#: a search whose first trials all fail, so many in a row, ends: something is wrong with all of them
HOPELESS = 5


class Projection(Protocol):
    """Something that follows the events, replayed ones first: the study, MLflow, the screen."""

    def apply(self, event: Event) -> None:
        """Take in one event."""


class Search:
    """One search as Ray Tune's callbacks drive it. All of its knowledge is the ledger's history."""

    def __init__(self, spec: Spec, output: Path, cache: Path, ledger: Ledger, projections: list[Projection]) -> None:
        self.spec, self.output, self.cache, self.ledger = spec, output.resolve(), cache, ledger
        self._proposer = Proposer(spec, output / "study.log", ledger)
        self._projections = [self._proposer, *projections]
        events = list(ledger.replay())
        for event in events:
            self._tell(event)
        self._waiting = [trial.number for trial in ledger.history.unfinished()]
        #: trials that may run at once; no more than that wait for others to end
        self.slots = 1
        self._plain = spec.trial_config(spec.space.plain()[1])
        self._scheduler = _scheduler(spec)
        self.reason = "budget"
        self.halt = ""  # why nothing can be written any more
        self._closed = False  # nothing further is proposed, though the budget may not be spent
        self._failures, self._succeeded = 0, False  # in this process
        self._overdue = overdue(events, self._scheduler) if self._scheduler else {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles itself for a resume of its own, which is never used."""
        return {}

    def record(self, event: str, **fields: Any) -> Event:
        """Write an event to the ledger, then tell everyone who follows it; where that fails, the search halts."""
        try:
            line = self.ledger.append(event, **fields)
            self._tell(line)
        except OSError as error:
            self.halt = self.halt or str(error)
            raise
        return line

    def _tell(self, event: Event) -> None:
        for projection in self._projections:
            projection.apply(event)

    def next_task(self) -> dict[str, Any] | None:
        """Return what the next trial is to do, of those left unfinished first; None: none can start now."""
        while not self.halt:
            for number in self._waiting:  # to which a base may be added meanwhile
                if self._prepare(number):
                    self._waiting.remove(number)
                    return self._task(number)
            if len(self._waiting) >= self.slots or not self._propose():
                return None
        return None

    def at_end(self) -> bool:
        """Whether nothing further can start, even when those that run have ended."""
        confirms = self.spec.search.confirm != "none"
        more = self._waiting or (confirms and self.ledger.history.in_state("proposed", "running"))
        return bool(self.halt) or not more

    def _propose(self) -> bool:
        """Propose a trial while there is budget, and behind the end of the last one what confirms the front."""
        if not self._closed and self._proposer.spent() < 1:
            if not self._succeeded and self._failures >= HOPELESS:
                self._closed, self.reason = True, FAILING
            elif (number := self._proposer.propose(self.record)) is not None:
                if not self._adopt(number):
                    self._waiting.append(number)
                return True
            else:
                self._closed, self.reason = True, LATE if self._proposer.late else EXHAUSTED
        return self._confirm()

    def _adopt(self, number: int) -> bool:
        """Give a new trial what a base came to that is the very same training; return whether there is one."""
        trial = self.ledger.history.trial(number)
        bases = [other for other in self.ledger.history.extras.values() if other.base and other.state == "finished"]
        twin = next((other for other in bases if other.identity == trial.identity), None)
        if twin is None:
            return False
        self.folder(number).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.folder(twin.number) / "model.pt", self.folder(number) / "model.pt")
        self.record("started", trial=number, epoch=0, gpus=0)
        for report in twin.reports:
            self.record("report", trial=number, **{key: report[key] for key in ("epoch", "metrics", "seconds")})
        self.record("finished", trial=number, epoch=twin.epoch, seconds=round(twin.seconds, 3))
        return True

    def _confirm(self) -> bool:
        confirm = self.spec.search.confirm
        if confirm == "none":
            return False
        planned = plan(self.ledger.history, self.spec.objectives, confirm.top, confirm.seeds)
        for trial, seed in planned:
            config = trial.config | {"train": trial.config["train"] | {"seed": seed}}
            number = self._record_extra(TrialConfig.parse(config), trial.cost, trial.params, confirms=trial.number)
            if trial.inherits:
                self.record("inherits", trial=number, **{key: trial.inherits[key] for key in ("source", "reason")})
        return bool(planned)

    def _record_extra(self, config: TrialConfig, cost: dict[str, float], params: dict[str, Any], **why: Any) -> int:
        """Propose a training that is no trial of the search, and return its number."""
        number = self.ledger.history.next_number
        self.record(
            "proposed", trial=number, params=params, config=config.tree(), identity=trial_id(config),
            architecture=architecture_id(config.model), cost=cost, **why,
        )  # fmt: skip
        self._waiting.append(number)
        return number

    def _prepare(self, number: int) -> bool:
        """Choose with whose weights a trial starts; return whether they are there."""
        trial, inherit = self.ledger.history.trial(number), self.spec.search.inherit
        if inherit == "none" or trial.inherits or number in self.ledger.history.extras:
            return True
        return self._choose_parent(trial) if inherit == "parent" else self._choose_base(trial)

    def _choose_parent(self, trial: Trial) -> bool:
        found = nearest(self.ledger.history, trial)
        if found is None:
            self.record("inherits", trial=trial.number, source=None, reason="no finished trial has this backbone")
        else:
            reason = f"the nearest finished trial; choices that differ: {found[1]}"
            self.record("inherits", trial=trial.number, source=found[0].number, reason=reason)
        return True

    def _choose_base(self, trial: Trial) -> bool:
        """Where nothing trains the base of a trial yet, that is proposed."""
        if not trial.config["model"]["attention"]:
            return True
        base = base_of(TrialConfig.parse(trial.config), self._plain)
        identity = trial_id(base)
        known = [other for other in self._trainings() if other.identity == identity and other.state != "stopped"]
        if not known:
            self._record_extra(base, self.spec.cost(base), {}, base=True)
        elif source := next((other for other in known if other.state == "finished"), None):
            reason = "the same model without mechanisms"
            self.record("inherits", trial=trial.number, source=source.number, reason=reason)
        elif all(other.state == "failed" for other in known):
            self.record("inherits", trial=trial.number, source=None, reason="the training without mechanisms failed")
        return trial.inherits is not None

    def _trainings(self) -> list[Trial]:
        """All trainings but those of a fresh seed."""
        everyone = [*self.ledger.history.trials.values(), *self.ledger.history.extras.values()]
        return [trial for trial in everyone if trial.confirms is None]

    def reported(self, number: int, result: dict[str, Any]) -> bool:
        """Take in a result of a trial; return whether it ends here."""
        trial = self.ledger.history.trial(number)
        if trial.end is not None:
            return True
        if "halt" in result:
            self.halt = result["halt"]  # the trial has not ended: a resume takes it up
            return True
        if "error" in result:
            self._failures += 1
            self.record("failed", trial=number, error=result["error"], final=True)
            return True
        self._succeeded = True
        fresh = result["epoch"] == trial.epoch + 1
        if fresh:
            self.record("report", trial=number, **{key: result[key] for key in ("epoch", "metrics", "seconds")})
        elif result["epoch"] < trial.epoch:
            return False  # a trial that was taken up again tells its earlier epochs first
        if trial.epoch == trial.epochs:
            return self._end("finished", trial, seconds=round(trial.seconds, 3))
        # A base and a retraining run to their end; what was judged before a resume is not judged again.
        reason = self._overdue.pop(number, None)
        if fresh and self._scheduler and number in self.ledger.history.trials:
            reason = self._scheduler.verdict(self.ledger.history, number)
        return self._end("stopped", trial, reason=reason) if reason else False

    def _end(self, event: str, trial: Trial, **fields: Any) -> bool:
        """Record the end of a trial, which needs its checkpoint no more."""
        self.record(event, trial=trial.number, epoch=trial.epoch, **fields)
        (self.folder(trial.number) / "checkpoint.pt").unlink(missing_ok=True)
        return True

    def folder(self, number: int) -> Path:
        """Where a trial keeps its checkpoint and its trained weights."""
        return self.output / "trials" / f"{number:04d}"

    def _task(self, number: int) -> dict[str, Any]:
        trial = self.ledger.history.trial(number)
        config = trial.config
        if trial.source is not None:
            weights = self.folder(trial.source) / "model.pt"
            config = config | {"train": config["train"] | {"init": str(weights)}}
        text = json.dumps(config)  # Tune would flatten a tree
        return {
            "number": number, "config": text, "cache": str(self.cache), "folder": str(self.folder(number)),
            "tested": trial.confirms is not None,
        }  # fmt: skip


def _scheduler(spec: Spec) -> Scheduler | None:
    config = spec.search.scheduler
    match config.kind:
        case "none":
            return None
        case "halving":
            return Halving(config.min_epochs, config.reduction, spec.objectives)
        case "frontier":
            return Frontier(config.min_epochs, config.probability, spec.objectives, spec.measured[0])
