"""A search as an Optuna study for other programs, such as optuna-dashboard."""

import warnings
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from search.analysis.certainty import measured_objective
from search.analysis.pareto import Objectives
from search.ledger.history import History, Trial
from search.samplers.shared.optuna_space import distributions, fixed_params
from spaces.space import Space

#: by state of a trial: that of Optuna; those without an end yet are left out
_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}


def study_of(history: History, objectives: Objectives, file: Path | None) -> optuna.Study:
    """Return the trials that have ended as a study, with the measured objective by epoch as intermediate values.

    Args:
        history: the search.
        objectives: those of the study.
        file: the journal to write anew; None: the study is kept in memory.
    """
    storage = None
    if file is not None:
        file.unlink(missing_ok=True)
        storage = JournalStorage(JournalFileBackend(str(file)))
    directions = [StudyDirection.MAXIMIZE if way == "max" else StudyDirection.MINIMIZE for way in objectives.values()]
    study = optuna.create_study(study_name=history.name, storage=storage, directions=directions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(objectives))
    space, name = Space(history.began.spec["trial"], ("trial",)), measured_objective(history, history.objectives)
    study.add_trials([
        _trial(trial, space, objectives, name) for trial in history.trials.values() if trial.state in _STATES
    ])  # fmt: skip
    return study


def _trial(trial: Trial, space: Space, objectives: Objectives, name: str) -> optuna.trial.FrozenTrial:
    state, known = _STATES[trial.state], distributions(space)
    params = fixed_params(space, trial.params)
    curve = {report.epoch: report.metrics[name] for report in trial.reports if name in report.metrics}
    return create_trial(
        state=state,
        values=[trial.metrics[objective] for objective in objectives] if state == TrialState.COMPLETE else None,
        params=params,
        distributions={key: known[key] for key in params},
        user_attrs={"trial": trial.number, **trial.cost},
        intermediate_values=curve,
    )
