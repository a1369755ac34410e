"""What a ledger says of one trial: its proposal, weights, similar trials, epochs, end and retrainings."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from search.analysis.certainty import certainty
from search.analysis.confirmation import Confirmation
from search.analysis.metrics import TEST
from search.analysis.pareto import Objectives
from search.ledger.events import Event, Failed, Proposed, Rejected, Stopped
from search.ledger.history import History, Trial
from search.report.why.comparisons import measured_after, rungs_of, similar_trials, standing
from search.report.why.front import place_on_front
from search.report.why.parts import End, Epoch, Inheritance, Proposal, Retrainings, Stop, Weights, Why
from search.report.wording.certainty import describe_pick
from search.report.wording.errors import first_line
from search.report.wording.trials import describe
from vattn.errors import UserError


def why(events: Iterable[Event], number: int) -> Why:
    """Return all that the events of a ledger say of the trial ``number``.

    A base or a retraining was not chosen among others, so it is compared with none. Raises UserError if there is no
    such trial.
    """
    events = list(events)
    history, before, at_end = _replay(events, number)
    if number not in history.trials and number not in history.extras:
        existing = f"there are 0 to {history.next_number - 1}" if history.trials else "none is proposed yet"
        raise UserError(f"no such trial in {history.name}", path=f"trial {number}", way_out=existing)
    objectives = history.objectives
    trial, is_own = history.trial(number), number in history.trials
    measured = [name for name in objectives if name not in trial.cost]
    sure = certainty(history, objectives)
    return Why(
        search=history.name,
        trial=number,
        confirms=trial.confirms,
        is_base=trial.base,
        objectives=objectives,
        measured=measured,
        state=trial.state,
        model=_describe(history, trial),
        metrics={name: trial.metrics[name] for name in [*objectives, *trial.cost] if name in trial.metrics},
        test={name: value for name in measured if (value := trial.metrics.get(TEST + name)) is not None},
        epoch=trial.epoch,
        epochs=trial.epochs,
        seconds=round(trial.seconds, 3),
        proposal=_proposal(events, history, before, number) if is_own else None,
        weights=_weights(history, trial),
        similar=similar_trials(history, trial, objectives) if is_own else None,
        reports=_epochs(history, trial, objectives),
        end=_end(events, at_end, trial, objectives),
        retrainings=_retrainings(history, trial, sure.confirmed),
        estimate=sure.estimates.get(number),
        certainty=next((describe_pick(sure, member) for member in sure.front if member.number == number), ""),
        front=place_on_front(history, trial, objectives) if is_own and trial.state == "finished" else None,
    )


def _replay(events: Sequence[Event], number: int) -> tuple[History, History, History]:
    """Return three histories: of the whole ledger, until the trial was proposed, and until it ended."""
    whole, before, at_end = History(), History(), History()
    proposed = ended = False
    for event in events:
        proposed = proposed or _proposes(event, number)
        whole.apply(event)
        if not proposed:
            before.apply(event)
        ended = ended or (number in whole.trials and whole.trials[number].end is not None)
        if not ended:
            at_end.apply(event)
    return whole, before, at_end


def _proposes(event: Event, number: int) -> bool:
    return isinstance(event, Proposed) and event.trial == number


def _describe(history: History, trial: Trial) -> str:
    """Return a trial's config in words; of a base or a retraining, the values that the search has varied too."""
    if trial.confirms is not None:
        return f"{describe(trial)}: {describe(replace(trial, confirms=None))}"
    if trial.base:
        # A base has no params, as no sampler chose it. The params of its heirs are what distinguishes it from others.
        heirs = [heir for heir in history.trials.values() if _without_mechanisms(heir) == _without_mechanisms(trial)]
        names = {name: None for heir in heirs for name in heir.params if name.startswith("model")}
        return describe(replace(trial, params=names))
    return describe(trial)


def _without_mechanisms(trial: Trial) -> dict[str, Any]:
    return {name: value for name, value in trial.config["model"].items() if name != "attention"}


def _proposal(events: Sequence[Event], history: History, before: History, number: int) -> Proposal:
    place = next(i for i, event in enumerate(events) if _proposes(event, number))
    proposal = events[place]
    assert isinstance(proposal, Proposed)
    previous = max((i for i, event in enumerate(events[:place]) if isinstance(event, Proposed)), default=-1)
    rejected = Counter(event.reason for event in events[previous + 1 : place] if isinstance(event, Rejected))
    return Proposal(
        reason=proposal.why,
        sampler=history.began.spec["search"]["sampler"]["kind"],
        trusted_searches=[source for source, guard in before.guards.items() if guard.trusted],
        known_trials={state: len(before.in_state(state)) for state in ("finished", "stopped", "running")},
        rejected_before=dict(rejected.most_common()),
        num_duplicates=sum(event.duplicate_of == number for event in history.rejected),
    )


def _weights(history: History, trial: Trial) -> Weights:
    inheritance = None
    if trial.inherits:
        source = trial.source
        model = None if source is None else _describe(history, history.trial(source))
        inheritance = Inheritance(source, model, trial.inherits.reason)
    return Weights(inheritance, [heir.number for heir in history.trials.values() if heir.source == trial.number])


def _epochs(history: History, trial: Trial, objectives: Objectives) -> list[Epoch]:
    """Return the epochs of a trial, each compared with all trials of the search that have reported it."""
    rungs, is_own = rungs_of(history), trial.number in history.trials
    return [
        Epoch(
            epoch=epoch,
            values=measured_after(trial, objectives, epoch),
            is_rung=is_own and epoch in rungs,
            standing=standing(history, trial, epoch, objectives) if is_own else None,
        )
        for epoch in range(1, trial.epoch + 1)
    ]


def _end(events: Sequence[Event], at_end: History, trial: Trial, objectives: Objectives) -> End:
    """Return how a trial ended; ``at_end`` is the history until then, with which a stopped trial is compared."""
    errors = [
        first_line(event.error)
        for event in events
        if isinstance(event, Failed) and event.trial == trial.number and not event.final
    ]
    error = stop = None
    match trial.end:
        case Failed(error=message):
            error = first_line(message)
        case Stopped(reason=reason):
            values = measured_after(trial, objectives, trial.epoch)
            stop = Stop(reason, values, standing(at_end, trial, trial.epoch, objectives))
    return End(len(trial.starts), errors, error, stop, trial.memory)


def _retrainings(history: History, trial: Trial, confirmed: Confirmation | None) -> Retrainings | None:
    """Return the trainings with fresh seeds of a finished trial, or of the trial that a retraining trains again."""
    retrained = trial if trial.confirms is None else history.trials[trial.confirms]
    has_any = any(extra.confirms is not None for extra in history.extras.values())
    if retrained.base or retrained.state != "finished" or not has_any:
        return None
    rows = {row.trial.number: row for row in confirmed.rows} if confirmed else {}
    return Retrainings(
        trial=retrained.number,
        is_confirmed=confirmed is not None,
        trainings=[(training.number, training.state) for training in retrained.retrainings],
        result=rows.get(retrained.number),
    )
