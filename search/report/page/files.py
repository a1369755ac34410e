"""A page and its tables as files."""

from collections.abc import Sequence
from pathlib import Path

from search.ledger.file import NAME, history
from search.report.clips.tested import Tested
from search.report.page.build import page
from search.report.page.content import Content, content
from search.report.page.table import Table
from vattn.files import write_whole, writing


def read_content(folder: Path, run: str, tests: Sequence[Tested] = ()) -> Content:
    """Return what a page shows of the search in ``folder``, which a user names ``run``."""
    search = history(folder / NAME)
    return content(search, search.objectives, run, tests)


def write_page(shown: Content, path: Path) -> None:
    """Write a page to a file. A file that cannot be written is left as it was; raises StorageError, naming it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, "make room, or name another place"):
        write_whole(path, page(shown))


def write_tables(tables: Sequence[Table], folder: Path) -> list[Path]:
    """Write tables as CSV and LaTeX to a folder; return the files. Raises StorageError, naming the file."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in tables:
        for end, text in (("csv", table.csv()), ("tex", table.latex())):
            path = folder / f"{table.name}.{end}"
            with writing(path, "make room, or name another place"):
                write_whole(path, text)
            written.append(path)
    return written
