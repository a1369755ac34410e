"""The distribution contains the four packages; other projects have packages of the same names."""

from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["vattn", "spaces", "cluster", "search"])
def test_each_package_comes_from_this_project(name: str) -> None:
    file = import_module(name).__file__

    assert file is not None
    assert Path(file).parent.parent == ROOT


def test_the_distribution_has_the_console_script_and_the_application_of_mlflow() -> None:
    points = {(point.group, point.name): point.value for point in distribution("vattn-search").entry_points}

    assert points["console_scripts", "vattn"] == "search.cli:main"
    assert points["mlflow.app", "vattn"] == "search.report.tracking.own_user:mlflow"


@pytest.mark.parametrize(
    "file", sorted((ROOT / "tests/benchmarks").glob("requirements-*.txt")), ids=lambda file: file.stem
)
def test_the_packages_of_the_benchmarks_are_named_with_their_versions(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]

    assert lines
    for line in lines:
        assert str(Requirement(line).specifier).startswith("=="), line
