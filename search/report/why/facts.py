"""`vattn why`: what was decided about a trial, by what comparison, and what it is worth; from the ledger alone."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from search.analysis.confirmation import TEST
from search.analysis.front import front_of, pick, reference, settled, values
from search.analysis.pareto import Objectives, dominates, hypervolume
from search.ledger.events import Event
from search.ledger.history import History, Trial
from search.report import confirmation
from search.report.describe import describe, mechanisms, searched, worded
from search.report.words import first_line
from search.schedulers import SchedulerConfig

#: trials to compare a config with, on either side
NEAREST = 2


def answer(events: Iterable[Event], number: int) -> dict[str, Any]:
    """Return what a ledger knows of a trial, as plain values for machines; `render` puts it into words.

    Rates are fractions; seconds are those inside the epochs. A trial is "ahead" of another where it is nowhere worse
    in the objectives, cost included, and somewhere better. A base or a retraining was not chosen among others, so it is
    compared with none. Raises ValueError where there is no such trial.
    """
    events = list(events)
    history, before, at_end = _replayed(events, number)
    if number not in history.trials and number not in history.extras:
        there = f"there are 0 to {history.next_number - 1}" if history.trials else "none is proposed yet"
        raise ValueError(f"trial {number}: no such trial in {history.name}; {there}")
    objectives = history.objectives
    trial, own = history.trial(number), number in history.trials
    earlier = [other for other in history.trials.values() if other.number < number]
    later = [other for other in history.trials.values() if other.number > number]
    measured = [name for name in objectives if name not in trial.cost]
    return {
        "name": history.began.name,
        "trial": number,
        "confirms": trial.confirms,
        "base": trial.base,
        "objectives": dict(objectives),
        "measured": measured,
        "state": trial.state,
        "model": _described(history, trial),
        "metrics": {name: trial.metrics[name] for name in [*objectives, *trial.cost] if name in trial.metrics},
        "test": {name: value for name in measured if (value := trial.metrics.get(TEST + name)) is not None},
        "epoch": trial.epoch,
        "epochs": trial.epochs,
        "seconds": round(trial.seconds, 3),
        "proposed": _proposed(events, history, before, number) if own else None,
        "weights": _weights(history, trial),
        "nearest": {"earlier": _nearest(earlier, trial, objectives), "later": _nearest(later, trial, objectives)}
        if own
        else {},
        "reports": _reports(history, trial, objectives),
        "end": _end(events, at_end, trial, objectives),
        "again": _again(history, trial, objectives),
        "front": _front(history, trial, objectives) if own and trial.state == "finished" else None,
    }


def _replayed(events: Sequence[Event], number: int) -> tuple[History, History, History]:
    """Return the histories of the whole ledger, until the trial was proposed, and until it ended."""
    whole, before, at_end = History(), History(), History()
    proposed = ended = False
    for event in events:
        proposed = proposed or (event["event"] == "proposed" and event["trial"] == number)
        whole.apply(event)
        if not proposed:
            before.apply(event)
        ended = ended or (number in whole.trials and whole.trials[number].end is not None)
        if not ended:
            at_end.apply(event)
    return whole, before, at_end


def _described(history: History, trial: Trial) -> str:
    """Return a trial's config in words, that of a training which the search did not choose as well."""
    if trial.confirms is not None:
        return f"{describe(trial)}: {describe(replace(trial, confirms=None))}"
    if trial.base:
        # Nobody chose its values, so it has no params: what tells it from other bases was chosen for its heirs.
        heirs = [other for other in history.trials.values() if _without_mechanisms(other) == _without_mechanisms(trial)]
        names = {name: None for heir in heirs for name in heir.params if name.startswith("model")}
        return describe(replace(trial, params=names))
    return describe(trial)


def _without_mechanisms(trial: Trial) -> dict[str, Any]:
    return {name: value for name, value in trial.config["model"].items() if name != "attention"}


def _weights(history: History, trial: Trial) -> dict[str, Any]:
    """Return with whose weights a trial began and why, and which trials of the search began with its own."""
    found: dict[str, Any] = {"inherits": None}
    if trial.inherits:
        source = trial.source
        model = None if source is None else _described(history, history.trial(source))
        found["inherits"] = {"source": source, "model": model, "reason": trial.inherits["reason"]}
    return found | {"heirs": [other.number for other in history.trials.values() if other.source == trial.number]}


def _proposed(events: Sequence[Event], history: History, before: History, number: int) -> dict[str, Any]:
    """Return who proposed a trial for what reason, what was known, and what was rejected on the way to it."""
    place = next(i for i, e in enumerate(events) if e["event"] == "proposed" and e["trial"] == number)
    start = max((i for i, e in enumerate(events[:place]) if e["event"] == "proposed"), default=-1)
    rejected = Counter(e["reason"] for e in events[start + 1 : place] if e["event"] == "rejected")
    return {
        "why": events[place].get("why"),
        "sampler": history.began.spec["search"]["sampler"]["kind"],
        "believed": [source for source, guard in before.guards.items() if guard["trusted"]],
        "known": {state: len(before.in_state(state)) for state in ("finished", "stopped", "running")},
        "rejected_before": dict(rejected.most_common()),
        "twins": sum(event.get("duplicate_of") == number for event in history.rejected),
    }


def _nearest(others: Iterable[Trial], trial: Trial, objectives: Objectives) -> list[dict[str, Any]]:
    """Return the trials from which a trial differs in fewest values; of equally near ones those that tell most."""
    told = [(other, _differences(trial, other)) for other in others]
    told.sort(key=lambda pair: (len(pair[1]), pair[0].state != "finished", -pair[0].epoch, -pair[0].number))
    return [
        _named(other, objectives) | {"epoch": other.epoch, "differs": differences}
        for other, differences in told[:NEAREST]
    ]


def _differences(trial: Trial, other: Trial) -> dict[str, list[str]]:
    """Return where two configs differ: name -> [this trial's value, the other's], in words.

    What only one has, it has by its mechanisms: these are told as a whole then.
    """
    here, there = searched(trial), searched(other)
    found: dict[str, list[str]] = {}
    if here["attention"] != there["attention"]:
        found["attention"] = [mechanisms(trial), mechanisms(other)]
    for name in here.keys() & there.keys():
        if here[name] != there[name] and not ("attention" in found and "attention" in name):
            found[name] = [worded(here[name]), worded(there[name])]
    return dict(sorted(found.items()))


def _named(trial: Trial, objectives: Objectives, epoch: int | None = None) -> dict[str, Any]:
    """Return a trial's number, state and objectives, of its last epoch or of ``epoch``."""
    metrics = trial.metrics if epoch is None else trial.cost | trial.reports[epoch - 1]["metrics"]
    values = {name: metrics[name] for name in objectives if name in metrics}
    return {"trial": trial.number, "state": trial.state, "values": values}


def _reports(history: History, trial: Trial, objectives: Objectives) -> list[dict[str, Any]]:
    """Return the epochs of a trial, and how it stood in each among all trials that have come as far.

    Only a trial of the search is one of these, and judged at rungs.
    """
    rungs, own = _rungs(history), trial.number in history.trials
    return [
        {"epoch": epoch, "values": _measured(trial, objectives, epoch)}
        | ({"rung": epoch in rungs} | _standing(history, trial, epoch, objectives) if own else {})
        for epoch in range(1, trial.epoch + 1)
    ]


def _measured(trial: Trial, objectives: Objectives, epoch: int) -> dict[str, float]:
    """Return the objectives that training measures, after ``epoch``."""
    return {n: value for n, value in _named(trial, objectives, epoch)["values"].items() if n not in trial.cost}


def _rungs(history: History) -> set[int]:
    """Return the epochs at which the halving of a search judged its trials."""
    scheduler = history.began.spec["search"].get("scheduler", {"kind": "none"})
    last = max(trial.epochs for trial in history.trials.values())
    config = SchedulerConfig.read(scheduler)
    return config.rungs(last) if config else set()


def _standing(history: History, trial: Trial, epoch: int, objectives: Objectives) -> dict[str, Any]:
    """Return how many trials have reported ``epoch``, and which of them are ahead of a trial there, best first."""
    mine = _named(trial, objectives, epoch)
    there = [_named(other, objectives, epoch) for other in history.trials.values() if other.epoch >= epoch]
    ahead = [other for other in there if dominates(other["values"], mine["values"], objectives)]
    return {"of": len(there), "ahead": _best_first(ahead, objectives)}


def _best_first(named: list[dict[str, Any]], objectives: Objectives) -> list[dict[str, Any]]:
    first, direction = next(iter(objectives.items()))
    sign = -1 if direction == "max" else 1
    return sorted(named, key=lambda one: sign * one["values"][first])


def _end(events: Sequence[Event], at_end: History, trial: Trial, objectives: Objectives) -> dict[str, Any]:
    """Return how a trial ended: its reason or error, and for a stopped one those ahead of it at that moment."""
    failures = [e["error"] for e in events if e["event"] == "failed" and e["trial"] == trial.number and not e["final"]]
    found: dict[str, Any] = {"attempts": len(trial.starts), "retried": [first_line(error) for error in failures]}
    if trial.end is None:
        return found
    if trial.state == "failed":
        return found | {"error": first_line(trial.end["error"])}
    if trial.state == "stopped":
        found |= {"reason": trial.end["reason"], "values": _measured(trial, objectives, trial.epoch)}
        return found | _standing(at_end, trial, trial.epoch, objectives)
    return found


def _again(history: History, trial: Trial, objectives: Objectives) -> dict[str, Any] | None:
    """Return what trainings with fresh seeds tell of a finished trial, or of the one that a retraining is of.

    ``fresh`` is what `search.confirm` makes of them; None until all of them have ended, and the front is confirmed.
    None in a search without such trainings.
    """
    of = trial if trial.confirms is None else history.trials[trial.confirms]
    if of.base or of.state != "finished" or all(other.confirms is None for other in history.extras.values()):
        return None
    found = confirmation.as_json(history, objectives)["confirmation"]
    models = {model["trial"]: model for model in found["models"]} if found else {}
    return {
        "trial": of.number,
        "confirmed": found is not None,
        "trainings": [{"trial": one.number, "state": one.state} for one in of.retrainings],
        "fresh": models.get(of.number),
    }


def _front(history: History, trial: Trial, objectives: Objectives) -> dict[str, Any]:
    """Return whether a finished trial is on the front; by what it is beaten and how far, or what it adds.

    Of a confirmed search it is the front by fresh seeds. A trial that has none is compared as the search did, ``by``
    the numbers of the search, for these are too good to be compared with means of fresh seeds.
    """
    fresh, finished, front = settled(history, objectives), history.in_state("finished"), front_of(history, objectives)
    mine = next((other for other in fresh if other.number == trial.number), trial)
    by, compared = ("search", finished) if mine is trial else ("fresh seeds", fresh)
    found = {"confirmed": bool(fresh), "by": by, "values": _named(mine, objectives)["values"]}
    if trial.number not in [other.number for other in front]:
        return found | {"on": False} | _lacks(mine, compared, objectives)
    rest = [other for other in front if other.number != trial.number]
    # Both from one point, which the trial that is taken away may have a part in.
    at, ways = reference(finished, objectives, history.constraints), list(objectives.values())
    whole, without = (hypervolume(values(trials, objectives), at, ways) for trials in (front, rest))
    return found | {
        "on": True,
        "size": len(front),
        "share": (whole - without) / whole if whole else 0.0,
        "picks": [rule for rule in ("best", "knee") if pick(history, objectives, rule).number == trial.number],
        "neighbours": _neighbours(mine, rest, objectives),
    }


def _lacks(trial: Trial, compared: Sequence[Trial], objectives: Objectives) -> dict[str, Any]:
    """Return which trials are ahead of one that is not on their front, and what it would need to be on it."""
    mine = _named(trial, objectives)
    others = [_named(other, objectives) for other in compared if other.number != trial.number]
    ahead = [other for other in others if dominates(other["values"], mine["values"], objectives)]
    # Of equal ones the first is on the front.
    ahead += [other for other in others if other["values"] == mine["values"] and other["trial"] < trial.number]
    # To be better than all of these in one objective is enough: none of them is ahead any more.
    needs = {
        name: (max if direction == "max" else min)(other["values"][name] for other in ahead)
        for name, direction in objectives.items()
        if ahead
    }
    return {"ahead": _best_first(ahead, objectives), "needs": needs}


def _neighbours(trial: Trial, others: Sequence[Trial], objectives: Objectives) -> dict[str, dict[str, Any]]:
    """Return the next trials of a front by the first cost among the objectives; none without one."""
    cost = next((name for name in objectives if name in trial.cost), None)
    if cost is None:
        return {}
    cheaper = [other for other in others if other.cost[cost] < trial.cost[cost]]
    dearer = [other for other in others if other.cost[cost] > trial.cost[cost]]
    found = {}
    if cheaper:
        found["cheaper"] = _named(max(cheaper, key=lambda other: other.cost[cost]), objectives)
    if dearer:
        found["dearer"] = _named(min(dearer, key=lambda other: other.cost[cost]), objectives)
    return found
