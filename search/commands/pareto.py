"""`vattn pareto`: prints the front of a search, as a table or as JSON, and draws it."""

import json
from argparse import Namespace

from search.ledger.runs import open_run
from search.report.confirmation import as_json, render
from search.report.plot import draw


def run(arguments: Namespace) -> None:
    """Print the front, and draw it where a file is named."""
    history = open_run(arguments.search)
    objectives = history.objectives
    if arguments.plot:
        draw(history, objectives, arguments.plot)
    print(json.dumps(as_json(history, objectives), indent=2) if arguments.json else render(history, objectives))
