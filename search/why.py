"""`vattn why`: what was decided about a trial, by what comparison, and what it is worth; from the ledger alone."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
    in the objectives, cost included, and somewhere better. Raises ValueError where there is no such trial.
    """
    events = list(events)
    history, before, at_end = _replayed(events, number)
    if number in history.extras:
        raise ValueError(f"trial {number}: is none that the search chose: {describe(history.extras[number])}")
    if number not in history.trials:
        there = f"there are 0 to {len(history.trials) - 1}" if history.trials else "none is proposed yet"
        raise ValueError(f"trial {number}: no such trial in {history.search['name']}; {there}")
    objectives, _ = spec_of(history)
    trial = history.trials[number]
    return {
        "name": history.search["name"],
        "trial": number,
        "objectives": dict(objectives),
        "state": trial.state,
        "model": describe(trial),
        "metrics": {name: trial.metrics[name] for name in [*objectives, *trial.cost] if name in trial.metrics},
        "epoch": trial.epoch,
        "epochs": trial.epochs,
        "seconds": round(trial.seconds, 3),
        "proposed": _proposed(events, history, before, number),
        "nearest": {
            "earlier": _nearest(
                [other for other in history.trials.values() if other.number < number], trial, objectives
            ),
            "later": _nearest([other for other in history.trials.values() if other.number > number], trial, objectives),
        },
        "reports": _reports(history, trial, objectives),
        "end": _end(events, at_end, trial, objectives),
        "front": _front(history, trial, objectives) if trial.state == "finished" else None,
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
    """Return the epochs of a trial, and how it stood in each among all trials that have come as far."""
    rungs = _rungs(history)
    return [
        {"epoch": epoch, "rung": epoch in rungs} | _standing(history, trial, epoch, objectives)
        for epoch in range(1, trial.epoch + 1)
    ]


def _rungs(history: History) -> set[int]:
    """Return the epochs at which the halving of a search judged its trials."""
    scheduler = history.search["spec"]["search"].get("scheduler", {})
    if scheduler.get("kind") != "halving":
        return set()
    last = max(trial.epochs for trial in history.trials.values())
    return {n for n in range(1, last) if is_rung(n, scheduler["min_epochs"], scheduler["reduction"])}


def _standing(history: History, trial: Trial, epoch: int, objectives: Objectives) -> dict[str, Any]:
    """Return a trial's values after ``epoch``, how many have reported it, and which of them are ahead, best first."""
    mine = _named(trial, objectives, epoch)
    there = [_named(other, objectives, epoch) for other in history.trials.values() if other.epoch >= epoch]
    ahead = [other for other in there if dominates(other["values"], mine["values"], objectives)]
    trained = {name: value for name, value in mine["values"].items() if name not in trial.cost}
    return {"values": trained, "of": len(there), "ahead": _best_first(ahead, objectives)}


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
        return found | {"reason": trial.end["reason"]} | _standing(at_end, trial, trial.epoch, objectives)
    return found


def _front(history: History, trial: Trial, objectives: Objectives) -> dict[str, Any]:
    """Return whether a finished trial is on the front; by what it is beaten and how far, or what it adds."""
    front = front_of(history, objectives)
    if trial not in front:
        mine = _named(trial, objectives)
        others = [_named(other, objectives) for other in history.in_state("finished") if other is not trial]
        ahead = [other for other in others if dominates(other["values"], mine["values"], objectives)]
        # Of equal ones the first is on the front.
        ahead += [other for other in others if other["values"] == mine["values"] and other["trial"] < trial.number]
        # To be better than all of these in one objective is enough: none of them is ahead any more.
        needs = {
            name: (max if direction == "max" else min)(other["values"][name] for other in ahead)
            for name, direction in objectives.items()
            if ahead
        }
        return {"on": False, "ahead": _best_first(ahead, objectives), "needs": needs}
    finished, place = history.in_state("finished"), front.index(trial)
    # Both from one point, which the trial that is taken away may have a part in.
    at, ways = reference(finished, objectives, spec_of(history)[1]), list(objectives.values())
    whole, rest = (
        hypervolume(values(trials, objectives), at, ways)
        for trials in (front, [other for other in front if other is not trial])
    )
    around = [("cheaper", place - 1), ("dearer", place + 1)] if "min" in objectives.values() else []
    return {
        "on": True,
        "size": len(front),
        "share": (whole - rest) / whole if whole else 0.0,
        "picks": [rule for rule in ("best", "knee") if pick(history, objectives, rule) is trial],
        "neighbours": {word: _named(front[i], objectives) for word, i in around if 0 <= i < len(front)},
    }


def render(found: Mapping[str, Any]) -> str:
    """Return what `answer` found, for people to read: a line or a few to each question."""
    lines = [_headline(found), textwrap.indent(f"{found['model']}\n{_numbers(found['metrics'])}", "  "), ""]
    parts = [
        ("proposed", _told_proposed(found["proposed"])),
        ("nearest", _told_nearest(found)),
        ("epochs", _told_reports(found)),
        ("end", _told_end(found)),
        ("front", _told_front(found)),
    ]
    for label, said in parts:
        for line in said:
            lines += textwrap.wrap(line, _WIDTH, initial_indent=label.ljust(_INDENT), subsequent_indent=" " * _INDENT)
            label = ""
    return "\n".join(lines)


def _headline(found: Mapping[str, Any]) -> str:
    front = found["front"]
    place = "" if front is None else ", on the front" if front["on"] else ", not on the front"
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


def _more(count: int, what: str = "") -> str:
    return f" and {count - _NAMED} more {what}".rstrip() if count > _NAMED else ""


def _against(values: Mapping[str, float], mine: Mapping[str, float]) -> str:
    """Return another trial's values, and how they differ from this one's where those are to be compared with."""
    return ", ".join(
        f"{name} {shown(name, value)}" + (f" ({_change(name, mine[name], value)})" if name in mine else "")
        for name, value in values.items()
    )


def _told_proposed(found: Mapping[str, Any]) -> list[str]:
    lines = [_told_reason(found["why"], found["sampler"])]
    if known := ", ".join(f"{count} {state}" for state, count in found["known"].items() if count):
        lines[0] += f"; it knew of trials: {known}"
    if found["believed"]:
        lines[0] += f", and of earlier searches: {', '.join(found['believed'])}"
    if rejected := found["rejected_before"]:
        told = [f"{count} x {reason}" for reason, count in list(rejected.items())[:_NAMED]]
        lines.append(f"rejected just before it: {'; '.join(told)}{_more(len(rejected), 'reasons')}")
    if found["twins"]:
        lines.append(f"proposed again {_times(found['twins'])} later, and rejected as the same trial")
    return lines


def _told_reason(why: Mapping[str, Any] | None, sampler: str) -> str:
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
            return f"by the sampler {sampler}" + (f": {_reasons(why)}" if why else "")


def _reasons(why: Mapping[str, Any]) -> str:
    """Return the numbers by which a sampler decided, in words; those without words by their names."""
    if why.get("initial"):
        return f"one of the first, which are spread over the range of {why['by']}: part {why['part']} of {why['parts']}"
    told = []
    for name, value in why.items():
        match name:
            case "predicted_error":
                told.append(f"an error of {value:.1%} was expected")
            case "spread":  # of the logarithm
                told.append(f"{math.exp(value):.2f} times up or down")
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
    chosen |= {i for i, report in enumerate(reports) if report["rung"]}
    names = [name for name in found["objectives"] if name in reports[0]["values"]]
    rows = [["", *names, "ahead at no more cost, of all others that came as far"]]
    for report in (reports[i] for i in sorted(chosen)):
        numbers = [shown(name, report["values"][name]) for name in names]
        ahead = [str(one["trial"]) for one in report["ahead"]]
        named = f": {', '.join(ahead[:_NAMED])}{_more(len(ahead))}" if ahead else ""
        rung = ", at a rung" if report["rung"] else ""
        rows.append([str(report["epoch"]), *numbers, f"{len(ahead) or 'none'} of {report['of'] - 1}{named}{rung}"])
    return aligned(rows, right=len(names) + 1).splitlines()


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


def _told_front(found: Mapping[str, Any]) -> list[str]:
    front, mine, objectives = found["front"], found["metrics"], found["objectives"]
    if front is None:
        return []
    if not front["on"]:
        if not front["ahead"]:
            return ["not on it: a value of it is not a finite number"]
        needs = ", or ".join(
            f"{name} {'above' if objectives[name] == 'max' else 'below'} {shown(name, value)} "
            f"({_change(name, mine[name], value)})"
            for name, value in front["needs"].items()
        )
        verb = "are" if len(front["ahead"]) > 1 else "is"
        return [f"not on it: {_list(front['ahead'])} {verb} ahead", f"to be on it, it would need {needs}"]
    lines = [f"one of its {front['size']} points; {front['share']:.1%} of the hypervolume is its alone"]
    for word, other in front["neighbours"].items():
        lines.append(f"the next {word} one is trial {other['trial']}: {_against(other['values'], mine)}")
    return lines


def _change(name: str, value: float, to: float) -> str:
    """Return the way from one value to another: in points of percent, or in percent of the one."""
    if name in RATES:
        return f"{100 * (to - value):+.1f} points"
    return f"{(to - value) / value:+.0%}" if value else f"{to - value:+.4g}"
