"""A minimal spec file, and the lines of the error that changes to it cause."""

from pathlib import Path

import pytest

from search.spec.messages import SpecError
from search.spec.validation import load
from tests.search.spec.minimal import MINIMAL, Problems


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(MINIMAL)
    return path


@pytest.fixture
def problems(spec_file: Path) -> Problems:
    """Return the lines of the error that a spec causes, without the folder of the file."""

    def problems(*sets: str, text: str = MINIMAL) -> list[str]:
        spec_file.write_text(text)
        with pytest.raises(SpecError) as error:
            load(spec_file, sets)
        return [line.replace(str(spec_file), "spec.yaml") for line in str(error.value).splitlines()]

    return problems
