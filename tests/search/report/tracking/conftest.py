"""A folder with an empty MLflow database: creating one takes seconds, copying it does not."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.report.tracking.store import tracking_uri


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri("auto", folder)).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def output(tmp_path: Path, database: Path) -> Path:
    """The folder of a search, with an empty MLflow database."""
    shutil.copy(database, tmp_path)
    return tmp_path
