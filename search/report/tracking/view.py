"""How MLflow's page shows a search: columns, order and charts, as a saved view of the experiment.

MLflow 3.17 keeps such views in tags of the experiment, and applies the one that a link names (`viewStateShareKey`) in
any browser, unless the link sets the order or a filter itself.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from search.analysis.certainty import first_measured
from search.analysis.runs import cost_objective
from search.ledger.history import History
from search.spec.sections import COSTS

#: tag that opens the experiment on its runs, not on the page for generative AI
KIND = {"mlflow.experimentKind": "custom_model_development"}

#: pixels of the column of names
_NAME_WIDTH = 460
#: and of each other column
_WIDTH = 90
#: parameters in the chart of choices
_AXES = 6
#: runs that a chart shows at most
_CHARTED = 100


def key_of(search: str) -> str:
    """Return the key of the view of a search."""
    return f"vattn-{search[:12]}"


def link(server: str, experiment: str, search: str) -> str:
    """Return the address of a search's runs on a server, without the name and password in its URL."""
    parts = urlsplit(server)
    base = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
    query = f"workflowType=machine_learning&viewStateShareKey={key_of(search)}"
    return f"{base.rstrip('/')}/#/experiments/{experiment}/runs?{query}"


def view(history: History, params: Mapping[str, None], is_alone: bool) -> dict[str, str]:
    """Return the view of a search as tags of its experiment.

    Args:
        history: the search.
        params: the names of its parameters.
        is_alone: whether the experiment has no other searches; else only the runs of this one are shown.
    """
    objectives = history.objectives
    # Before the first trial its costs are not known, but their names are.
    costs = next((trial.cost for trial in history.trials.values()), {str(name): 0.0 for name in COSTS})
    measured, cost = first_measured(objectives, costs), cost_objective(objectives, costs)
    metrics = list(dict.fromkeys([measured, *objectives, cost]))
    columns = [_column("metrics", name) for name in metrics]
    columns += [_column("tags", name) for name in ("rank", "front", "state", "mechanism", "stages", "trial")]
    name = _column("attributes", "Run Name")
    state = {
        "searchFilter": "" if is_alone else f"tags.search = '{history.began.id}'",
        "orderByKey": _column("metrics", measured),
        "orderByAsc": objectives[measured] == "min",
        "selectedColumns": columns,
        "columnOrder": [name, *columns],
        "columnWidths": {name: _NAME_WIDTH} | dict.fromkeys(columns, _WIDTH),
        "isAccordionReordered": True,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [_part("charts", name=history.name, display=True, isReordered=True)],
        "compareRunCharts": [
            _chart("front", "SCATTER", xaxis=_axis(cost), yaxis=_axis(measured), tooltipDataPoints=[]),
            _chart("curves", "LINE", metricKey=measured, selectedMetricKeys=[measured], xAxisKey="step"),
            _chart("choices", "PARALLEL", selectedParams=list(params)[:_AXES],
                   selectedMetrics=[cost, measured], showAllRuns=True),
        ],
    }  # fmt: skip
    saved_at = round(1000 * history.began.time)
    saved = {"name": f"{history.name} by {measured}", "createdAt": saved_at, "updatedAt": saved_at}
    return KIND | {
        f"mlflow.sharedViewState.{key_of(history.began.id)}": json.dumps(saved | {"state": json.dumps(state)})
    }


def _column(group: str, name: str) -> str:
    return f"{group}.`{name}`"


def _axis(metric: str) -> dict[str, str]:
    return {"key": metric, "type": "METRIC"}


def _chart(uuid: str, kind: str, **values: Any) -> dict[str, Any]:
    return _part(uuid, type=kind, runsCountToCompare=_CHARTED, metricSectionId="charts", **values)


def _part(uuid: str, **values: Any) -> dict[str, Any]:
    return {"uuid": uuid, "deleted": False, "isGenerated": False} | values
