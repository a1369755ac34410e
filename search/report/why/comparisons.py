"""How a trial compares with other trials of its search: in its config, and at each of its epochs."""

from collections.abc import Iterable

from search.analysis.pareto import Objectives, dominates
from search.ledger.history import History, Trial
from search.report.why.parts import SimilarTrial, SimilarTrials, Standing, TrialValues
from search.report.wording.trials import describe_mechanisms, searched_values
from search.report.wording.values import format_value
from search.schedulers import SchedulerConfig

#: number of similar trials before, and after, the explained one
NUM_SIMILAR = 2


def trial_values(trial: Trial, objectives: Objectives, epoch: int | None = None) -> TrialValues:
    """Return a trial with its objectives after ``epoch``, by default its last one."""
    metrics = trial.metrics if epoch is None else trial.cost | trial.reports[epoch - 1].metrics
    return TrialValues(trial.number, trial.state, {name: metrics[name] for name in objectives if name in metrics})


def measured_after(trial: Trial, objectives: Objectives, epoch: int) -> dict[str, float]:
    """Return the objectives that training measures, after ``epoch``."""
    values = trial_values(trial, objectives, epoch).values
    return {name: value for name, value in values.items() if name not in trial.cost}


def best_first(trials: list[TrialValues], objectives: Objectives) -> list[TrialValues]:
    """Return the trials in order of the first objective."""
    first, direction = next(iter(objectives.items()))
    sign = -1 if direction == "max" else 1
    return sorted(trials, key=lambda trial: sign * trial.values[first])


def standing(history: History, trial: Trial, epoch: int, objectives: Objectives) -> Standing:
    """Return how a trial compares after ``epoch`` with all trials of the search that have reported it."""
    own = trial_values(trial, objectives, epoch)
    compared = [trial_values(rival, objectives, epoch) for rival in history.trials.values() if rival.epoch >= epoch]
    dominating = [rival for rival in compared if dominates(rival.values, own.values, objectives)]
    return Standing(len(compared), best_first(dominating, objectives))


def rungs_of(history: History) -> set[int]:
    """Return the epochs after which the scheduler of a search compares trials at a rung; most kinds have none."""
    config = SchedulerConfig.read(history.began.spec["search"].get("scheduler", {"kind": "none"}))
    last = max(trial.epochs for trial in history.trials.values())
    return config.rungs(last) if config else set()


def similar_trials(history: History, trial: Trial, objectives: Objectives) -> SimilarTrials:
    """Return the `NUM_SIMILAR` trials before and after a trial whose configs differ from it in the fewest values."""
    before = [candidate for candidate in history.trials.values() if candidate.number < trial.number]
    after = [candidate for candidate in history.trials.values() if candidate.number > trial.number]
    return SimilarTrials(_most_similar(before, trial, objectives), _most_similar(after, trial, objectives))


def _most_similar(candidates: Iterable[Trial], trial: Trial, objectives: Objectives) -> list[SimilarTrial]:
    """Return the trials with the fewest differences; of equal ones, finished, longer and newer trials first."""
    pairs = [(candidate, _differences(trial, candidate)) for candidate in candidates]
    pairs.sort(key=lambda pair: (len(pair[1]), pair[0].state != "finished", -pair[0].epoch, -pair[0].number))
    return [
        SimilarTrial(
            similar.number,
            similar.state,
            trial_values(similar, objectives).values,
            epoch=similar.epoch,
            differences=differences,
        )
        for similar, differences in pairs[:NUM_SIMILAR]
    ]


def _differences(trial: Trial, candidate: Trial) -> dict[str, tuple[str, str]]:
    """Return where two configs differ, by name: the trial's value and the candidate's, in words.

    If the kinds of mechanisms differ, the mechanisms are one difference. Otherwise both trials have the same values.
    """
    own, theirs = searched_values(trial), searched_values(candidate)
    differences: dict[str, tuple[str, str]] = {}
    if own["attention"] != theirs["attention"]:
        differences["attention"] = (describe_mechanisms(trial), describe_mechanisms(candidate))
    for name in own.keys() & theirs.keys():
        if own[name] != theirs[name] and not ("attention" in differences and "attention" in name):
            differences[name] = (format_value(own[name]), format_value(theirs[name]))
    return dict(sorted(differences.items()))
