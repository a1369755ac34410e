"""The description at the top of a search's page in MLflow, as Markdown."""

import shlex
from pathlib import Path
from typing import Any

import yaml

from search.ledger.history import History
from search.report.page.content import Content
from search.report.page.table import Table
from search.report.wording.program import program
from search.report.wording.states import describe_states
from search.report.wording.values import format_duration

#: picture of the front that is as wide as the column of the description: MLflow ignores the width of a picture
SMALL_PICTURE = "front.png"
#: tag of a run that MLflow shows as its description
TAG_NOTE = "mlflow.note.content"
#: characters that every version of MLflow takes
MAX_LENGTH = 4800
#: rows of the front, the best first where there are more
_ROWS = 20
#: columns of the front that are shown: up to its costs
_LAST_COLUMN = "gain over the row above"


def description(history: History, shown: Content, run: str, output: Path) -> str:
    """Return what a search found, its budget, the next commands, its front as a table and picture, and its spec.

    The most important is first, because MLflow folds the rest. What does not fit into `MAX_LENGTH` is left out.

    Args:
        history: the search.
        shown: the front of its page.
        run: id of the run in MLflow, whose artifacts are linked.
        output: the folder of the search, for the commands.
    """
    answers = [f"**{word}**: {text}" for word, text in shown.answers]
    parts = [*answers[:2], f"**Budget used**: {budget_used(history)}", f"**Next**: {_next(history, output)}"]
    parts.append(f"![front]({_artifact(run, SMALL_PICTURE)})")
    if front := next(iter(shown.tables["front"]), None):
        parts.append(_table(front))
    parts += answers[2:]
    links = {"report.html": "report", "pareto.html": "front to explore", "front.json": "front.json"}
    parts.append("Files: " + ", ".join(f"[{text}]({_artifact(run, name)})" for name, text in links.items()))
    spec = yaml.safe_dump(history.began.spec, sort_keys=False, allow_unicode=True)
    parts += [f"[Spec]({_artifact(run, 'spec.yaml')}):", f"```yaml\n{spec}```"]
    text = ""
    for part in parts:
        if len(text) + len(part) + 2 <= MAX_LENGTH:
            text += f"{part}\n\n"
    return text


def budget_used(history: History) -> str:
    """Return what a search has used of each part of its budget, and the states of its trials."""
    used = {
        "trials": (str(len(history.trials)), "trials"),
        "hours": (format_duration(history.active), "h"),
        "gpu_hours": (f"{history.gpu_seconds / 3600:.2g}", "GPU-hours"),
    }
    limits = {name: limit for name, limit in history.budget.items() if limit is not None and name in used}
    parts = [f"{used[name][0]} of {limit:g} {used[name][1]}" for name, limit in limits.items()]
    parts += [] if "hours" in limits else [f"{format_duration(history.active)} h"]
    return f"{', '.join(parts)} ({describe_states(history) or 'no trial was started'})"


def _next(history: History, output: Path) -> str:
    if not history.in_state("finished"):
        return "wait until a trial is finished"
    words = [program(), "export", str(output), "--pick", "knee", "--out", "best.yaml"]
    return f"`{shlex.join(words)}`, then `{shlex.join([program(), 'train', 'best.yaml'])}`"


def _artifact(run: str, name: str) -> str:
    """Return the address of an artifact, relative to MLflow's page."""
    return f"get-artifact?path={name}&run_uuid={run}"


def _table(table: Table) -> str:
    width = table.head.index(_LAST_COLUMN) if _LAST_COLUMN in table.head else len(table.head)
    lines: list[Any] = [table.head[:width], ["---"] * width, *(row[:width] for row in table.rows[-_ROWS:])]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
