"""`vattn why`: what was decided about a trial, by what comparison, and what it is worth; from the ledger alone."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from search import confirm
from search.display import clock, first_line
from search.ledger import Event, History, Trial
from search.pareto import (
    RATES,
    Objectives,
    aligned,
    describe,
    dominates,
    front_of,
    hypervolume,
    mechanisms,
    pick,
    reference,
    searched,
    settled,
    shown,
    spec_of,
    values,
    worded,
)
from search.scheduler import is_rung

#: rows of the table of epochs, where there are more than twice as many; trials named in a comparison, and trials to
#: compare a config with
_ROWS, _NAMED, _NEAREST = 5, 3, 2
_WIDTH, _INDENT = 112, 10


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
        raise ValueError(f"trial {number}: no such trial in {history.search['name']}; {there}")
    objectives, _ = spec_of(history)
    trial, own = history.trial(number), number in history.trials
    earlier = [other for other in history.trials.values() if other.number < number]
    later = [other for other in history.trials.values() if other.number > number]
    measured = [name for name in objectives if name not in trial.cost]
    return {
        "name": history.search["name"],
        "trial": number,
        "confirms": trial.confirms,
        "base": trial.base,
        "objectives": dict(objectives),
        "measured": measured,
        "state": trial.state,
        "model": _described(history, trial),
        "metrics": {name: trial.metrics[name] for name in [*objectives, *trial.cost] if name in trial.metrics},
        "test": {name: value for name in measured if (value := trial.metrics.get(confirm.TEST + name)) is not None},
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
        "sampler": history.search["spec"]["search"]["sampler"]["kind"],
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
        for other, differences in told[:_NEAREST]
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
    scheduler = history.search["spec"]["search"].get("scheduler", {})
    if scheduler.get("kind") != "halving":
        return set()
    last = max(trial.epochs for trial in history.trials.values())
    return {n for n in range(1, last) if is_rung(n, scheduler["min_epochs"], scheduler["reduction"])}


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
    found = confirm.as_json(history, objectives)["confirmation"]
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
    at, ways = reference(finished, objectives, spec_of(history)[1]), list(objectives.values())
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


def render(found: Mapping[str, Any]) -> str:
    """Return what `answer` found, for people to read: a line or a few to each question."""
    numbers = _numbers(found["metrics"])
    if found["again"] and found["again"]["fresh"] and found["confirms"] is None:
        numbers = f"in the search: {numbers}"
    if found["test"]:
        numbers += f"; on the test split: {_numbers(found['test'])}"
    lines = [_headline(found), textwrap.indent(f"{found['model']}\n{numbers}", "  "), ""]
    parts = [
        ("proposed", _told_proposed(found)),
        ("weights", _told_weights(found["weights"])),
        ("nearest", _told_nearest(found)),
        ("epochs", _told_reports(found)),
        ("end", _told_end(found)),
        ("again", _told_again(found)),
        ("front", _told_front(found)),
    ]
    for label, said in parts:
        for line in said:
            lines += textwrap.wrap(line, _WIDTH, initial_indent=label.ljust(_INDENT), subsequent_indent=" " * _INDENT)
            label = ""
    return "\n".join(lines)


def _headline(found: Mapping[str, Any]) -> str:
    front = found["front"]
    place = ""
    if front:
        place = f", {'on' if front['on'] else 'not on'} the {'confirmed ' if front['confirmed'] else ''}front"
    picks = f", picked as {' and '.join(front['picks'])}" if front and front.get("picks") else ""
    state = f"trial {found['trial']} of {found['name']}: {_state(found['state'])}"
    if found["epoch"]:
        state += f" after {found['epoch']} of {found['epochs']} epochs, {clock(found['seconds'])} of training"
    return f"{state}{place}{picks}"


def _state(state: str) -> str:
    return {"stopped": "stopped early", "proposed": "waiting to be started"}.get(state, state)


def _numbers(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {shown(name, value)}" for name, value in values.items())


def _list(named: Sequence[Mapping[str, Any]]) -> str:
    """Return trials with their values, the first few."""
    told = [f"trial {one['trial']} ({_numbers(one['values'])})" for one in named[:_NAMED]]
    return ", ".join(told) + _more(len(named))


def _trials(numbers: Sequence[int]) -> str:
    """Return "trial 1" or "trials 1, 2", the first few."""
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:_NAMED]))}{_more(len(numbers))}"


def _more(count: int, what: str = "") -> str:
    return f" and {count - _NAMED} more {what}".rstrip() if count > _NAMED else ""


def _against(values: Mapping[str, float], mine: Mapping[str, float]) -> str:
    """Return another trial's values, and how they differ from this one's where those are to be compared with."""
    return ", ".join(
        f"{name} {shown(name, value)}" + (_change(name, mine[name], value) if name in mine else "")
        for name, value in values.items()
    )


def _told_proposed(found: Mapping[str, Any]) -> list[str]:
    if found["confirms"] is not None:
        return [f"to confirm trial {found['confirms']}: the same training with a seed that none of the search had"]
    if found["base"]:
        return ["as a base: what other trials are without their mechanisms, trained first, for them to begin with"]
    proposed = found["proposed"]
    lines = [_told_reason(proposed["why"], proposed["sampler"], found)]
    if known := ", ".join(f"{count} {state}" for state, count in proposed["known"].items() if count):
        lines[0] += f"; it knew of trials: {known}"
    if proposed["believed"]:
        lines[0] += f", and of earlier searches: {', '.join(proposed['believed'])}"
    if rejected := proposed["rejected_before"]:
        told = [f"{count} x {reason}" for reason, count in list(rejected.items())[:_NAMED]]
        lines.append(f"rejected just before it: {'; '.join(told)}{_more(len(rejected), 'reasons')}")
    if proposed["twins"]:
        lines.append(f"proposed again {_times(proposed['twins'])} later, and rejected as the same trial")
    return lines


def _told_reason(why: Mapping[str, Any] | None, sampler: str, found: Mapping[str, Any]) -> str:
    """Return who chose a config and why; nothing for a ledger of before this was written down."""
    match why:
        case None:
            return f"in a search by {sampler}"
        case {"plain": True}:
            return "as the plainest config of the space, a baseline to compare with"
        case {"chance": True}:
            return f"by chance: what the sampler {sampler} proposed was known or over a limit too often"
        case {"earlier": {"source": source, "trial": trial}}:
            return f"as it is on the front of an earlier search: {source}, trial {trial}"
        case _:
            return f"by the sampler {sampler}" + (f": {_reasons(why, found)}" if why else "")


def _reasons(why: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return the numbers by which a sampler decided, in words; those without words by their names."""
    if why.get("initial"):
        by = why["by"]
        where = f"the range of {by}" if by in found["objectives"] else f"small and large models, by {by}"
        return f"one of the first, which are spread over {where}: part {why['part']} of {why['parts']}"
    told, (measured, *_) = [], found["measured"]
    for name, value in why.items():
        match name:
            case "predicted_error":
                # Of a rate it is what that lacks of 1.
                rate = found["objectives"][measured] == "max"
                what = f"an error of {value:.1%}" if rate else f"a {measured} of {shown(measured, value)}"
                told.append(f"{what} was expected")
            case "spread":  # of the logarithm
                told.append(f"{math.exp(value):.{_decimals(math.expm1(value), 2)}f} times up or down")
            case "probability_of_front":
                told.append(f"on the front with probability {value:.0%}")
            case "expected_gain":
                told.append(f"expected gain in hypervolume {value:.3g}")
            case "pool":
                told.append(f"the best of {value:,} candidates")
            case "learnt_from":
                told.append(f"learnt from {value} trials")
            case "neglected":
                told.append(f"only what has {value} was weighed, the option that had been tried least")
            case _:
                told.append(f"{name} {worded(value)}")
    return ", ".join(told)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _told_weights(found: Mapping[str, Any]) -> list[str]:
    lines = []
    if inherits := found["inherits"]:
        source = f"with those of trial {inherits['source']} ({inherits['model']})"
        lines.append(f"it began {source if inherits['model'] else 'without those of another'}: {inherits['reason']}")
    if found["heirs"]:
        lines.append(f"{_trials(found['heirs'])} began with its weights")
    return lines


def _told_nearest(found: Mapping[str, Any]) -> list[str]:
    finished, lines = found["state"] == "finished", []
    for when, others in found["nearest"].items():
        for other in others:
            told = "; ".join(
                f"{theirs}, not {ours}" if name == "attention" else f"{name.rpartition('.')[-1]} {theirs}, not {ours}"
                for name, (ours, theirs) in other["differs"].items()
            )
            ended = other["state"] == "finished"
            state = "" if ended else f", {_state(other['state'])} at epoch {other['epoch']}"
            known = _against(other["values"], found["metrics"] if finished and ended else {})
            lines.append(f"{when} trial {other['trial']} has {told or 'another seed'}: {known}{state}")
    return lines


def _told_reports(found: Mapping[str, Any]) -> list[str]:
    """Return a table of epochs; of many the first, the last, the rungs, others in between."""
    reports, last = found["reports"], len(found["reports"]) - 1
    if not reports:
        return []
    chosen = {round(i * last / (_ROWS - 1)) for i in range(_ROWS)} if last >= 2 * _ROWS else set(range(last + 1))
    chosen |= {i for i, report in enumerate(reports) if report.get("rung")}
    names = found["measured"]
    ahead = "ahead at no more cost" if len(names) < len(found["objectives"]) else "ahead"
    rows = [["", *names, f"{ahead}, of all others that came as far" if "of" in reports[0] else ""]]
    for report in (reports[i] for i in sorted(chosen)):
        numbers = [shown(name, report["values"][name]) for name in names]
        rows.append([str(report["epoch"]), *numbers, _told_standing(report) if "of" in report else ""])
    return aligned(rows, right=len(names) + 1).splitlines()


def _told_standing(report: Mapping[str, Any]) -> str:
    ahead = [str(one["trial"]) for one in report["ahead"]]
    named = f": {', '.join(ahead[:_NAMED])}{_more(len(ahead))}" if ahead else ""
    return f"{len(ahead) or 'none'} of {report['of'] - 1}{named}{', at a rung' if report['rung'] else ''}"


def _told_end(found: Mapping[str, Any]) -> list[str]:
    end, lines = found["end"], []
    if end["retried"]:
        lines.append(f"was taken up again {_times(len(end['retried']))}, after: {end['retried'][-1]}")
    if found["state"] == "failed":
        lines.append(f"failed: {end['error']}")
    if found["state"] == "stopped":
        lines.append(f"stopped: {end['reason']}")
        lines.append(f"it had {_numbers(end['values'])}; ahead of it were {_list(end['ahead']) or 'none'}")
    return lines


def _told_again(found: Mapping[str, Any]) -> list[str]:
    """Return what fresh seeds said, beside what the search showed."""
    again = found["again"]
    if again is None:
        return []
    who = "it" if again["trial"] == found["trial"] else f"trial {again['trial']}"
    states, fresh = [one["state"] for one in again["trainings"]], again["fresh"]
    done, failed = states.count("finished"), states.count("failed")
    if not states:
        return [f"{who} was not trained again with fresh seeds: all its numbers are of one training, in the search"]
    trained = f"{who} was trained again, as {_trials([one['trial'] for one in again['trainings']])}"
    if failed:
        trained += f", of which {failed} failed"
    if not fresh:
        wait = "" if again["confirmed"] else "; until all of the front was trained again, it is that of the search"
        return [f"{trained}: {done} of {len(states)} fresh seeds are finished{wait}"]
    means = [
        f"{name} {confirm.with_reach(name, mean, _half(fresh['interval'][name]))} on average, "
        f"{shown(name, fresh['searched'][name])} in the search"
        for name, mean in fresh["mean"].items()
    ]
    lines = [f"{trained}; with {done} fresh seed{'s' if done > 1 else ''} it has {', and '.join(means)}"]
    if fresh["probability"] is not None:
        share = f"it belongs to the front with probability {fresh['probability']:.0%}"
        lines.append(f"± is a {confirm.LEVEL:.0%} interval; by that spread of seeds, {share}")
    test = {name: fresh["test"][name] for name in fresh["mean"] if name in fresh["test"]}
    if test:
        lines.append(f"on the test split, by which nothing was chosen: {_numbers(test)} on average")
    return lines


def _half(interval: Sequence[float] | None) -> float:
    return math.nan if interval is None else (interval[1] - interval[0]) / 2


def _told_front(found: Mapping[str, Any]) -> list[str]:
    front, objectives = found["front"], found["objectives"]
    if front is None:
        return []
    mine = front["values"]
    if not front["on"]:
        searched_only = front["confirmed"] and front["by"] == "search"
        if not front["ahead"] and searched_only and found["again"]["trainings"]:
            return ["not on it: none of its fresh seeds was finished"]
        if not front["ahead"]:
            return ["not on it: a value of it is not a finite number"]
        needs = ", or ".join(
            f"{name} {'above' if objectives[name] == 'max' else 'below'} {_needed(name, mine[name], value)}"
            for name, value in front["needs"].items()
        )
        verb = "are" if len(front["ahead"]) > 1 else "is"
        if searched_only:
            lines = [f"not on it, nor on the front of the search, where {_list(front['ahead'])} {verb} ahead"]
            return [*lines, f"to be on that, it would need {needs}"]
        by = "by fresh seeds " if front["confirmed"] else ""
        return [f"not on it: {by}{_list(front['ahead'])} {verb} ahead", f"to be on it, it would need {needs}"]
    share = 100 * front["share"]
    adds = f"{share:.{_decimals(share, 1)}f}% of the hypervolume is its alone"
    lines = [f"one of its {front['size']} points; {adds}" if front["size"] > 1 else "its only point"]
    for word, other in front["neighbours"].items():
        lines.append(f"the next {word} one is trial {other['trial']}: {_against(other['values'], mine)}")
    return lines


def _needed(name: str, mine: float, value: float) -> str:
    if math.isclose(mine, value):
        return f"its own {shown(name, mine)}"
    return shown(name, value) + _change(name, mine, value)


def _change(name: str, value: float, to: float) -> str:
    """Return the way from one value to another, in brackets: in points of percent, or in percent of the one."""
    if not (math.isfinite(value) and math.isfinite(to)):
        return ""
    if math.isclose(value, to):
        return " (equal)"
    if name in RATES:
        points = 100 * (to - value)
        return f" ({points:+.{_decimals(points, 1)}f} points)"
    if not value:
        return f" ({to:+.4g})"
    percent = 100 * (to - value) / value
    return f" ({percent:+.{_decimals(percent, 0)}f}%)"


def _decimals(value: float, least: int) -> int:
    """Return how many digits behind the point show that a number is not zero; of one by rounding, ``least``."""
    return max(least, -math.floor(math.log10(abs(value)))) if abs(value) > 1e-9 else least
