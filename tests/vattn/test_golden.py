"""Every recording of the authors' code is reproduced: outputs, gradients, running statistics."""

import importlib
import os
from pathlib import Path

import pytest
from golden import Recording

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("VATTN_GOLDEN", HERE.parents[2] / "shared" / "golden"))
FILES = sorted(FOLDER.glob("*.npz"))


def builders():
    """What `GOLDEN` of each file in reference/ says: the recorded module's name -> its Case from meta."""
    for file in sorted((HERE / "reference").glob("*.py")):
        yield from getattr(importlib.import_module(f"reference.{file.stem}"), "GOLDEN", {}).items()


@pytest.mark.skipif(not FILES, reason=f"no recordings in {FOLDER}; name their folder in VATTN_GOLDEN")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_our_network_gives_what_the_authors_code_gave(file: Path) -> None:
    recording = Recording(file)
    build = dict(builders()).get(recording.meta["module"])
    assert build is not None, f"{file}: no network of ours is known for {recording.meta['module']!r}"

    recording.hold(build(recording.meta))
