"""Every recording of the authors' code is reproduced: outputs, gradients, running statistics."""

import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.vattn.golden import Case, Recording

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("VATTN_GOLDEN", HERE.parents[2] / "shared" / "golden"))
FILES = sorted(FOLDER.glob("*.npz"))
if "VATTN_GOLDEN" in os.environ and not FILES:
    raise FileNotFoundError(f"VATTN_GOLDEN: there are no recordings (.npz) in {FOLDER}")


def builders() -> dict[str, Callable[[dict[str, Any]], Case]]:
    """What `GOLDEN` of each file in reference/ says: the recorded module's name -> its Case from meta."""
    known = {}
    for file in sorted((HERE / "reference").glob("*.py")):
        known |= getattr(importlib.import_module(f"tests.vattn.reference.{file.stem}"), "GOLDEN", {})
    return known


@pytest.mark.skipif(not FILES, reason=f"no recordings in {FOLDER}; name their folder in VATTN_GOLDEN")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_our_network_gives_what_the_authors_code_gave(file: Path) -> None:
    recording = Recording(file)

    recording.hold(recording.case(builders()))


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        ("TAM of tomorrow", {}, "no network of ours is known for 'TAM of tomorrow'"),
        ("TEA-ME", {"dilation": 2}, "options that no network here knows: {'dilation'}"),
    ],
)
def test_a_recording_that_is_not_known_fails(module: str, changes: dict, message: str, tmp_path: Path) -> None:
    meta = {"module": module, "config": {"channel": 32, "reduction": 16, "n_segment": 8} | changes}
    np.savez(tmp_path / "new.npz", meta=json.dumps(meta))

    with pytest.raises(AssertionError, match=message):
        Recording(tmp_path / "new.npz").case(builders())
