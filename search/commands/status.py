"""`vattn status`: the state of a search, its progress and what it waits for."""

import json
import sys
import time
from argparse import Namespace
from pathlib import Path

from search.ledger.file import NAME
from search.ledger.runs import RUNS, resolve_run
from search.report.outside.status import Status, as_json, render, searches_under, status_of
from vattn.errors import UserError

#: seconds between two looks of ``--watch``
INTERVAL = 2.0
#: moves the cursor of a terminal to its upper left corner and clears it
_CLEAR = "\x1b[H\x1b[2J"


def run(arguments: Namespace) -> None:
    """Print the state of a search once, or until no process runs it any more."""
    output = resolve_run(arguments.search) if arguments.search else _newest()
    last = ""
    while True:
        status = status_of(output)
        text = _text(status, arguments.json)
        if text != last:
            clear = _CLEAR if arguments.watch and sys.stdout.isatty() and not arguments.json else ""
            print(clear + text, flush=True)
        if not arguments.watch or not status.alive:
            return
        last = text
        time.sleep(INTERVAL)


def _text(status: Status, as_lines: bool) -> str:
    return json.dumps(as_json(status)) if as_lines else render(status)


def _newest() -> Path:
    """Return the folder of the search below ``runs`` whose ledger was written last."""
    folders = list(searches_under(RUNS))
    if not folders:
        raise UserError(f"there is no search below {RUNS}", path="RUN", way_out="name the output folder of one")
    return max(folders, key=lambda folder: (folder / NAME).stat().st_mtime)
