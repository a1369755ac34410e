"""The plots show what they should, for every kind of search."""

import json
import re
from pathlib import Path
from typing import Any

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


def data_of(page: Path) -> dict[str, Any]:
    """Return what the drawings of a page get."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_shows_every_trial_with_its_config(tmp_path: Path, events: Trees) -> None:
    page = tmp_path / "front.html"

    front_html(history_of(events), BOTH, page)

    data = data_of(page)
    trials = {trial["n"]: trial for trial in data["trials"]}
    assert set(trials) == {0, 1, 2, 3, 4}
    assert trials[2]["state"] == "stopped"
    assert trials[2]["y"] == 12.5
    assert trials[2]["reason"] == "below the front"
    assert trials[1]["model"] == "tam a2 K3 @res2-5 b, T8"
    assert data["front"] == [0, 1]
    assert [trials[n]["cost"]["gflops"] for n in data["front"]] == [0.2, 0.4]
    assert [trials[n]["y"] for n in data["front"]] == [50.0, 75.0]
    assert "2 finished, 1 stopped early" in page.read_text()
    assert page.stat().st_size < 100_000
    assert not re.search(r'(src|href)="(https?:)?//', page.read_text()), "the page needs a network"


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

    assert imread(tmp_path / "front.png").shape[:2] == (960, 1200)


def test_a_plot_in_another_format_is_refused(tmp_path: Path, events: Trees) -> None:
    with pytest.raises(ValueError, match=r"a picture of the front is a \.html or \.png file; change the ending"):
        draw(history_of(events), BOTH, tmp_path / "front.pdf")
