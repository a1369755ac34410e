"""The answer of a search in a few sentences: what won, at what cost, how sure that is, and what made the difference."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.analysis.certainty import Certainty
from search.analysis.choices import Choice
from search.analysis.course import Moment
from search.analysis.equal_cost import Gain
from search.analysis.intervals import difference
from search.analysis.pareto import Objectives
from search.analysis.undecided import Undecided
from search.ledger.history import History, Trial
from search.report.page.advice import still_growing
from search.report.tables.confirmation import format_optimism
from search.report.wording.certainty import name_trials
from search.report.wording.states import describe_states
from search.report.wording.trials import describe, searched_values
from search.report.wording.undecided import describe_undecided
from search.report.wording.values import format_duration, format_estimate, format_gain, format_metric, format_value

#: costs as they are counted in a sentence
_UNITS = {
    "gflops": "GFLOPs", "gflops_video": "GFLOPs of a video", "params_m": "million parameters",
    "activation_mb": "MB of activations", "latency_ms": "ms",
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One number that matters, with what it is and what it belongs to."""

    label: str
    value: str
    detail: str
    trial: int | None = None


def cards(history: History, sure: Certainty, objectives: Objectives) -> list[Card]:
    """Return the best model, the knee, and the size of the search."""
    found = []
    for label, trial in (("Best", sure.best), ("Knee: most for its cost", sure.knee)):
        if trial is None or (label != "Best" and sure.best and trial.number == sure.best.number):
            continue
        estimate = format_estimate(sure.name, sure.estimates[trial.number])
        detail = f"{_costs(trial, objectives)} · {describe(trial)}"
        found.append(Card(f"{label} · trial {trial.number}", f"{sure.name} {estimate}", detail, trial.number))
    states = describe_states(history) or "no trial was started"
    duration = f"{format_duration(history.active)} h" if history.active >= 3600 else f"{history.active / 60:.0f} min"
    found.append(Card("Runs", f"{len(history.trials)}", f"{states} · {duration}"))
    return found


def costs_of(trial: Trial, objectives: Objectives) -> dict[str, float]:
    """Return the costs of a trial that are objectives; gflops if none is."""
    costs = {name: trial.cost[name] for name in objectives if name in trial.cost}
    return costs or {name: trial.cost[name] for name in list(trial.cost)[:1]}


def sentences(
    history: History, sure: Certainty, objectives: Objectives, clips: int | None,
    gains: Sequence[tuple[Choice, Gain]] | None, course: Sequence[Moment], left: Undecided | None = None,
) -> list[tuple[str, str]]:  # fmt: skip
    """Return pairs of a question in a word and its answer: won, sure, difference, what is undecided, search.

    ``gains`` are those at equal cost; None where they were not computed, of which nothing is said. ``left`` is what the
    search could not decide.
    """
    if sure.best is None or sure.knee is None:
        return [("Result", "No trial is finished yet.")]
    best, knee = sure.best, sure.knee
    found = [("What won", _won(sure, best, objectives))]
    if knee.number != best.number:
        found.append(("The knee", _knee(sure, best, knee, objectives)))
    found.append(("How sure", _sure(sure, best, clips)))
    if gains is not None:
        found.append(("What made the difference", _difference(sure, gains)))
    if left:
        found.append(
            ("What it could not decide", "\n".join(f"{line}." for line in describe_undecided(left, sure.name)))
        )
    if course:
        found.append(("Was it long enough", _course(course)))
    return found


def _won(sure: Certainty, best: Trial, objectives: Objectives) -> str:
    by = "by fresh seeds" if sure.is_confirmed else "in the search"
    estimate = format_estimate(sure.name, sure.estimates[best.number])
    return f"Trial {best.number}: {in_words(best)}. {sure.name} is {estimate} {by}, at {_costs(best, objectives)}."


def _knee(sure: Certainty, best: Trial, knee: Trial, objectives: Objectives) -> str:
    loss = difference(*(sure.estimates[trial.number] for trial in (best, knee)))
    ratios = [
        f"{value / knee.cost[name]:.2g} times fewer {_UNITS.get(name, name)}"
        for name, value in costs_of(best, objectives).items()
        if knee.cost.get(name)
    ]
    below = "a significant difference" if loss.excludes_zero else "which is not significant"
    return (
        f"Trial {knee.number}: {in_words(knee)}. It needs {' and '.join(ratios)} than the best "
        f"({_costs(knee, objectives)}), and gives up {format_gain(sure.name, loss).removeprefix('+')} of {sure.name}, "
        f"{below}."
    )


def _costs(trial: Trial, objectives: Objectives) -> str:
    return ", ".join(
        f"{format_metric(name, value)} {_UNITS.get(name, name)}" for name, value in costs_of(trial, objectives).items()
    )


def in_words(trial: Trial) -> str:
    """Return a model in plain words: its mechanisms with their stages, its backbone, frames, and other searched values.

    Such as "TSM in res2, res3, res5 of a resnet of depth 10, 4 frames, width 0.5".
    """
    model = trial.config["model"]
    modules = [
        module["kind"].upper()
        + (f" in {', '.join(f'res{n}' for n in module['stages'])}" if module.get("stages") else "")
        for module in model["attention"]
    ]
    backbone = model.get("backbone") or {}
    network = (
        f"a {backbone['kind']}" + (f" of depth {backbone['depth']}" if "depth" in backbone else "") if backbone else ""
    )
    values = searched_values(trial)
    searched = [
        f"{name.rpartition('.')[-1]} {format_value(value)}"
        for name, value in values.items()
        if "attention" not in name and name not in ("model.frames", "model.backbone.depth", "model.backbone.kind")
    ]
    mechanism = " and ".join(modules) or "no attention"
    where = f"{mechanism} {'of' if modules else 'in'} {network}" if network else mechanism
    return ", ".join([where, f"{model['frames']} frames", *searched])


def _sure(sure: Certainty, best: Trial, clips: int | None) -> str:
    parts = []
    if sure.confirmed:
        parts.append(
            "The front was trained again with fresh seeds; intervals hold for other seeds and other clips. Optimism of "
            f"the search, by which it showed its front too good: {format_optimism(sure.confirmed)}."
        )
    elif clips:
        parts.append(
            f"Each model was trained once and measured on {clips:,} clips; intervals (95 %) hold for other clips, not "
            "for other seeds."
        )
    else:
        parts.append("The number of clips is not recorded, and each model was trained once, so nothing is known.")
    known = [step for step in sure.steps if step.gain.is_known]
    if known:
        beyond = len(known) - len(sure.unsure)
        if len(known) == 1:
            parts.append(f"The one step along the front is {'' if beyond else 'not '}a significant gain.")
        else:
            parts.append(f"{beyond} of {len(known)} steps along the front are significant gains.")
    if rivals := sure.rivals.get(best.number):
        parts.append(f"At no higher cost, the best is not significantly different from {name_trials(rivals)}.")
    return " ".join(parts)


def _difference(sure: Certainty, gains: Sequence[tuple[Choice, Gain]]) -> str:
    """Return the greatest significant gains of one option over another, those with enough runs first."""
    beyond = [(choice, gain) for choice, gain in gains if gain.against and gain.gain.low > 0]
    beyond.sort(key=lambda pair: (pair[1].has_few_runs, -pair[1].gain.value))
    lines: list[str] = []
    named: set[tuple[str, bool]] = set()
    for choice, gain in beyond:
        if (choice.name, gain.has_few_runs) in named:
            continue
        named.add((choice.name, gain.has_few_runs))
        few = f", but only {gain.runs} run{'s' * (gain.runs > 1)} against {gain.others}" if gain.has_few_runs else ""
        lines.append(
            f"{choice.name}: {gain.option} over {gain.against} {format_gain(sure.name, gain.gain)} at equal cost{few}."
        )
    return "\n".join(lines[:4]) or "No choice made a significant difference at equal cost."


def _course(course: Sequence[Moment]) -> str:
    growth = still_growing(course)
    number = max(1, round(len(course) / 4))
    last = f"last {number} finished runs" if number > 1 else "last finished run"
    if growth is None:
        rose = [n for n in range(1, len(course)) if course[n].hypervolume > course[n - 1].hypervolume]
        at = course[rose[-1]] if rose else course[0]
        return (
            f"Probably: the {last} added less than 1 % to the hypervolume of the front; the last "
            f"gain was trial {at.trial}, number {at.finished} of {len(course)} finished runs."
        )
    return f"Not yet settled: the {last} added {100 * growth:.0f} % to the hypervolume of the front."
