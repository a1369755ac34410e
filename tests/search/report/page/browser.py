"""A headless Chromium for tests; where it is missing, they are skipped with the reason."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: milliseconds that a busy machine has for a step
PATIENCE = 120_000


@contextmanager
def chromium() -> Iterator[Any]:
    """Give a browser of Playwright that drives the Chromium of the system."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=PATIENCE)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, url: str, width: int = 1440, dark: bool = False, offline: bool = True) -> Iterator[Any]:
    """Give a page that has drawn everything, and assert that it reports no error and asks for no other address."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=offline)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.wait_for_selector("html[data-ready=yes]", state="attached")
    yield page
    assert problems == []
    own = ("data:", "blob:", url.rpartition("/")[0])
    assert [address for address in asked if not address.startswith(own)] == []
    context.close()


def address(path: Path) -> str:
    """Return the address of a file."""
    return path.resolve().as_uri()
