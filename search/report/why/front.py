"""Where a finished trial stands to the front of its search: what it adds, or what keeps it off."""

from collections.abc import Sequence

from search.analysis.front import front_of, reference, settled, values
from search.analysis.pareto import Objectives, dominates, hypervolume
from search.analysis.pick import pick
from search.ledger.history import History, Trial
from search.report.why.comparisons import best_first, trial_values
from search.report.why.parts import OffFront, OnFront, TrialValues


def place_on_front(history: History, trial: Trial, objectives: Objectives) -> OnFront | OffFront:
    """Return what a finished trial adds to the front, or what keeps it off.

    If the front is confirmed, it is that of the means over fresh seeds. A trial without fresh seeds is compared by the
    metrics of the search, because these are too optimistic to be compared with means over fresh seeds.
    """
    fresh, finished, front = settled(history, objectives), history.in_state("finished"), front_of(history, objectives)
    own = next((retrained for retrained in fresh if retrained.number == trial.number), trial)
    own_values = trial_values(own, objectives).values
    if trial.number not in [member.number for member in front]:
        ahead = _ahead(own, finished if own is trial else fresh, objectives)
        return OffFront(
            is_confirmed=bool(fresh),
            compared_by="search" if own is trial else "fresh seeds",
            values=own_values,
            ahead=ahead,
            needs=_needs(ahead, objectives),
        )
    others = [member for member in front if member.number != trial.number]
    # Both hypervolumes have one reference, even if it depends on the trial itself.
    at, directions = reference(finished, objectives, history.constraints), list(objectives.values())
    whole, without = (hypervolume(values(trials, objectives), at, directions) for trials in (front, others))
    lower_cost, higher_cost = _neighbours(own, others, objectives)
    return OnFront(
        is_confirmed=bool(fresh),
        compared_by="search" if own is trial else "fresh seeds",
        values=own_values,
        size=len(front),
        share=(whole - without) / whole if whole else 0.0,
        picks=[rule for rule in ("best", "knee") if pick(history, objectives, rule).number == trial.number],
        lower_cost=lower_cost,
        higher_cost=higher_cost,
    )


def _ahead(trial: Trial, compared: Sequence[Trial], objectives: Objectives) -> list[TrialValues]:
    """Return the trials that keep one off the front: those that dominate it, and equal ones with a lower number."""
    own = trial_values(trial, objectives)
    rivals = [trial_values(rival, objectives) for rival in compared if rival.number != trial.number]
    ahead = [rival for rival in rivals if dominates(rival.values, own.values, objectives)]
    ahead += [rival for rival in rivals if rival.values == own.values and rival.trial < trial.number]
    return best_first(ahead, objectives)


def _needs(ahead: Sequence[TrialValues], objectives: Objectives) -> dict[str, float]:
    """Return by objective the best value of the trials ahead.

    To be better than that in one objective is enough for the front, because then none of them is ahead any more.
    """
    return {
        name: (max if direction == "max" else min)(rival.values[name] for rival in ahead)
        for name, direction in objectives.items()
        if ahead
    }


def _neighbours(
    trial: Trial, others: Sequence[Trial], objectives: Objectives
) -> tuple[TrialValues | None, TrialValues | None]:
    """Return the next trials of a front at lower and at higher cost, by the first cost among the objectives.

    Returns None where there is none, or no cost among the objectives.
    """
    cost = next((name for name in objectives if name in trial.cost), None)
    if cost is None:
        return None, None

    def cost_of(member: Trial) -> float:
        return member.cost[cost]

    lower = max((member for member in others if cost_of(member) < cost_of(trial)), key=cost_of, default=None)
    higher = min((member for member in others if cost_of(member) > cost_of(trial)), key=cost_of, default=None)
    return lower and trial_values(lower, objectives), higher and trial_values(higher, objectives)
