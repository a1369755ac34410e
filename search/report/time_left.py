"""What a user sees while a search runs: a live table in a terminal, plain lines elsewhere, and a summary at the end."""

from search.ledger.history import History


def seconds_left(history: History, elapsed: float) -> float | None:
    """Return how long a search of ``elapsed`` seconds still needs for its budget; None while nothing tells.

    For a number of trials: the epochs of those to come, each trial as long as those that ended so far (early stops
    included), each epoch as long as those so far, as many side by side as now. Where a time limit comes sooner, that.
    What confirms the front comes on top, once it has begun.
    """
    budget = history.budget
    bounds = []
    if not any(trial.confirms is not None for trial in history.unfinished()):
        if hours := budget.get("hours"):
            bounds.append(max(0.0, 3600 * hours - elapsed))
        gpus = sum(trial.starts[-1].get("gpus", 0) for trial in history.running())
        if (gpu_hours := budget.get("gpu_hours")) and gpus:
            bounds.append(max(0.0, 3600 * gpu_hours - history.gpu_seconds) / gpus)
    reports = [report for trial in history.trials.values() for report in trial.reports]
    if (trials := budget.get("trials")) and reports:
        ended = history.in_state("finished", "stopped", "failed")
        sample = ended or list(history.trials.values())
        each = sum(trial.epoch if ended else trial.epochs for trial in sample) / len(sample)
        epochs = max(0, trials - len(history.trials)) * each
        for trial in history.unfinished():
            # One that is past the length of most goes on to its end, as do those that no scheduler judges.
            stops = trial.number in history.trials and trial.epoch < each
            epochs += (each if stops else trial.epochs) - trial.epoch
        seconds = sum(report["seconds"] for report in reports) / len(reports)
        bounds.append(epochs * seconds / max(1, len(history.running())))
    return min(bounds, default=None)
