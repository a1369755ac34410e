"""All that a page shows of a search, computed from its history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.analysis.ablation import ablations
from search.analysis.certainty import Certainty, certainty
from search.analysis.choices import Choice, choices_of
from search.analysis.course import attempts, compute, moments
from search.analysis.equal_cost import Gain, gains
from search.analysis.front import front_of
from search.analysis.importance import Importances, importances
from search.analysis.intervals import num_clips
from search.analysis.metrics import RATES
from search.analysis.pareto import Objectives
from search.analysis.runs import Run, cost_objective, runs_of
from search.analysis.undecided import undecided
from search.ledger.history import History
from search.report.clips.tested import Tested, shown_gains
from search.report.page import tables
from search.report.page.advice import Advice, advice
from search.report.page.table import Table
from search.report.page.trials import axes, kinds_of, number, shown, trial_rows
from search.report.page.verdict import Card, cards, sentences
from search.report.plots.picture import AXIS_LABELS
from search.report.wording.certainty import measured_on
from search.report.wording.states import describe_states

#: the costs whose fronts stand side by side where a search has both
SIDE_BY_SIDE = ("gflops", "latency_ms")


@dataclass(frozen=True)
class Content:
    """What a page shows."""

    name: str
    state: str
    """such as "ended" or "running" """
    facts: list[str]
    """in a line below the title"""
    cards: list[Card]
    answers: list[tuple[str, str]]
    advice: list[Advice]
    tables: dict[str, list[Table]]
    """by section"""
    warnings: dict[str, str]
    """by section: what makes its numbers unsure"""
    data: dict[str, Any]
    """for the drawings, plain values"""
    only_front: bool = False
    """whether the page has the front and nothing else"""
    all_tables: list[Table] = field(default_factory=list)


def content(
    history: History, objectives: Objectives, run: str, tests: Sequence[Tested] = (), only_front: bool = False
) -> Content:
    """Return what a page shows of a search.

    Args:
        history: the search.
        objectives: the objectives by which it is judged.
        run: its folder or name, for commands.
        tests: results clip by clip.
        only_front: whether to show the front and nothing else, which takes a fraction of the time.
    """
    trials = list(history.trials.values())
    sure = certainty(history, objectives)
    spans, kinds = [] if only_front else attempts(history), kinds_of(history)
    runs = [] if only_front else runs_of(history, objectives)
    choices = [] if only_front else choices_of(history.began.spec, trials)
    maximise = objectives[sure.name] == "max"
    gained = [(choice, gain) for choice in choices for gain in gains(choice, runs, maximise)]
    left = None if only_front else undecided(history, objectives, sure.name, gained)
    course = moments(history, objectives, history.constraints)
    costs = trials[0].cost if trials else {}
    cost = cost_objective(objectives, costs)
    spent = {} if only_front else compute(history, {trial.number for trial in sure.front})
    found = importances(choices, runs, objectives, sure.name) if choices else None
    papers = [] if only_front else ablations(history, sure.name)
    sections = {"front": [tables.front_table(sure)] if sure.front else []}
    if not only_front:
        sections |= {
            "difference": [tables.gain_table(sure, gained, cost)] if gained else [],
            "importance": [tables.importance_table(found)] if found else [],
            "ablation": [tables.ablation_table(table, sure.name, n) for n, table in enumerate(papers, start=1)],
            "classes": tables.clip_tables(tests),
            "compute": [tables.compute_table(spent)] if spent else [],
            "runs": [tables.trials_table(history, sure)] if trials else [],
        }
    data: dict[str, Any] = {
        "measured": {"name": sure.name, "label": AXIS_LABELS.get(sure.name, sure.name), "maximise": maximise,
                     "rate": sure.name in RATES},
        "cost": cost,
        "costs": {name: AXIS_LABELS.get(name, name) for name in costs},
        "kinds": kinds,
        "trials": trial_rows(history, sure, runs, spans, kinds),
        "front": [trial.number for trial in sure.front],
        "fronts": _fronts(history, objectives, sure.name, costs),
        "picks": {rule: trial.number for rule, trial in sure.picks.items()},
        "confirmed": _confirmed(history, sure),
        "run": run,
    }  # fmt: skip
    if not only_front:
        data |= {
            "axes": axes(history),
            "gains": [_gain(choice, gain, sure.name) for choice, gain in gained],
            "choices": [_choice(choice, runs, sure.name) for choice in choices],
            "importance": list(found.shares.items()) if found else [],
            "course": [
                [m.trial, m.finished, round(m.seconds, 1), number(m.gpu_hours), number(m.hypervolume)] for m in course
            ],
            "clips": _clips(tests),
            "compute": [[purpose, *map(number, entry)] for purpose, entry in spent.items()],
            "extras": [
                {"n": n, "spans": [[s.lane, round(s.start, 1), round(s.end, 1)] for s in spans if s.trial == n],
                 "what": "base" if extra.base else f"trial {extra.confirms} again", "state": extra.state}
                for n, extra in history.extras.items()
            ],
        }  # fmt: skip
    return Content(
        name=history.name,
        state=_state(history),
        facts=_facts(history, objectives, sure),
        cards=cards(history, sure, objectives),
        answers=sentences(history, sure, objectives, num_clips(history), None if only_front else gained, course, left),
        advice=[] if only_front else advice(history, sure, choices, course, run),
        tables=sections,
        warnings={} if only_front else _warnings(found, runs),
        data=data,
        only_front=only_front,
        all_tables=[table for section in sections.values() for table in section],
    )


def _fronts(
    history: History, objectives: Objectives, measured: str, costs: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the front by GFLOPs alone and that by latency alone, where latency was measured."""
    if not set(SIDE_BY_SIDE) <= costs.keys():
        return []
    by_cost = {cost: front_of(history, {measured: objectives[measured], cost: "min"}) for cost in SIDE_BY_SIDE}
    return [{"cost": cost, "front": [trial.number for trial in front]} for cost, front in by_cost.items()]


def _state(history: History) -> str:
    if history.ended is not None:
        return "interrupted" if history.ended.reason == "interrupted" else f"ended: {history.ended.reason}"
    return "not ended" if history.unfinished() or not history.trials else "all runs have ended"


def _facts(history: History, objectives: Objectives, sure: Certainty) -> list[str]:
    facts = [describe_states(history) or "no trial was started"]
    facts.append("objectives: " + ", ".join(f"{name} {way}" for name, way in objectives.items()))
    limits = [
        f"{name} {word} {value:g}"
        for name, limit in history.constraints.items()
        for word, value in (("at least", (limit or {}).get("min")), ("at most", (limit or {}).get("max")))
        if value is not None
    ]
    facts += [f"limits: {', '.join(limits)}"] if limits else []
    if clips := num_clips(history):
        facts.append(measured_on(sure.name, clips))
    if kind := (next((trial.config.get("data") or {} for trial in history.trials.values()), {})).get("kind"):
        facts.append(f"data: {kind}")
    facts.append("front confirmed by fresh seeds" if sure.is_confirmed else "front of single trainings")
    return facts


def _warnings(found: Importances | None, runs: Sequence[Run]) -> dict[str, str]:
    warnings = {}
    if found and found.has_few_runs:
        warnings["importance"] = (
            f"Only {found.runs} runs, {found.forecasts} of them forecasts of stopped ones: importances are mostly "
            "chance. Trust the gains at equal cost and their intervals."
        )
    stopped = sum(run.is_forecast for run in runs)
    if stopped:
        warnings["difference"] = (
            f"{stopped} of {len(runs)} runs stopped early; the last value of such a run is forecast."
        )
    return warnings


def _confirmed(history: History, sure: Certainty) -> list[dict[str, Any]]:
    """Return the mean of fresh seeds of each trial that has some, with its interval."""
    if not sure.is_confirmed:
        return []
    rows = []
    for trial in history.trials.values():
        if trial.confirmed and trial.fresh and trial.number in sure.estimates:
            mean = sure.estimates[trial.number]
            ends = [shown(sure.name, value) for value in (mean.value, mean.low, mean.high)]
            rows.append(
                {"n": trial.number, "mean": ends, "seeds": [shown(sure.name, f[sure.name]) for f in trial.fresh]}
            )
    return rows


def _clips(tests: Sequence[Tested]) -> dict[str, Any] | None:
    """Return the gains by class of the last test over the first, and the accuracy by length of each; in percent."""
    if not tests:
        return None
    found = shown_gains(tests[0], tests[-1]) if len(tests) > 1 else []

    def percent(*values: float) -> list[float]:
        return [round(100 * value, 2) for value in values]

    return {
        "title": f"Classes that gain most: {tests[-1].name} over {tests[0].name}",
        "gains": [[name, *percent(a.value, b.value, gain.value, gain.low, gain.high)] for name, a, b, gain in found],
        "lengths": [
            [test.name, [[low, high, clips, *percent(e.value, e.low, e.high)] for low, high, clips, e in rows]]
            for test in tests
            if (rows := test.by_length())
        ],
    }


def _gain(choice: Choice, gain: Gain, name: str) -> dict[str, Any]:
    return {
        "choice": choice.name, "option": gain.option, "against": gain.against, "runs": gain.runs, "others": gain.others,
        "gain": [shown(name, value) for value in (gain.gain.value, gain.gain.low, gain.gain.high)],
        "few": gain.has_few_runs,
    }  # fmt: skip


def _choice(choice: Choice, runs: Sequence[Run], name: str) -> dict[str, Any]:
    """Return a choice with the runs of each option: cost, value, trial, whether it is a forecast."""
    by_option: list[list[Any]] = [[] for _ in choice.options]
    for run in sorted(runs, key=lambda run: run.cost):
        if run.trial.number in choice.taken:
            point = [number(run.cost), shown(name, run.value), run.trial.number, int(run.is_forecast)]
            by_option[choice.taken[run.trial.number]].append(point)
    return {"name": choice.name, "options": list(choice.options), "runs": by_option}
