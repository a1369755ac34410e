"""`vattn why`: explain the decisions about a trial, with the comparison behind each."""

import json
from argparse import Namespace

from search.ledger.file import NAME, read
from search.ledger.runs import open_folder
from search.report.why.facts import why
from search.report.why.json import as_json
from search.report.why.text import render


def run(arguments: Namespace) -> None:
    """Print the facts about a trial, as text or as JSON."""
    _, folder = open_folder(arguments.search)
    facts = why(read(folder / NAME), arguments.trial)
    print(json.dumps(as_json(facts), indent=2) if arguments.json else render(facts))
