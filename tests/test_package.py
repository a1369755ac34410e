"""The distribution contains the four packages; other projects have packages of the same names."""

from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["vattn", "spaces", "cluster", "search"])
def test_each_package_comes_from_this_project(name: str) -> None:
    file = import_module(name).__file__

    assert file is not None
    assert Path(file).parent.parent == Path(__file__).parent.parent


def test_the_distribution_has_the_console_script_and_the_application_of_mlflow() -> None:
    points = {(point.group, point.name): point.value for point in distribution("vattn-search").entry_points}

    assert points["console_scripts", "vattn"] == "search.cli:main"
    assert points["mlflow.app", "vattn"] == "search.report.tracking.own_user:mlflow"
