"""This library reproduces every recording of the authors' code: outputs, gradients and running statistics."""

import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.vattn.golden import FOLDER, Case, Recording

FILES = sorted(FOLDER.glob("*.npz"))
if not FILES:
    source = "VATTN_GOLDEN" if "VATTN_GOLDEN" in os.environ else "tests/golden"
    raise FileNotFoundError(f"{source}: there are no recordings (.npz) in {FOLDER}")


def builders() -> dict[str, Callable[[dict[str, Any]], Case]]:
    """Return the builders of all files in reference/ (``GOLDEN``): name of the recorded module -> (meta -> Case)."""
    builders_by_module = {}
    for file in sorted((Path(__file__).parent / "reference").glob("*.py")):
        reference = importlib.import_module(f"tests.vattn.reference.{file.stem}")
        builders_by_module |= getattr(reference, "GOLDEN", {})
    return builders_by_module


@pytest.mark.medium
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_network_reproduces_the_recording(file: Path) -> None:
    recording = Recording(file)

    recording.check(recording.case(builders()))


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        ("New TAM", {}, "no builder for the module 'New TAM'"),
        ("TEA-ME", {"dilation": 2}, "the builder ignores the options {'dilation'}"),
    ],
)
def test_recording_with_an_unknown_module_or_option_fails(
    module: str, changes: dict, message: str, tmp_path: Path
) -> None:
    meta = {"module": module, "config": {"channel": 32, "reduction": 16, "n_segment": 8} | changes}
    np.savez(tmp_path / "new.npz", meta=json.dumps(meta))

    with pytest.raises(AssertionError, match=message):
        Recording(tmp_path / "new.npz").case(builders())
