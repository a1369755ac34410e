"""Where searches are kept, and how one is opened by the name of its folder."""

from pathlib import Path

from search.ledger.file import NAME, history
from search.ledger.history import History
from vattn.errors import UserError

#: the folder of searches whose spec names no output folder
RUNS = Path("runs")


def resolve_run(name: str) -> Path:
    """Return the output folder of a search, given as a folder or as the name of a folder below ``runs``.

    Raises UserError, naming the searches that exist.
    """
    for folder in (Path(name), RUNS / name):
        if (folder / NAME).is_file():
            return folder
    known = ", ".join(sorted(path.parent.name for path in RUNS.glob(f"*/{NAME}"))) or "none"
    raise UserError(f"no search is kept there: the folder has no {NAME}; below {RUNS} there are: {known}", file=name)


def open_run(name: str) -> History:
    """Return the history of a search; raises UserError where there is none to read."""
    path = resolve_run(name) / NAME
    search = history(path)
    if not search.search:
        raise UserError("is empty, the search has not begun", file=path, way_out="run it, or name another")
    return search
