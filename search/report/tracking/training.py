"""MLflow: a search as one run with a child run a trial, rebuilt from the ledger wherever something is missing.

The only file that knows MLflow. It is a projection: nothing reads back what it writes, except to see what is there.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.report.tracking.projection import log_batch, to_metrics
from search.report.tracking.store import Store, warn

if TYPE_CHECKING:
    from vattn.base import Config


@contextmanager
def log_training(uri: str, config: "Config", output: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Log one training at full length as one run: its config as parameters, its metrics by epoch.

    Gives a function that takes results with epoch, metrics and seconds. The run of ``output`` is taken up again where
    an earlier process began it. Where MLflow cannot be reached, one warning is logged, and the training goes on.
    """
    place, store = output.resolve(), Store(output, uri, "train")
    try:
        client, experiment = store.connect()
        found = client.search_runs([experiment], f'tags.output = "{place}"', max_results=1)
        run = found[0] if found else client.create_run(experiment, tags={"output": str(place)}, run_name=place.name)
        known = {(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "seconds")}
        client.update_run(run.info.run_id, status="RUNNING")
        if not found:
            log_batch(client, run, params=flat(config.tree()))
    except Exception as error:  # a training is worth more than its record
        warn(store.uri, error, "the training goes on without it")
        yield lambda result: None
        return
    warned = False

    def tolerant(write: Callable[[], None]) -> None:
        nonlocal warned
        try:
            write()
        except Exception as error:
            if not warned:
                warn(store.uri, error, "the training goes on")
            warned = True

    def log(result: dict[str, Any]) -> None:
        if (result["epoch"], result["seconds"]) in known:
            return  # a training that goes on tells its earlier epochs first
        values = result["metrics"] | {"seconds": result["seconds"]}
        metrics = to_metrics(values, round(1000 * time.time()), result["epoch"])
        tolerant(lambda: log_batch(client, run, metrics=metrics))

    status = "KILLED"
    try:
        yield log
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        tolerant(lambda: client.set_terminated(run.info.run_id, status=status))


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of a tree by their paths, such as "model.attention.0.kind"; an empty list is a leaf."""
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    leaves = {k: v for key, value in items for k, v in flat(value, f"{path}.{key}" if path else str(key)).items()}
    return leaves or {path: tree}
