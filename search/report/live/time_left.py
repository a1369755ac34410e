"""An estimate of the time that a running search still needs."""

from search.ledger.history import History


def seconds_left(history: History, elapsed: float) -> float | None:
    """Return the seconds that a search still needs after ``elapsed`` seconds; None while they cannot be estimated.

    For a budget of trials: the epochs of the trials to come, each as long as the mean of those that have ended (early
    stops included), times the mean seconds of an epoch, divided by the number of trials that run now. A budget of
    hours or GPU-hours that ends sooner limits this, but not while the front is being confirmed, which is not part of
    the budget.
    """
    budget = history.budget
    bounds = []
    if not any(trial.confirms is not None for trial in history.unfinished()):
        if hours := budget.get("hours"):
            bounds.append(max(0.0, 3600 * hours - elapsed))
        gpus = sum(trial.starts[-1].gpus for trial in history.running())
        if (gpu_hours := budget.get("gpu_hours")) and gpus:
            bounds.append(max(0.0, 3600 * gpu_hours - history.gpu_seconds) / gpus)
    reports = [report for trial in history.trials.values() for report in trial.reports]
    if (trials := budget.get("trials")) and reports:
        ended = history.in_state("finished", "stopped", "failed")
        sample = ended or list(history.trials.values())
        mean_epochs = sum(trial.epoch if ended else trial.epochs for trial in sample) / len(sample)
        epochs = max(0, trials - len(history.trials)) * mean_epochs
        for trial in history.unfinished():
            # A trial that is past the mean length is taken to run to its end, and so is a base or a retraining, which
            # no scheduler stops.
            may_stop = trial.number in history.trials and trial.epoch < mean_epochs
            epochs += (mean_epochs if may_stop else trial.epochs) - trial.epoch
        seconds = sum(report.seconds for report in reports) / len(reports)
        bounds.append(epochs * seconds / max(1, len(history.running())))
    return min(bounds, default=None)
