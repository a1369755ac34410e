"""`vattn why`: explains what was decided about a trial, and by which comparison."""

import json
from argparse import Namespace

from search.ledger.file import NAME, read
from search.ledger.runs import open_run, resolve_run
from search.report.why.facts import answer
from search.report.why.text import render


def run(arguments: Namespace) -> None:
    """Print the facts about a trial, as text or as JSON."""
    open_run(arguments.search)
    facts = answer(read(resolve_run(arguments.search) / NAME), arguments.trial)
    print(json.dumps(facts, indent=2) if arguments.json else render(facts))
