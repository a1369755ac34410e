"""The plot of the front as a file, in the format that its name asks for."""

from pathlib import Path

from search.analysis.pareto import Objectives
from search.ledger.history import History
from search.report.plots.html import front_html
from search.report.plots.png import front_png
from vattn.errors import UserError
from vattn.files import replacing, writing

_FORMATS = {".html": front_html, ".png": front_png}


def draw(history: History, objectives: Objectives, path: Path) -> None:
    """Draw the front to ``path``, with `front_html` or `front_png` by its suffix.

    A file that cannot be written is left as it was. Raises UserError for another suffix, and StorageError, naming the
    file, where it cannot be written.
    """
    write = _FORMATS.get(path.suffix.lower())
    if write is None:
        raise UserError("a picture of the front is a .html or .png file", file=path, way_out="change the ending")
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, "make room, and draw it with `vattn pareto --plot`"), replacing(path) as part:
        write(history, objectives, part)
