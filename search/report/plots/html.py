"""The front as a page to explore: points have the trial's config and metrics."""

from pathlib import Path

from search.analysis.pareto import Objectives
from search.ledger.history import History
from search.report.page.build import page
from search.report.page.content import content


def front_html(history: History, objectives: Objectives, path: Path) -> None:
    """Write the front of a search to ``path``: the part of `search.report.page` with the answer and the front."""
    shown = content(history, objectives, history.name, only_front=True)
    path.write_text(page(shown), encoding="utf-8")
