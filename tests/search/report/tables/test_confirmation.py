"""The table, JSON and figures of a confirmed search."""

import json
import re
from pathlib import Path

import pytest

from search.report.plots.html import front_html
from search.report.plots.png import front_png
from search.report.tables.front import as_json, render
from tests.search.confirmed import AGAIN, BOTH, SEARCHED, again, history


def test_the_table_shows_means_intervals_probabilities_and_the_test_split() -> None:
    text = render(history(*SEARCHED, *AGAIN), BOTH).splitlines()

    assert text[0].split() == ["trial", "top1", "in", "search", "on", "front", "test", "split", "gflops", "model"]
    assert text[1].split()[:11] == ["0", "40.0", "±", "3.7", "%", "50.0", "%", "100", "%", "35.0", "%"]
    assert text[4].split()[0] == "2"
    assert "behind" in text[4]
    assert text[-3].startswith("optimism: +15.0 points of top1")
    assert text[-2].startswith("best: +6.0 points (")


def test_without_a_test_split_the_table_has_no_such_column_and_says_so() -> None:
    bare = [*again(5, 0, 1.0, [0.4, 0.5]), *again(7, 1, 2.0, [0.6, 0.6]), *again(9, 2, 4.0, [0.7, 0.7])]
    text = render(history(*SEARCHED, *bare), BOTH)

    assert "test split" not in text.splitlines()[0]
    assert "the data have no test split" in text


def test_the_json_has_the_same_numbers() -> None:
    tree = json.loads(json.dumps(as_json(history(*SEARCHED, *AGAIN), BOTH)))

    assert [row["trial"] for row in tree["front"]] == [0, 1, 3]
    # Up to the limit of 10: 0.40 from cost 1 on, 0.20 more from 2 on, and 0.06 more from 3 on.
    assert tree["hypervolume"] == pytest.approx(0.40 * 9 + 0.20 * 8 + 0.06 * 7)
    shown = tree["confirmation"]
    assert shown["optimism"] == {"top1": pytest.approx(0.15)}
    first = shown["models"][0]
    assert (first["trial"], first["seeds"], first["searched"]["top1"]) == (0, 2, 0.5)
    assert first["test"]["top1"] == pytest.approx(0.35)
    low, high = first["interval"]["top1"]
    assert (low + high) / 2 == pytest.approx(0.4)
    assert as_json(history(*SEARCHED), BOTH)["confirmation"] is None


def test_the_figures_show_intervals_and_optimism(tmp_path: Path) -> None:
    whole = history(*SEARCHED, *AGAIN)
    front_png(whole, BOTH, tmp_path / "front.png")
    front_html(whole, BOTH, tmp_path / "front.html")

    page = (tmp_path / "front.html").read_text()
    assert "showed its front too good: +15.0 points of top1" in page
    # The means of 0, 1 and 3, and of 2, which is no longer on the front.
    assert re.search(r'"confirmed":\[\{"n":0,"mean":\[40.0,[^]]*\],"seeds":\[42.0,38.0\]', page)
    assert (tmp_path / "front.png").stat().st_size > 10_000
