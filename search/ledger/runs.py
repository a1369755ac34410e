"""Find the ledger of a search by the name of its folder, and open it."""

from pathlib import Path

from search.ledger.file import NAME, history
from search.ledger.history import History
from search.ledger.remote import Remote, fetch_ledger, is_url, work_folder
from vattn.errors import UserError
from vattn.files import at_home

#: folder of the searches whose spec names no output folder
RUNS = Path("runs")


def resolve_run(name: str) -> Path:
    """Return the output folder of a search. ``name`` is that folder, or the name of a folder below ``runs``.

    For the URL of a store it is the folder in which this machine works, with the ledger as the store has it.

    Raises UserError, naming the searches that exist.
    """
    if is_url(name):
        folder = work_folder(name)
        if not fetch_ledger(Remote(name), folder / NAME):
            raise UserError("no search is kept there", file=name)
        return folder
    for folder in (at_home(name), RUNS / name):
        if (folder / NAME).is_file():
            return folder
    known = ", ".join(sorted(path.parent.name for path in RUNS.glob(f"*/{NAME}"))) or "none"
    raise UserError(f"no search is kept there: the folder has no {NAME}; below {RUNS} there are: {known}", file=name)


def open_run(name: str) -> History:
    """Return the history of a search, named as in `resolve_run`. Raises UserError if it has none."""
    return open_folder(name)[0]


def open_folder(name: str) -> tuple[History, Path]:
    """Return the history of a search as `open_run` does, and its output folder."""
    folder = resolve_run(name)
    search = history(folder / NAME)
    if not search.search:
        raise UserError("is empty, the search has not begun", file=folder / NAME, way_out="run it, or name another")
    return search, folder
