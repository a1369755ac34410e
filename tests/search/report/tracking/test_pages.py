"""MLflow's pages of a search in a real browser, with a fresh profile: what a supervisor sees after `vattn ui`."""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import free_port
from tests.search.report.page.browser import chromium

ROOT = Path(__file__).resolve().parents[4]

pytestmark = [pytest.mark.medium, pytest.mark.timeout(600)]


#: milliseconds for a step of MLflow's page, which is large
PATIENCE = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def link(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The link that `vattn ui` of the recorded search opens; its database is one that a killed MLflow left."""
    folder = tmp_path_factory.mktemp("ui")
    shutil.copy(ROOT / "tests/docs/quickstart.jsonl", folder / "ledger.jsonl")
    (folder / "mlflow.db").touch()
    code = "import sys; from search.report.tracking.server import serve; "
    code += f"sys.exit(serve({str(folder)!r}, {free_port()}))"
    opener = f"{sys.executable} -c \"import sys; print('opened', sys.argv[1], flush=True)\" %s"
    command = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"BROWSER": opener}
    )
    assert command.stdout
    lines = []
    for line in command.stdout:
        lines.append(line)
        if line.startswith("opened"):
            break
    address = lines[-1].split()[1]
    assert lines[0] == f"starting MLflow for {folder} ...\n"
    assert f"MLflow shows {folder} at {address}\n" in lines

    yield address

    command.terminate()
    assert command.wait(60) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address)


def page_of(browser: Any, address: str) -> Any:
    """Return a page in a fresh profile."""
    context = browser.new_context(viewport={"width": 1920, "height": 1000})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(address)
    return page


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a process of another user")
@pytest.mark.parametrize(("user", "status"), [(0, 200), (65534, 403)])
def test_the_page_answers_the_user_who_started_it(user: int, status: int, link: str) -> None:
    """No header helps: uvicorn would believe one that says where a request comes from."""
    host = link.split("/")[2]
    request = rf"GET / HTTP/1.0\r\nHost: {host}\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"
    ask = f"exec 3<>/dev/tcp/{host.replace(':', '/')}; printf '{request}' >&3; head -1 <&3"

    said = subprocess.run(["bash", "-c", ask], user=user, cwd="/", capture_output=True, text=True, check=True).stdout

    assert said.split()[1] == str(status)


def test_the_link_shows_the_runs_with_columns_in_order(browser: Any, link: str) -> None:
    page = page_of(browser, link)
    best = page.get_by_role("link", name="91.9 % · 0.0527 G · tsm d8 res2,3,5 a, T4, width 0.5 · trial 7")
    best.wait_for()

    names = page.locator("a[href*='/runs/']").all_inner_texts()
    assert [name for name in names if " · " in name][:3] == [
        "91.9 % · 0.0527 G · tsm d8 res2,3,5 a, T4, width 0.5 · trial 7",
        "91.2 % · 0.0527 G · tsm d8 res2-5 a, T4, width 0.5 · trial 12",
        "86.9 % · 0.0159 G · tsm d8 res2-4 a, T4, width 0.25 · trial 13",
    ]
    assert "quickstart" in names
    heads = {text.strip() for text in page.locator("[role=columnheader]").all_inner_texts()}
    assert {"top1", "gflops", "rank", "front", "state"} <= heads
    assert not {"Source", "Models", "Dataset"} & heads
    assert re.search(r"17\s+matching runs", page.locator("body").inner_text())
    # No name is cut.
    cut = page.evaluate(
        "[...document.querySelectorAll('a[href*=\"/runs/\"]')].filter((node) => node.innerText.includes(' · ') &&"
        " !node.innerText.startsWith('stopped') && node.scrollWidth > node.clientWidth + 1).map((n) => n.innerText)"
    )
    assert cut == []
    # Stopped trials are no failures.
    assert page.locator("[data-icon=close-circle], .anticon-close-circle").count() == 0


def test_a_click_on_the_search_shows_its_description_and_picture(browser: Any, link: str) -> None:
    page = page_of(browser, link)
    page.locator("a[href*='/runs/']", has_text=re.compile("^quickstart$")).click()

    page.get_by_text("What won").wait_for()
    page.get_by_text("Show more").click()
    text = page.locator("body").inner_text()
    assert re.search(r"What won: Trial 7: TSM in res2, res3, res5 .* top1 is 91.9 % \(89.1 to 94.0 %\)", text)
    assert "Budget used: 16 of 16 trials" in text
    assert re.search(r"Next: .*export .* --pick knee --out best.yaml", text)
    picture = page.locator("img[src*='front.png']")
    picture.evaluate("(node) => node.decode()")  # it waits until the picture is there
    assert picture.evaluate("(node) => node.naturalWidth") == 640
    assert [row.split("\t")[0] for row in page.locator("table:has-text('95 % interval') tr").all_inner_texts()] == [
        "trial", "4", "13", "7",
    ]  # fmt: skip
    assert page.get_by_text("best/top1 at 0.02 gflops").count() == 1


def test_charts_and_comparisons_are_useful_at_once(browser: Any, link: str) -> None:
    page = page_of(browser, f"{link}&compareRunsMode=CHART")
    section = page.locator("[data-testid=experiment-view-compare-runs-section-header]", has_text="quickstart")
    section.wait_for()
    assert section.inner_text().split()[:2] == ["quickstart", "(3)"]
    page.get_by_text("gflops vs. top1").wait_for()

    runs = page.evaluate(
        "fetch('ajax-api/2.0/mlflow/runs/search', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        " body: JSON.stringify({experiment_ids: ['1'], filter: \"tags.kind = 'trial'\"})})"
        ".then((r) => r.json()).then((r) => r.runs.map((run) => run.info.run_id))"
    )
    chosen = ",".join(f"%22{run}%22" for run in runs)
    page.goto(f"{link.partition('#')[0]}#/compare-runs?runs=[{chosen}]&experiments=[%221%22]")
    page.locator(".parcoords .axis-title").first.wait_for()
    assert page.locator(".parcoords .axis-title").all_text_contents()[:3] == ["attention", "backbone.width", "frames"]
