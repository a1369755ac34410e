"""One distribution brings the four packages, whose names other projects use too."""

from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["vattn", "spaces", "cluster", "search"])
def test_each_package_comes_from_this_project(name: str) -> None:
    found = import_module(name).__file__

    assert found is not None
    assert Path(found).parent.parent == Path(__file__).parent.parent


def test_the_distribution_brings_the_console_script() -> None:
    scripts = {point.name: point.value for point in distribution("vattn-search").entry_points}

    assert scripts["vattn"] == "search.cli:main"
