"""Metrics, parameters and tags of an MLflow run, written in batches."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

#: metrics, and parameters, of one batch; MLflow's limits are 1000 entries in all, of which 100 parameters
_METRICS = 800
_PARAMS = 100

#: characters of a parameter or tag, which every version of MLflow takes
_TEXT = 500
_DESCRIPTION = 5000


def to_metrics(values: Mapping[str, float], at: int, step: int) -> "list[Metric]":
    """Return metrics at a time, in Unix milliseconds, and a step."""
    from mlflow.entities import Metric

    return [Metric(key, float(value), at, step) for key, value in values.items()]


def log_batch(
    client: "MlflowClient",
    run_id: str,
    metrics: "Sequence[Metric]" = (),
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> None:
    """Write to the run ``run_id`` in as few batches as MLflow allows, because each costs a database several commits.

    Within a batch MLflow writes parameters, metrics and tags in this order: the tag "logged" is never ahead of the
    metrics. A metric that is written again after a crash stays one row, as value, time and step are equal.
    """
    from mlflow.entities import Param, RunTag

    all_params = [Param(key, param_text(value)) for key, value in (params or {}).items()]
    all_tags = [RunTag(key, tag_text(value)) for key, value in (tags or {}).items()]
    batches = max(math.ceil(len(metrics) / _METRICS), math.ceil(len(all_params) / _PARAMS), bool(all_tags))
    for n in range(batches):
        client.log_batch(
            run_id,
            metrics[_METRICS * n : _METRICS * (n + 1)],
            all_params[_PARAMS * n : _PARAMS * (n + 1)],
            all_tags if n == batches - 1 else [],
        )


def param_text(value: Any) -> str:
    """Return the value of a parameter as it is written."""
    return str(value)[:_TEXT]


def tag_text(value: Any) -> str:
    """Return the value of a tag as it is written."""
    return str(value)[:_DESCRIPTION]
