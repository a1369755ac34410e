"""What is tried next after a training lacked GPU memory: first what leaves its numbers as they are."""

from search.ledger.events import MemorySaved
from search.ledger.history import Trial
from vattn.config import TrialConfig
from vattn.training.memory import has_batch_norm


def next_measure(trial: Trial, gpus: float, workers: int, classes: int) -> MemorySaved | None:
    """Return how a training is tried next after it lacked memory; None if nothing is left.

    1. Alone on its GPU, if it shared one.
    2. Blocks compute their activations again in the backward pass. The numbers stay the same.
    3. Each worker processes its clips of a step in more and more parts (`train.accumulate`). Batch norm then normalises
       by the statistics of a part, so the result is that of another training.

    Args:
        trial: the training, with the measures so far.
        gpus: GPUs of a worker when it failed.
        workers: number of workers, which share each batch.
        classes: number of labels.
    """
    last = trial.memory or MemorySaved(trial=trial.number)
    config = TrialConfig.parse(trial.config)
    if 0 < gpus < 1:
        return last.model_copy(update={"alone": True, "time": 0.0})
    train = config.train
    # Blocks that are computed again cannot be compiled.
    if train.recompute == "none" and not last.recompute and train.compile == "none":
        return last.model_copy(update={"recompute": True, "time": 0.0})
    share, parts = train.batch // workers, max(last.accumulate, train.accumulate)
    # Synchronised norms need one part.
    more = [n for n in range(2 * parts, share + 1) if share % n == 0 and train.norm != "sync"]
    if not more:
        return None
    changes = has_batch_norm(config.model, classes)
    return last.model_copy(update={"accumulate": more[0], "changes_result": changes, "time": 0.0})
