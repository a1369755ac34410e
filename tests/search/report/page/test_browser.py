"""The page in a real browser: without a network, at every width, by pointer and keyboard, in both themes."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.ledger.file import NAME
from search.report.clips.format import read_test
from search.report.page.build import page as build
from search.report.page.files import read_content, write_page
from tests.search.constructed import trees, write_ledger
from tests.search.events import history_of
from tests.search.report.ledgers import with_objectives
from tests.search.report.page.browser import address, chromium, opened
from tests.search.report.page.per_clip import write_test
from tests.search.report.page.test_content import shown
from tests.search.report.page.test_serve import serving

ROOT = Path(__file__).resolve().parents[4]
QUESTIONS = Path(__file__).with_name("questions.md")

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the recorded search, with two tests clip by clip."""
    folder = tmp_path_factory.mktemp("page")
    (folder / NAME).write_bytes((ROOT / "tests/docs/quickstart.jsonl").read_bytes())
    tests = [
        write_test(folder / f"{name}.parquet", [0, 1, 2] * 20, [0, 1, k] * 20) for name, k in (("none", 1), ("tsm", 2))
    ]
    write_page(read_content(folder, "quickstart", [read_test(file) for file in tests]), folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1920, True)])
def test_the_page_is_accessible(browser: Any, page_file: Path, width: int, dark: bool) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with opened(browser, address(page_file), width, dark) as page:
        # Whatever a reader can unfold is looked at too.
        page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
        page.locator("#front tr[data-trial='7']").click()
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(("width", "dark"), [(390, True), (768, False), (1440, True), (1920, False)])
def test_the_page_fits(browser: Any, page_file: Path, width: int, dark: bool) -> None:
    with opened(browser, address(page_file), width, dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if dark else "light")
        outside = page.evaluate(
            "[...document.querySelectorAll('figure svg text')].filter((node) => {"
            " const own = node.getBoundingClientRect();"
            " const box = node.closest('.chart > svg')?.getBoundingClientRect();"
            " return box && own.width && (own.left < box.left - 1 || own.right > box.right + 1); })"
            ".map((node) => node.textContent)"
        )
        assert outside == []


def test_a_pointer_shows_chooses_and_filters(browser: Any, page_file: Path) -> None:
    with opened(browser, address(page_file)) as page:
        chart = page.locator("#front-figure .chart")
        chart.scroll_into_view_if_needed()
        ring = "document.querySelector('#front-figure [data-over] circle')"
        page.locator("#front table tr[data-trial='13']").click()
        x, y = (float(page.evaluate(f"{ring}.getAttribute('{key}')")) for key in ("cx", "cy"))
        page.locator("#details button", has_text="Close").click()
        assert page.evaluate(ring) is None
        chart.scroll_into_view_if_needed()
        box = page.locator("#front-figure .chart svg").bounding_box()

        page.mouse.move(box["x"] + x, box["y"] + y)
        assert page.locator("#tip").inner_text().startswith("trial 13, finished")
        assert "top1 86.9 % (83.6 to 89.6 %)" in page.locator("#tip").inner_text()
        page.mouse.click(box["x"] + x, box["y"] + y)
        assert "vattn why quickstart 13" in page.locator("#details").inner_text()
        assert page.locator("#front tr.chosen").get_attribute("data-trial") == "13"
        # The run is ringed in every drawing that has it.
        assert page.evaluate("document.querySelectorAll('[data-over] .ring').length") >= 4

        rows = page.locator("#runs-table tbody tr")
        assert rows.count() == 16
        page.get_by_role("checkbox", name="tsm (10)").uncheck()
        assert rows.count() == 6
        page.get_by_role("checkbox", name="stopped early (5)").uncheck()
        assert rows.count() == 2
        page.get_by_label("Find runs by their model").fill("no attention")
        assert rows.count() == 1
        page.get_by_label("Find runs by their model").fill("")
        page.get_by_role("checkbox", name="tsm (10)").check()
        page.locator("#runs-table thead button", has_text="gflops").click()
        assert page.locator("#runs-table th[aria-sort]").inner_text() == "gflops"
        assert rows.first.locator("th").inner_text() in ("7", "12")


def test_a_tie_is_rounded_as_in_the_texts_of_commands(browser: Any, page_file: Path) -> None:
    # Trial 12 gets 438 of 480 clips right, 91.25 %: Python writes the even digit.
    with opened(browser, address(page_file)) as page:
        assert page.locator("#runs-table tr[data-trial='12']").get_by_text("91.2 %", exact=True).count() == 1


def test_a_keyboard_reaches_every_run_and_speaks(browser: Any, page_file: Path) -> None:
    with opened(browser, address(page_file)) as page:
        page.locator("#front-figure .chart").focus()
        seen = set()
        for _ in range(16):
            page.keyboard.press("ArrowRight")
            seen |= set(re.findall(r"trial (\d+), (?:finished|stopped)", page.locator("#spoken").inner_text()))
        assert seen == {str(n) for n in range(16)}
        page.keyboard.press("Enter")
        assert page.locator("#details h3").inner_text().startswith("trial ")
        page.keyboard.press("Escape")
        assert page.locator("#details").inner_text() == ""
        # Everything that can be used has a name and can be reached.
        names = page.evaluate(
            "[...document.querySelectorAll('button, select, input, [tabindex]')].filter((node) => node.tabIndex < 0"
            " || !(node.innerText || node.getAttribute('aria-label') || node.getAttribute('aria-labelledby')"
            " || node.labels?.length)).map((node) => node.outerHTML.slice(0, 80))"
        )
        assert names == []


def test_ranges_that_a_mechanism_lacks_are_not_drawn(browser: Any, page_file: Path) -> None:
    with opened(browser, address(page_file)) as page:
        names = page.locator("#parallel-figure svg text.strong")
        page.get_by_label("Mechanism whose ranges are drawn").select_option("only tsm")
        assert "tam alpha" not in names.all_text_contents()
        assert "tsm stages" in names.all_text_contents()
        page.get_by_label("Mechanism whose ranges are drawn").select_option("only no attention")
        assert names.all_text_contents() == ["frames", "backbone.width", "attention", "gflops", "top1"]
        page.get_by_label("Mechanism whose ranges are drawn").select_option("all mechanisms")
        assert "tam alpha" in names.all_text_contents()
        assert page.locator("#parallel-figure svg text", has_text="not used").count() > 0


def test_the_theme_changes_and_stays(browser: Any, page_file: Path) -> None:
    with opened(browser, address(page_file)) as page:
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.locator("#theme").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
        page.reload()
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_drawings_and_tables_are_saved(browser: Any, page_file: Path, tmp_path: Path) -> None:
    # A busy Chromium loses a download now and then; a user would click again.
    lost = pytest.importorskip("playwright.sync_api").TimeoutError
    with opened(browser, address(page_file)) as page:

        def download(name: str) -> Any:
            with page.expect_download(timeout=30_000) as started:
                page.get_by_role("button", name=name, exact=True).click()
            return started.value

        def saved(name: str) -> str:
            try:
                file = download(name)
            except lost:
                file = download(name)
            path = tmp_path / file.suggested_filename
            file.save_as(path)
            return path.read_text()

        figures = page.locator("figure[data-title]")
        assert figures.count() >= 8
        for title in figures.evaluate_all("(nodes) => nodes.map((node) => node.dataset.title)"):
            drawing = ElementTree.fromstring(saved(f"Save as SVG: {title}"))
            assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
            assert len(list(drawing.iter())) > 5
            assert "var(" not in ElementTree.tostring(drawing, encoding="unicode")
        assert saved("Save as CSV: Models of the front").startswith("trial,model,pick,top1")
        assert r"\begin{tabular}" in saved("Save as LaTeX: Runs as a table")
        page.locator("#classes details summary").click()
        assert saved("Save as CSV: Accuracy by class").splitlines()[3].startswith("turn,0.0,0.0,")


def test_a_page_of_a_running_search_follows_it(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.report.page.serve._REST", 0)
    write_ledger(tmp_path / NAME, 4)
    with serving(tmp_path) as url, opened(browser, f"{url}/", offline=False) as page:
        assert page.locator("#runs-table tbody tr").count() == 4
        write_ledger(tmp_path / NAME, 7)
        page.wait_for_function("document.querySelectorAll('#runs-table tbody tr').length === 7")


def test_fronts_of_three_objectives_bound_what_is_dominated(browser: Any, tmp_path: Path) -> None:
    # top1, GFLOPs, ms. Trial 3 has the least latency, so it is on the front, but trial 0 is better with fewer GFLOPs.
    known = [(0.5, 1.0, 30.0), (0.6, 2.0, 10.0), (0.4, 0.5, 20.0), (0.3, 1.5, 5.0)]
    events = with_objectives(trees(4), {"top1": "max", "gflops": "min", "latency_ms": "min"})
    for tree in events:
        if "cost" in tree:
            _, gflops, milliseconds = known[tree["trial"]]
            tree["cost"] = {"gflops": gflops, "latency_ms": milliseconds}
        if "metrics" in tree:
            tree["metrics"] = {"top1": known[tree["trial"]][0]}
    found = shown(history_of(events))
    assert found.data["front"] == [2, 0, 3, 1]
    (tmp_path / "three.html").write_text(build(found), encoding="utf-8")

    for width in (390, 1440):
        with opened(browser, address(tmp_path / "three.html"), width) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            for figure, corners in (("front", 3), ("front-gflops", 3), ("front-latency_ms", 2)):
                line = page.locator(f"#{figure}-figure path.front").get_attribute("d")
                heights = [float(height) for height in re.findall(r"[V ]([\d.]+)", line)]
                assert len(heights) == corners
                assert heights == sorted(heights, reverse=True)  # pixels count from above


def test_two_thousand_runs_are_drawn_and_found(browser: Any, tmp_path: Path) -> None:
    write_ledger(tmp_path / NAME, 2000, stopped=0.5, epochs=20)
    write_page(read_content(tmp_path, "big"), tmp_path / "big.html")

    with opened(browser, address(tmp_path / "big.html")) as page:
        # A few paths, not an element for each run.
        assert page.evaluate("document.querySelectorAll('#front-figure svg path').length") < 30
        page.get_by_role("button", name="Show all 2000 runs").click()
        assert page.locator("#runs-table tbody tr").count() == 2000


def test_the_ten_questions_are_answered_by_what_a_reader_sees(browser: Any, page_file: Path) -> None:
    text = QUESTIONS.read_text()
    answers = re.findall(r"^   Answer: (.*(?:\n   .*)*)", text, re.MULTILINE)
    assert len(answers) == len(re.findall(r"^\d+\. ", text, re.MULTILINE)) == 10
    with opened(browser, address(page_file)) as page:
        seen = " ".join(page.locator("body").inner_text().replace("\xa0", " ").split())
        for answer in answers:
            quotes = re.findall(r'"([^"]+)"', " ".join(answer.split()))
            assert quotes, answer
            for quote in quotes:
                assert quote in seen, quote
