"""One training at full length, written to MLflow as one run."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.report.tracking.batches import log_batch, to_metrics
from search.report.tracking.store import Store, warn
from vattn.base import Config


@contextmanager
def log_training(uri: str, config: Config, output: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write one training as one run: its config as parameters, its metrics by epoch.

    Yield a function that takes results with epoch, metrics and seconds. A resumed training continues the run of its
    folder ``output``. Where MLflow cannot be reached, one warning is logged, and the training continues.
    """
    folder, store = output.resolve(), Store(output, uri, "train")
    try:
        client, experiment = store.connect()
        runs = client.search_runs([experiment], f'tags.output = "{folder}"', max_results=1)
        run = runs[0] if runs else client.create_run(experiment, tags={"output": str(folder)}, run_name=folder.name)
        written = {(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "seconds")}
        client.update_run(run.info.run_id, status="RUNNING")
        if not runs:
            log_batch(client, run.info.run_id, params=flat(config.tree()))
    except Exception as error:  # no error of MLflow may end a training
        warn(store.uri, error, "the training continues without it")
        yield lambda result: None
        return
    has_warned = False

    def tolerant(write: Callable[[], None]) -> None:
        nonlocal has_warned
        try:
            write()
        except Exception as error:
            if not has_warned:
                warn(store.uri, error, "the training continues")
            has_warned = True

    def log(result: dict[str, Any]) -> None:
        if (result["epoch"], result["seconds"]) in written:
            return  # a resumed training reports its earlier epochs again
        values = result["metrics"] | {"seconds": result["seconds"]}
        metrics = to_metrics(values, round(1000 * time.time()), result["epoch"])
        tolerant(lambda: log_batch(client, run.info.run_id, metrics=metrics))

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
