"""`vattn pareto`: print the front of a search, as a table or as JSON, and draw it."""

import json
from argparse import Namespace

from search.ledger.runs import open_run
from search.report.plots.front import draw
from search.report.tables.front import as_json, render


def run(arguments: Namespace) -> None:
    """Print the front, and draw it if a file for the plot is given."""
    history = open_run(arguments.search)
    objectives = history.objectives
    if arguments.plot:
        draw(history, objectives, arguments.plot)
    print(json.dumps(as_json(history, objectives), indent=2) if arguments.json else render(history, objectives))
