"""A table of a page, as HTML, CSV and LaTeX."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from search.report.wording.values import Shown

#: characters with a meaning in LaTeX
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "α": r"$\alpha$",
    "β": r"$\beta$", "≤": r"$\le$", "–": "--", "−": "$-$", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; the first column names the row. A `Shown` text has its numbers in a CSV file."""

    name: str
    """of its files, of a-z, 0-9 and -"""
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: frozenset[int] = field(default=frozenset({0}))
    """the columns that are aligned left; the others are numbers"""
    marked: frozenset[int] = field(default=frozenset())
    """the rows that stand out"""
    trials: Sequence[int | None] = ()
    """for each row the trial that it is about, if it is about one"""

    def html(self) -> str:
        """Return the table with its title as caption, and buttons that save it."""
        head = "".join(f'<th scope="col"{self._align(n)}>{escape(text)}</th>' for n, text in enumerate(self.head))
        rows = "".join(self._row(n, row) for n, row in enumerate(self.rows))
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        return (
            f'<div class="table" data-table="{self.name}"><div class="bar"><h3 id="t-{self.name}">{escape(self.title)}'
            f'</h3></div><div class="scroll" tabindex="0" role="region" aria-labelledby="t-{self.name}"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}</div>"
        )

    def _row(self, index: int, row: Sequence[str]) -> str:
        cells = f'<th scope="row"{self._align(0)}>{escape(row[0])}</th>'
        cells += "".join(f"<td{self._align(n)}>{escape(text)}</td>" for n, text in enumerate(row[1:], start=1))
        trial = self.trials[index] if self.trials else None
        about = "" if trial is None else f' data-trial="{trial}"'
        return f"<tr{about}{' class=marked' if index in self.marked else ''}>{cells}</tr>"

    def _align(self, column: int) -> str:
        return "" if column in self.words else " class=number"

    def csv(self) -> str:
        """Return the table as CSV with its head, for programs.

        A column of texts that show numbers has a column for each of them, such as "top1", "top1 low" and "top1 high":
        rates from 0 to 1, with all digits, and empty where one is not known.
        """
        head, columns = list[str](), list[list[object]]()
        for n, name in enumerate(self.head):
            column = [row[n] for row in self.rows]
            kinds = dict.fromkeys(kind for cell in column if isinstance(cell, Shown) for kind in cell.numbers)
            for kind in kinds or ("value",):
                of = name.removesuffix(" (95 % interval)") if kinds else name
                head.append(of if kind == "value" else f"{of} {kind}")
                columns.append([_of(cell, kind) if kinds else cell for cell in column])
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([head, *zip(*columns, strict=True)])
        return text.getvalue()

    def latex(self) -> str:
        """Return the table as a LaTeX environment of the package booktabs."""
        columns = "".join("l" if n in self.words else "r" for n in range(len(self.head)))
        lines = [" & ".join(map(latex, row)) + r" \\" for row in [self.head, *self.rows]]
        return "\n".join([
            r"\begin{table}", rf"\caption{{{latex(self.title)}}}", rf"\label{{tab:{self.name}}}", r"\centering",
            rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule",
            r"\end{tabular}", r"\end{table}", "",
        ])  # fmt: skip


def _of(cell: str, kind: str) -> object:
    """Return a number of a cell; "" where it has none that is known."""
    number = cell.numbers.get(kind, math.nan) if isinstance(cell, Shown) else math.nan
    return number if math.isfinite(number) else ""


def latex(text: str) -> str:
    """Return text in which the characters that have a meaning in LaTeX are escaped."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)
