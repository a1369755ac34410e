"""`vattn why`: what was decided about a trial, by what comparison, and what it is worth; from the ledger alone."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from search.analysis.confirmation import LEVEL
from search.analysis.metrics import RATES
from search.report.confirmation import with_reach
from search.report.describe import shown, worded
from search.report.table import aligned
from search.report.words import clock

#: rows of the table of epochs, where there are more than twice as many; trials named in a comparison, and trials to
#: compare a config with
_ROWS, _NAMED = 5, 3


_WIDTH, _INDENT = 112, 10


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
        f"{name} {with_reach(name, mean, _half(fresh['interval'][name]))} on average, "
        f"{shown(name, fresh['searched'][name])} in the search"
        for name, mean in fresh["mean"].items()
    ]
    lines = [f"{trained}; with {done} fresh seed{'s' if done > 1 else ''} it has {', and '.join(means)}"]
    if fresh["probability"] is not None:
        share = f"it belongs to the front with probability {fresh['probability']:.0%}"
        lines.append(f"± is a {LEVEL:.0%} interval; by that spread of seeds, {share}")
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
