"""Tables as HTML, CSV and LaTeX."""

import csv
import io
import math
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from search.analysis.intervals import Estimate
from search.report.page.table import Table, latex
from search.report.wording.values import format_duration, format_estimate

TABLE = Table("small", "α & β", ["model", "top1"], [["tam_a2", "71.2 %"], ["<b>", "-"]], words=frozenset({0}))


def test_latex_escapes_what_has_a_meaning() -> None:
    assert TABLE.latex().splitlines() == [
        r"\begin{table}", r"\caption{$\alpha$ \& $\beta$}", r"\label{tab:small}", r"\centering",
        r"\begin{tabular}{lr}", r"\toprule", r"model & top1 \\", r"\midrule", r"tam\_a2 & 71.2 \% \\",
        r"\textless{}b\textgreater{} & - \\", r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    assert latex("\\{}") == r"\textbackslash{}\{\}"


@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\r\0")), min_size=2, max_size=2), max_size=4))
def test_csv_reads_back(rows: list[list[str]]) -> None:
    table = Table("t", "t", ["a", "b"], rows)

    assert list(csv.reader(io.StringIO(table.csv(), newline=""))) == [["a", "b"], *rows]


def test_csv_has_the_numbers_that_texts_show() -> None:
    rows = [
        ["a", format_estimate("top1", Estimate(0.9187, 0.891, 0.9402)), format_duration(3661)],
        ["b", format_estimate("top1", Estimate(0.5, math.nan, math.nan)), "-"],
        ["c", "", format_duration(1)],
    ]  # fmt: skip

    assert Table("t", "t", ["model", "top1", "time"], rows).csv().splitlines() == [
        "model,top1,top1 low,top1 high,time seconds", "a,0.9187,0.891,0.9402,3661", "b,0.5,,,", "c,,,,1",
    ]  # fmt: skip
    assert Table("t", "t", ["model", "top1"], []).csv() == "model,top1\n"


def test_html_has_a_head_of_each_column_and_row_and_shows_text_as_text() -> None:
    texts: list[tuple[str, str]] = []

    class Reader(HTMLParser):
        tag = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tag = f"{tag} {dict(attrs).get('scope', '')}".strip()

        def handle_data(self, data: str) -> None:
            texts.append((self.tag, data))

    Reader().feed(TABLE.html())

    assert texts == [
        ("h3", "α & β"), ("th col", "model"), ("th col", "top1"), ("th row", "tam_a2"), ("td", "71.2 %"),
        ("th row", "<b>"), ("td", "-"),
    ]  # fmt: skip
