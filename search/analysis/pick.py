"""The rules by which a user picks one finished trial: ``knee``, ``best``, ``trial=ID`` or ``NAME<=X``."""

import re

from search.analysis.front import front_of, settled, values
from search.analysis.pareto import Objectives, knee
from search.analysis.states import counts
from search.ledger.history import History, Trial
from vattn.errors import UserError

#: by state: why a trial that is not finished cannot be picked
_UNFINISHED = {"stopped": "was stopped early", "proposed": "waits to be started"}


def pick(history: History, objectives: Objectives, rule: str) -> Trial:
    """Return the finished trial that ``rule`` picks.

    * ``knee``: the knee of the front, see `search.analysis.pareto.knee`;
    * ``best``: the best trial in the first objective;
    * ``trial=ID``: the trial with this number;
    * ``gflops<=X``, or any other metric or cost: among the trials with at most X, the best in the first objective that
      is not this one.

    Once the front has been confirmed, the metrics of confirmed trials are the means of their fresh seeds (`settled`).

    Raises UserError, naming the possible values, if the rule is unknown or no finished trial satisfies it.
    """
    if match := re.fullmatch(r"trial\s*=\s*(\d+)", rule.strip()):
        trial = _by_number(history, int(match[1]))
        confirmed = {trial.number: trial for trial in settled(history, objectives)}
        return confirmed.get(trial.number, trial)
    bound = re.fullmatch(r"(\w+)\s*<=\s*([-+.\deE]+)", rule.strip())
    if rule not in ("knee", "best") and not bound:
        raise UserError("must be knee, best, trial=ID or NAME<=X, such as gflops<=0.5", path="pick", found=repr(rule))
    candidates = front_of(history, objectives)
    if not candidates:
        raise UserError(
            f"no trial is finished yet ({counts(history)})", path=f"pick {rule}", way_out="wait, or resume the search"
        )
    if rule == "knee":
        return candidates[knee(values(candidates, objectives), list(objectives.values()))]
    if bound:
        candidates = _within(history.in_state("finished"), objectives, bound[1], bound[2])
    name = next((name for name in objectives if not bound or name != bound[1]), next(iter(objectives)))
    sign = 1 if objectives[name] == "max" else -1
    # Of equal trials the first one: candidates are in order of increasing cost.
    return max(candidates, key=lambda trial: sign * trial.metrics[name])


def _within(finished: list[Trial], objectives: Objectives, name: str, limit: str) -> list[Trial]:
    """Return the front of the trials with metric ``name`` at most ``limit``, in order of increasing cost."""
    path = f"pick {name}<={limit}"
    known = sorted(set.intersection(*(set(trial.metrics) for trial in finished)))
    if name not in known:
        raise UserError("no metric is named so", path=path, way_out=f"there are {', '.join(known)}")
    try:
        most = float(limit)
    except ValueError:
        raise UserError(f"{limit!r} is not a number", path=path) from None
    within = History(trials={trial.number: trial for trial in finished if trial.metrics[name] <= most})
    if candidates := front_of(within, objectives):
        return candidates
    least = min(trial.metrics[name] for trial in finished)
    raise UserError("no finished trial is within it", path=path, way_out=f"the least {name} is {least:.4g}")


def _by_number(history: History, number: int) -> Trial:
    trial = history.trials.get(number)
    if trial is not None and trial.state == "finished":
        return trial
    if trial is None:
        rule = "there is no such trial"
    else:
        state = _UNFINISHED.get(trial.state, f"is {trial.state}")
        rule = f"it {state} after {trial.epoch} epochs, with partial metrics"
    finished = ", ".join(str(trial.number) for trial in history.in_state("finished")) or "none yet"
    raise UserError(rule, path=f"pick trial={number}", way_out=f"finished are {finished}")
