"""The plots show what they should, for every kind of search."""

import re
from pathlib import Path

import pytest
from matplotlib.image import imread

from search.analysis.pareto import Objectives
from search.report.plots.front import draw
from search.report.plots.html import front_html
from search.report.plots.png import front_png
from tests.search.events import history_of
from tests.search.report.ledgers import Trees
from tests.search.room import room_for

BOTH: Objectives = {"top1": "max", "gflops": "min"}


def test_the_page_shows_every_trial_with_its_config(tmp_path: Path, events: Trees) -> None:
    page = tmp_path / "front.html"

    front_html(history_of(events), BOTH, page)

    text = page.read_text()
    drawn = text[text.rindex("Plotly.newPlot(") :]
    for code, character in (("\\u003c", "<"), ("\\u003e", ">"), ("\\u002f", "/")):
        drawn = drawn.replace(code, character)
    assert set(re.findall(r"<b>trial (\d+)</b>", drawn)) == {"0", "1", "2"}
    assert "trial 2</b>, stopped after epoch 1: partial" in drawn
    assert "tam a2 K3 @res2-5 b, T8" in drawn
    assert "by-hand: 2 finished, 1 stopped" in drawn
    # From 0 at (0.2, 50 %) level to the cost of 1, up to its 75 %, then level to the most expensive trial drawn.
    assert re.search(r'"mode":"lines".*?"x":\[0.2,0.4,0.4,0.8\],"y":\[50.0,50.0,75.0,75.0\]', drawn)
    assert not re.search(r'<script[^>]+src="http', text), "the page needs a network"


def test_a_wide_range_of_cost_is_drawn_on_a_logarithmic_axis(tmp_path: Path, events: Trees) -> None:
    page = tmp_path / "front.html"
    for tree in events:
        if tree["event"] == "proposed" and tree["trial"] == 1:
            tree["cost"] = {"gflops": 20.0, "params_m": 2.0}

    front_html(history_of(events), BOTH, page)

    drawn = page.read_text()
    assert '"type":"log"' in drawn[drawn.rindex("Plotly.newPlot(") :]


@pytest.mark.parametrize("name", ["front.html", "front.png"])
def test_a_plot_on_a_full_disk_leaves_the_old_one(name: str, tmp_path: Path, events: Trees) -> None:
    (tmp_path / name).write_text("old")
    message = rf"{re.escape(name)}: cannot be written: .*; make room"
    with room_for(5_000), pytest.raises(OSError, match=message):
        draw(history_of(events), BOTH, tmp_path / name)

    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "old")]


@pytest.mark.medium
@pytest.mark.parametrize("objectives", [BOTH, {"loss": "min"}, {"top1": "max", "loss": "min", "params_m": "min"}])
@pytest.mark.parametrize("number_of_events", [1, 6, 25])
def test_every_search_has_a_plot(tmp_path: Path, events: Trees, objectives: Objectives, number_of_events: int) -> None:
    history = history_of(events[:number_of_events])
    front_png(history, objectives, tmp_path / "front.png")
    front_html(history, objectives, tmp_path / "front.html")

    assert imread(tmp_path / "front.png").shape[:2] == (750, 1200)


def test_a_plot_in_another_format_is_refused(tmp_path: Path, events: Trees) -> None:
    with pytest.raises(ValueError, match=r"a picture of the front is a \.html or \.png file; change the ending"):
        draw(history_of(events), BOTH, tmp_path / "front.pdf")
