"""The answer of `vattn why` as a text for people: a paragraph for each question."""

import math
import textwrap

from search.analysis.confirmation import Row
from search.analysis.intervals import LEVEL
from search.analysis.metrics import TEST
from search.report.tables.columns import align
from search.report.why.parts import End, OffFront, OnFront, SimilarTrial, Standing, Weights, Why
from search.report.why.phrases import (
    LISTED,
    and_more,
    change,
    compare,
    count_times,
    decimals,
    list_metrics,
    list_trials,
)
from search.report.why.reasons import describe_proposal
from search.report.wording.certainty import name_trials
from search.report.wording.states import describe_state
from search.report.wording.trials import describe_memory
from search.report.wording.values import format_duration, format_mean, format_metric, format_probability, format_range

#: epochs in the table of a long training, without the rungs; one of at least twice as many epochs is long
_ROWS = 5

#: characters of a line
_WIDTH = 112

#: characters of the column with the names of the paragraphs
_INDENT = 11

#: a space at which textwrap does not break a line
_NO_BREAK = "\N{NO-BREAK SPACE}"


def render(why: Why) -> str:
    """Return the text, in lines of at most 112 characters."""
    paragraphs = [
        ("proposed", describe_proposal(why)),
        ("weights", _weights(why.weights)),
        ("similar", _similar(why)),
        ("epochs", _epochs(why)),
        ("end", _end(why.end)),
        ("retrained", _retrainings(why)),
        ("front", _front(why)),
    ]
    lines = [_headline(why), textwrap.indent(f"{why.model}\n{_metrics(why)}", "  "), ""]
    for label, sentences in paragraphs:
        for n, sentence in enumerate(sentences):
            first = (label if n == 0 else "").ljust(_INDENT)
            # No line ends between a number and its percent sign.
            glued = sentence.replace(" %", f"{_NO_BREAK}%")
            lines += textwrap.wrap(glued, _WIDTH, initial_indent=first, subsequent_indent=" " * _INDENT)
    return "\n".join(lines).replace(_NO_BREAK, " ")


def _headline(why: Why) -> str:
    line = f"trial {why.trial} of {why.search}: {describe_state(why.state)}"
    if why.epoch:
        line += f" after {why.epoch} of {why.epochs} epochs, {format_duration(why.seconds)} of training"
    if why.front:
        place = "on" if isinstance(why.front, OnFront) else "not on"
        line += f", {place} the {'confirmed ' if why.front.is_confirmed else ''}front"
    if isinstance(why.front, OnFront) and why.front.picks:
        line += f", picked as {' and '.join(why.front.picks)}"
    return line


def _metrics(why: Why) -> str:
    metrics = list_metrics(why.metrics)
    is_confirmed = why.retrainings is not None and why.retrainings.result is not None
    if why.estimate is not None and why.estimate.is_known and not is_confirmed:
        name = why.measured[0]
        metrics += (
            f"; {name} is {format_range(name, why.estimate)} by the number of clips ({100 * LEVEL:.0f} % interval)"
        )
    if why.confirms is None and why.retrainings and why.retrainings.result:
        metrics = f"in the search: {metrics}"
    return metrics + (f"; on the test split: {list_metrics(why.test)}" if why.test else "")


def _weights(weights: Weights) -> list[str]:
    sentences = []
    if inheritance := weights.inheritance:
        source = "from scratch"
        if inheritance.source is not None:
            source = f"with the weights of trial {inheritance.source} ({inheritance.model})"
        sentences.append(f"started {source}: {inheritance.reason}")
    if weights.heirs:
        sentences.append(f"{name_trials(weights.heirs)} started with its weights")
    return sentences


def _similar(why: Why) -> list[str]:
    if why.similar is None:
        return []
    groups = {"earlier": why.similar.earlier, "later": why.similar.later}
    return [f"{when} {_similar_trial(trial, why)}" for when, trials in groups.items() for trial in trials]


def _similar_trial(trial: SimilarTrial, why: Why) -> str:
    """Return how a similar trial differs, and its metrics, with their differences if both trials are finished."""
    differences = "; ".join(
        f"{theirs} instead of {own}" if name == "attention" else f"{name.rpartition('.')[-1]} {theirs} instead of {own}"
        for name, (own, theirs) in trial.differences.items()
    )
    is_finished = trial.state == "finished"
    metrics = compare(trial.values, why.metrics if is_finished and why.state == "finished" else {})
    state = "" if is_finished else f", {describe_state(trial.state)}"
    state += f" after epoch {trial.epoch}" if trial.epoch and not is_finished else ""
    return f"trial {trial.trial} has {differences or 'another seed'}: {metrics}{state}"


def _epochs(why: Why) -> list[str]:
    """Return a table of epochs; of a long training the first, the last, some between, and the rungs."""
    reports, last = why.reports, len(why.reports) - 1
    if not reports:
        return []
    is_long = last >= 2 * _ROWS
    chosen = {round(n * last / (_ROWS - 1)) for n in range(_ROWS)} if is_long else set(range(last + 1))
    chosen |= {n for n, report in enumerate(reports) if report.is_rung}
    head = "dominated by (of the other trials that reached this epoch)" if reports[0].standing else ""
    rows = [["", *why.measured, head]]
    for report in (reports[n] for n in sorted(chosen)):
        values = [format_metric(name, report.values[name]) for name in why.measured]
        standing = _standing(report.standing) if report.standing else ""
        rows.append([str(report.epoch), *values, standing + (" (rung)" if report.is_rung else "")])
    return align(rows, right=len(why.measured) + 1).splitlines()


def _standing(standing: Standing) -> str:
    numbers = [str(trial.trial) for trial in standing.dominated_by]
    names = f": {', '.join(numbers[:LISTED])}{and_more(len(numbers))}" if numbers else ""
    return f"{len(numbers) or 'none'} of {standing.num_compared - 1}{names}"


def _end(end: End) -> list[str]:
    sentences = []
    if end.errors:
        sentences.append(f"restarted {count_times(len(end.errors))}, after: {end.errors[-1]}")
    if end.memory:
        sentences.append(f"the GPU had too little memory; since then trained {describe_memory(end.memory)}")
    if end.error is not None:
        sentences.append(f"failed: {end.error}")
    if end.stop is not None:
        dominating = list_trials(end.stop.standing.dominated_by) or "no trial"
        sentences.append(f"stopped: {end.stop.reason}")
        sentences.append(f"at that moment: {list_metrics(end.stop.values)}; dominated by {dominating}")
    return sentences


def _retrainings(why: Why) -> list[str]:
    """Return what fresh seeds show, beside what the search showed."""
    retrainings = why.retrainings
    if retrainings is None:
        return []
    if not retrainings.trainings:
        return ["not trained again with fresh seeds: all its numbers are of one training, that of the search"]
    numbers, states = zip(*retrainings.trainings, strict=True)
    sentence = f"trained again with {len(numbers)} fresh seed{'s' if len(numbers) > 1 else ''} ({name_trials(numbers)})"
    if retrainings.trial != why.trial:
        sentence = f"trial {retrainings.trial} was {sentence}"
    if num_failed := states.count("failed"):
        sentence += f", of which {num_failed} failed"
    if retrainings.result is None:
        sentence += f": {states.count('finished')} of {len(states)} finished"
        if not retrainings.is_confirmed:
            sentence += "; the front is that of the search until all of it has been trained again"
        return [sentence]
    return [f"{sentence}: {_means(retrainings.result)}", *_certainty(retrainings.result)]


def _means(row: Row) -> str:
    return ", ".join(
        f"mean {name} {format_mean(name, row.trial.metrics[name], half_width)} "
        f"({format_metric(name, row.searched[name])} in the search)"
        for name, half_width in row.half_width.items()
    )


def _certainty(row: Row) -> list[str]:
    """Return how sure the means are, and the means on the test split."""
    sentences = []
    if not math.isnan(row.probability):
        probability = (
            f"probability to be on the front, from the same spread of seeds: {format_probability(row.probability)}"
        )
        sentences.append(f"± is half of the {100 * LEVEL:.0f} % interval; {probability}")
    metrics = row.trial.metrics
    if test := {name: metrics[TEST + name] for name in row.half_width if TEST + name in metrics}:
        sentences.append(f"on the test split, which was not used for any choice: mean {list_metrics(test)}")
    return sentences


def _front(why: Why) -> list[str]:
    match why.front:
        case OnFront() as front:
            return _on_front(front) + ([f"how sure: {why.certainty}"] if why.certainty else [])
        case OffFront() as front:
            return _off_front(front, why)
        case None:
            return []


def _on_front(front: OnFront) -> list[str]:
    if front.size == 1:
        sentences = ["the only trial on the front"]
    else:
        share = 100 * front.share
        part = f"{share:.{decimals(share, 1)}f} % of the hypervolume"
        sentences = [f"one of {front.size} trials on the front; {part} is covered by this trial alone"]
    for where, trial in (("lower", front.lower_cost), ("higher", front.higher_cost)):
        if trial:
            sentences.append(f"next at {where} cost: trial {trial.trial}, {compare(trial.values, front.values)}")
    return sentences


def _off_front(front: OffFront, why: Why) -> list[str]:
    searched_only = front.is_confirmed and front.compared_by == "search"
    if not front.ahead:
        if searched_only and why.retrainings and why.retrainings.trainings:
            return ["not on it: none of its trainings with fresh seeds finished"]
        return ["not on it: an objective is not a finite number"]
    needs = ", or ".join(
        f"{name} {'above' if why.objectives[name] == 'max' else 'below'} {_needed(name, front.values[name], value)}"
        for name, value in front.needs.items()
    )
    verb = "are" if len(front.ahead) > 1 else "is"
    ahead = f"{list_trials(front.ahead)} {verb} at least as good in every objective"
    if searched_only:
        return [
            f"not on it, nor on the front by the metrics of the search: {ahead}",
            f"to be on the front of the search, it would need {needs}",
        ]
    by = "by fresh seeds, " if front.is_confirmed else ""
    return [f"not on it: {by}{ahead}", f"to be on it, it would need {needs}"]


def _needed(name: str, own: float, value: float) -> str:
    if math.isclose(own, value):
        return f"its own {format_metric(name, own)}"
    return format_metric(name, value) + change(name, own, value)
