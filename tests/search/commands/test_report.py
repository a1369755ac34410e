"""`vattn report` as a user runs it."""

from pathlib import Path

import pytest

from search.cli import main
from search.ledger.file import NAME
from tests.search.constructed import write_ledger
from tests.search.report.page.per_clip import write_test


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_ledger(tmp_path / "run" / NAME, 20, stopped=0.3)
    return tmp_path / "run"


def test_the_page_and_its_tables_are_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, tables = tmp_path / "new" / "report.html", tmp_path / "tables"

    assert main(["report", str(run), "--out", str(page), "--tables", str(tables)]) == 0

    assert page.read_text().startswith("<!doctype html>")
    names = {path.name for path in tables.iterdir()}
    assert {"front.csv", "front.tex", "gains.csv", "trials.tex", "ablation-1.csv"} <= names
    assert len((tables / "trials.csv").read_text().splitlines()) == 21
    assert str(page) in capsys.readouterr().out


def test_results_clip_by_clip_are_found_or_named(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    named = write_test(tmp_path / "named.parquet", [0, 1], [0, 0])
    main(["report", str(run), "--out", str(page)])
    assert "vattn test best.yaml" in page.read_text()
    main(["report", str(run), "--out", str(page), "--tests", str(named)])
    assert "Accuracy by class" in page.read_text()
    write_test(run / "tests" / "found.parquet", [0, 1], [0, 0])
    main(["report", str(run), "--out", str(page)])
    assert "Accuracy by length of the video: found" in page.read_text()


def test_mistakes_are_one_line_with_status_2(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 2
    assert main(["report", "nowhere", "--out", "x.html"]) == 2
    assert main(["report", str(run), "--tests", "none.parquet", "--out", "x.html"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert "give --out FILE.html, --tables DIR or --serve" in errors[0]
    assert "none.parquet" in errors[2]
