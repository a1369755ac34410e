"""Inheritance (``search.inherit``): with the weights of which finished training a trial starts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from search.ledger.events import Event, Finished, Inherited, Proposed, Reported, Started
from search.ledger.history import History, Trial
from search.proposals.trainings import proposed
from search.spec.schema import Spec
from vattn.backbones import BackboneConfig
from vattn.canonical import trial_id
from vattn.config import TrialConfig
from vattn.model_config import AnyBackbone

_BACKBONE: TypeAdapter[BackboneConfig] = TypeAdapter(AnyBackbone)


@dataclass(frozen=True)
class Decision:
    """Whether a trial can start now, and an event that must be recorded first.

    The event is the source of the trial's weights, or the proposal of the base for which the trial waits.
    """

    ready: bool
    event: Inherited | Proposed | None = None


class Inheritance:
    """Chooses the source of the initial weights of each trial.

    ``none``: no source. ``parent``: the nearest finished trial (`nearest`). ``base``: a training of the same model
    without mechanisms (`base_of`). Trials with the same base share one training, which is proposed for the first of
    them and is not a trial of the search, unless the search proposes the same config itself.
    """

    def __init__(self, spec: Spec, history: History) -> None:
        self._spec, self._history = spec, history
        self._plain = spec.trial_config(spec.space.plain()[1])

    def decide(self, number: int) -> Decision:
        """Return whether a training can start, and the event to record."""
        trial, inherit = self._history.trial(number), self._spec.search.inherit
        if inherit == "none" or trial.inherits or number in self._history.extras:
            return Decision(ready=True)
        return self._from_parent(trial) if inherit == "parent" else self._from_base(trial)

    def _from_parent(self, trial: Trial) -> Decision:
        match nearest(self._history, trial):
            case None:
                source, reason = None, "no finished trial has this backbone"
            case parent, differing:
                source, reason = parent.number, f"the nearest finished trial; choices that differ: {differing}"
        return Decision(True, Inherited(trial=trial.number, source=source, reason=reason))

    def _from_base(self, trial: Trial) -> Decision:
        if not trial.config["model"]["attention"]:
            return Decision(ready=True)  # it is a base itself
        base = base_of(TrialConfig.parse(trial.config), self._plain)
        identity = trial_id(base)
        # A retraining has another seed than the base. A trial that was stopped early is trained again as a base.
        trainings = [*self._history.trials.values(), *self._history.extras.values()]
        bases = [t for t in trainings if t.confirms is None and t.identity == identity and t.state != "stopped"]
        if not bases:
            return Decision(False, proposed(self._history.next_number, base, self._spec.cost(base), {}, base=True))
        finished = next((known for known in bases if known.state == "finished"), None)
        if finished is not None:
            reason = "the same model without mechanisms"
            return Decision(True, Inherited(trial=trial.number, source=finished.number, reason=reason))
        if all(known.state == "failed" for known in bases):
            reason = "the training without mechanisms failed"
            return Decision(True, Inherited(trial=trial.number, source=None, reason=reason))
        return Decision(ready=False)


def base_of(config: TrialConfig, plain: TrialConfig) -> TrialConfig:
    """Return the training of the same model without mechanisms, with the data and train sections of ``plain``.

    Pixels are normalised as for ``config``, whose backbone may start from other weights than that of ``plain``.
    """
    data = plain.data.model_copy(update={"normalize": config.data.normalize})
    return plain.model_copy(update={"data": data, "model": config.model.model_copy(update={"attention": ()})})


def nearest(history: History, trial: Trial) -> tuple[Trial, int] | None:
    """Return the finished trial with the same backbone and the fewest differing choices, and the number of these.

    Of equally near trials it is the newest. A choice that only one of the two trials has counts as one difference.
    Return None if no finished trial has the same backbone.
    """
    backbone = _backbone(trial)
    candidates = [known for known in history.in_state("finished") if _backbone(known) == backbone]
    if not candidates:
        return None
    parent = min(candidates, key=lambda known: (_differing(trial.params, known.params), -known.number))
    return parent, _differing(trial.params, parent.params)


def _backbone(trial: Trial) -> BackboneConfig:
    """Return the config of a trial's backbone, with the defaults of options that were added since."""
    return _BACKBONE.validate_json(json.dumps(trial.config["model"]["backbone"]))


def _differing(params: Mapping[str, Any], others: Mapping[str, Any]) -> int:
    absent = object()
    return sum(params.get(name, absent) != others.get(name, absent) for name in params.keys() | others.keys())


def finished_base(history: History, number: int) -> Trial | None:
    """Return the finished base whose training is identical to that of a new trial; None if there is none."""
    identity = history.trial(number).identity
    bases = [trial for trial in history.extras.values() if trial.base and trial.state == "finished"]
    return next((base for base in bases if base.identity == identity), None)


def result_of(base: Trial, number: int) -> list[Event]:
    """Return the events that give the trial ``number`` the result of a base with the same identity."""
    return [
        Started(trial=number, epoch=0, gpus=0),
        *(Reported(trial=number, epoch=r.epoch, metrics=r.metrics, seconds=r.seconds) for r in base.reports),
        Finished(trial=number, epoch=base.epoch, seconds=round(base.seconds, 3)),
    ]
