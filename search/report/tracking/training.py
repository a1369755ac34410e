"""One training at full length, written to MLflow as one run: in its own store, and beside the search it comes from."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.analysis.certainty import measured_objective
from search.ledger.history import History
from search.report.tracking.batches import log_batch, to_metrics
from search.report.tracking.store import PARENT, TAG_KIND, TAG_SEARCH, TAG_TRIAL, Store, store_of, warn
from search.report.tracking.texts import param_names, run_params, trial_tags
from search.report.wording.values import format_metric
from vattn.base import Config

#: A function that takes results with epoch, metrics and seconds.
Log = Callable[[dict[str, Any]], None]


@contextmanager
def log_training(uri: str, config: Config, output: Path) -> Iterator[Log]:
    """Write one training as one run: its config as parameters, its metrics by epoch.

    A resumed training continues the run of its folder ``output``. Where MLflow cannot be reached, one warning is
    logged, and the training continues.
    """
    with _log(Store(output, uri, "train"), output, {}, flat(config.tree()), lambda _: output.name) as log:
        yield log


@contextmanager
def log_beside(uri: str, output: Path, history: History, folder: Path, number: int) -> Iterator[Log]:
    """Write the training of an exported trial beside its search, with the parameters of the trial.

    Args:
        uri: the store of the search; auto: the database in its folder, if there is one.
        output: the folder of the training.
        history: the search.
        folder: its folder.
        number: the trial.
    """
    store, search, trial = store_of(history, folder, uri, "auto"), history.began.id, history.trials[number]
    if store.is_own and not (folder / "mlflow.db").is_file():  # the search wrote to a server
        yield lambda result: None
        return
    name = measured_objective(history, history.objectives)
    tags = trial_tags(trial) | {TAG_SEARCH: search, TAG_TRIAL: str(number), TAG_KIND: "training"}

    def title(result: dict[str, Any]) -> str:
        value = result.get("metrics", {}).get(name)
        words = ["training"] if value is None else [format_metric(name, value), f"trained {result['epoch']} epochs"]
        return " · ".join([*words, output.name, f"trial {number}"])

    with _log(store, output, tags, run_params(trial, param_names(history.began.spec)), title) as log:
        yield log


@contextmanager
def _log(
    store: Store, output: Path, tags: dict[str, str], params: dict[str, Any], title: Callable[[dict[str, Any]], str]
) -> Iterator[Log]:
    """Write a training to a store; ``title`` returns the name of the run after the last result, or before any."""
    folder, search = output.resolve(), tags.get(TAG_SEARCH, "")
    try:
        client, experiment = store.connect(search)
        runs = client.search_runs([experiment], f'tags.output = "{folder}"', max_results=1)
        if search and not runs:
            parents = client.search_runs(
                [experiment], f"tags.{TAG_SEARCH} = '{search}' and tags.{TAG_KIND} = 'search'", max_results=1
            )
            tags |= {PARENT: parents[0].info.run_id} if parents else {}
        new = tags | {"output": str(folder)}
        run = runs[0] if runs else client.create_run(experiment, tags=new, run_name=title({}))
        written = {(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "seconds")}
        client.update_run(run.info.run_id, status="RUNNING")
        if not runs:
            log_batch(client, run.info.run_id, params=params)
    except Exception as error:  # no error of MLflow may end a training
        warn(store.uri, error, "the training continues without it")
        yield lambda result: None
        return
    has_warned, last = False, {}

    def tolerant(write: Callable[[], Any]) -> None:
        nonlocal has_warned
        try:
            write()
        except Exception as error:
            if not has_warned:
                warn(store.uri, error, "the training continues")
            has_warned = True

    def log(result: dict[str, Any]) -> None:
        nonlocal last
        last = result
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
        tolerant(lambda: client.update_run(run.info.run_id, name=title(last)))
        tolerant(lambda: client.set_terminated(run.info.run_id, status=status))


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of a tree by their paths, such as "model.attention.0.kind"; an empty list is a leaf."""
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    leaves = {k: v for key, value in items for k, v in flat(value, f"{path}.{key}" if path else str(key)).items()}
    return leaves or {path: tree}
