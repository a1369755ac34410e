"""The rules by which a user picks one finished trial: ``knee``, ``best``, ``trial=ID`` or ``NAME<=X``."""

import re

from search.analysis.front import front_of, settled, values
from search.analysis.pareto import Objectives, knee
from search.analysis.states import counts
from search.ledger.history import History, Trial


def pick(history: History, objectives: Objectives, rule: str) -> Trial:
    """Return the finished trial that ``rule`` names.

    ``knee``: see `knee`. ``best``: the best in the first objective. ``trial=ID``: that one. ``gflops<=X``, or any other
    metric or cost: the best in the first other objective among those within X. Of a front that was confirmed, trials
    have the means of their fresh seeds for metrics (`settled`).

    Raises ValueError, naming what there is, where no finished trial fits or the rule is none.
    """
    finished = history.in_state("finished")
    if match := re.fullmatch(r"trial\s*=\s*(\d+)", rule.strip()):
        trial = _by_number(history, int(match[1]))
        return next((other for other in settled(history, objectives) if other.number == trial.number), trial)
    bound = re.fullmatch(r"(\w+)\s*<=\s*([-+.\deE]+)", rule.strip())
    if rule not in ("knee", "best") and not bound:
        raise ValueError(f"pick: must be knee, best, trial=ID or NAME<=X, such as gflops<=0.5 (got {rule!r})")
    candidates = front_of(history, objectives)
    if not candidates:
        raise ValueError(f"pick {rule}: no trial is finished yet ({counts(history)}); wait, or resume the search")
    if rule == "knee":
        return candidates[knee(values(candidates, objectives), list(objectives.values()))]
    if bound:
        candidates = _within(finished, objectives, bound[1], bound[2])
    name = next((name for name in objectives if not bound or name != bound[1]), next(iter(objectives)))
    sign = 1 if objectives[name] == "max" else -1
    # Of equally good ones the first: the cheapest, for both lists are in that order.
    return max(candidates, key=lambda trial: sign * trial.metrics[name])


def _within(finished: list[Trial], objectives: Objectives, name: str, limit: str) -> list[Trial]:
    """Return the front among the trials with metric ``name`` at most ``limit``, cheapest first."""
    known = sorted(set.intersection(*(set(trial.metrics) for trial in finished)))
    if name not in known:
        raise ValueError(f"pick {name}<={limit}: no metric is named so; there are {', '.join(known)}")
    try:
        most = float(limit)
    except ValueError:
        raise ValueError(f"pick {name}<={limit}: {limit!r} is not a number") from None
    within = History(trials={trial.number: trial for trial in finished if trial.metrics[name] <= most})
    if candidates := front_of(within, objectives):
        return candidates
    least = min(trial.metrics[name] for trial in finished)
    raise ValueError(f"pick {name}<={limit}: no finished trial is within it; the least {name} is {least:.4g}")


def _by_number(history: History, number: int) -> Trial:
    finished = ", ".join(str(trial.number) for trial in history.in_state("finished")) or "none yet"
    trial = history.trials.get(number)
    if trial is None:
        raise ValueError(f"pick trial={number}: there is no such trial; finished are {finished}")
    if trial.state != "finished":
        state = {"stopped": "was stopped early", "proposed": "waits to be started"}.get(
            trial.state, f"is {trial.state}"
        )
        raise ValueError(
            f"pick trial={number}: it {state} after {trial.epoch} epochs, with partial metrics; finished are {finished}"
        )
    return trial
