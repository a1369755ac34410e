"""The answer of `vattn why` as plain values for other programs."""

from typing import Any

from search.report.tables.confirmation import row_as_json
from search.report.why.parts import (
    End,
    Epoch,
    OffFront,
    OnFront,
    Proposal,
    Retrainings,
    SimilarTrial,
    SimilarTrials,
    Standing,
    TrialValues,
    Weights,
    Why,
)


def as_json(why: Why) -> dict[str, Any]:
    """Return a tree of plain values; its keys are an interface that other programs read."""
    return {
        "name": why.search,
        "trial": why.trial,
        "confirms": why.confirms,
        "base": why.is_base,
        "objectives": dict(why.objectives),
        "measured": list(why.measured),
        "state": why.state,
        "model": why.model,
        "metrics": dict(why.metrics),
        "test": dict(why.test),
        "epoch": why.epoch,
        "epochs": why.epochs,
        "seconds": why.seconds,
        "proposed": None if why.proposal is None else _proposal(why.proposal),
        "weights": _weights(why.weights),
        "nearest": {} if why.similar is None else _similar_trials(why.similar),
        "reports": [_epoch(epoch) for epoch in why.reports],
        "end": _end(why.end),
        "again": None if why.retrainings is None else _retrainings(why.retrainings),
        "front": None if why.front is None else _front(why.front),
    }


def _values(trial: TrialValues) -> dict[str, Any]:
    return {"trial": trial.trial, "state": trial.state, "values": dict(trial.values)}


def _proposal(proposal: Proposal) -> dict[str, Any]:
    return {
        "why": proposal.reason,
        "sampler": proposal.sampler,
        "believed": list(proposal.trusted_searches),
        "known": dict(proposal.known_trials),
        "rejected_before": dict(proposal.rejected_before),
        "twins": proposal.num_duplicates,
    }


def _weights(weights: Weights) -> dict[str, Any]:
    inheritance = weights.inheritance
    inherits = inheritance and {
        "source": inheritance.source, "model": inheritance.model, "reason": inheritance.reason,
    }  # fmt: skip
    return {"inherits": inherits, "heirs": list(weights.heirs)}


def _similar_trials(similar: SimilarTrials) -> dict[str, Any]:
    return {
        "earlier": [_similar_trial(trial) for trial in similar.earlier],
        "later": [_similar_trial(trial) for trial in similar.later],
    }


def _similar_trial(trial: SimilarTrial) -> dict[str, Any]:
    differs = {name: list(pair) for name, pair in trial.differences.items()}
    return _values(trial) | {"epoch": trial.epoch, "differs": differs}


def _standing(standing: Standing) -> dict[str, Any]:
    return {"of": standing.num_compared, "ahead": [_values(trial) for trial in standing.dominated_by]}


def _epoch(epoch: Epoch) -> dict[str, Any]:
    tree = {"epoch": epoch.epoch, "values": dict(epoch.values)}
    return tree if epoch.standing is None else tree | {"rung": epoch.is_rung} | _standing(epoch.standing)


def _end(end: End) -> dict[str, Any]:
    tree: dict[str, Any] = {"attempts": end.num_attempts, "retried": list(end.errors)}
    if memory := end.memory:
        names = ("alone", "recompute", "accumulate", "changes_result")
        tree["memory"] = {name: getattr(memory, name) for name in names}
    if end.error is not None:
        tree["error"] = end.error
    if end.stop is not None:
        tree |= {"reason": end.stop.reason, "values": dict(end.stop.values)} | _standing(end.stop.standing)
    return tree


def _retrainings(retrainings: Retrainings) -> dict[str, Any]:
    return {
        "trial": retrainings.trial,
        "confirmed": retrainings.is_confirmed,
        "trainings": [{"trial": number, "state": state} for number, state in retrainings.trainings],
        "fresh": None if retrainings.result is None else row_as_json(retrainings.result),
    }


def _front(front: OnFront | OffFront) -> dict[str, Any]:
    tree = {"confirmed": front.is_confirmed, "by": front.compared_by, "values": dict(front.values)}
    if isinstance(front, OffFront):
        ahead = [_values(trial) for trial in front.ahead]
        return tree | {"on": False, "ahead": ahead, "needs": dict(front.needs)}
    neighbours = {"cheaper": front.lower_cost, "dearer": front.higher_cost}
    return tree | {
        "on": True,
        "size": front.size,
        "share": front.share,
        "picks": list(front.picks),
        "neighbours": {name: _values(trial) for name, trial in neighbours.items() if trial},
    }
