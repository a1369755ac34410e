"""Fixtures that the tests of decoding and of the cache share."""

from pathlib import Path

import pytest

from tests.vattn.data.support import footage
from vattn.data.motion import encode


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder of three videos of 4, 5 and 6 frames."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(3):
        encode(folder / f"good{number}.mp4", footage(frames=4 + number, seed=number))
    return folder
