"""The built site: strict, and without anything from the network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

#: What a browser loads by itself: scripts, images, frames, stylesheets.
LOADED = re.compile(r'<(?:script|img|iframe|source)[^>]+\bsrc="([^"]+)"|<link[^>]+\bhref="([^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_browser_loads_nothing_from_other_servers(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    loaded = {url for page in pages for pair in LOADED.findall(page.read_text()) for url in pair if url}
    styles = "".join(path.read_text() for path in site.rglob("*.css"))

    assert len(pages) > 60
    assert not [url for url in loaded if re.match(r"(https?:)?//", url)]
    assert not re.search(r"url\([\"']?(https?:)?//|@import", styles)


@pytest.mark.slow
def test_equations_are_mathml_and_no_placeholder_is_left(site: Path) -> None:
    page = (site / "mechanisms" / "tam.html").read_text()

    assert "<math" in page
    assert 'class="arithmatex"' not in page
    assert "<!-- fields" not in page
