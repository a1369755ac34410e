"""`vattn export` of a trained model: its card, MLflow's registry, and what is refused."""

from pathlib import Path

import pytest

import vattn
from search.cli import main
from tests.vattn.trained.test_file import trial, written
from vattn.config import TrialConfig
from vattn.data import prepare


@pytest.fixture
def training(tmp_path: Path) -> tuple[Path, TrialConfig]:
    """The output folder of a training with its data and its trained model."""
    config = trial()
    written(config, tmp_path / "run" / "model.safetensors")
    (tmp_path / "run" / "config.yaml").write_text(config.model_dump_json())
    prepare(config.data, tmp_path / "run")
    return tmp_path / "run", config


@pytest.mark.medium
def test_a_registered_model_is_loaded_by_name_and_predicts_the_same(
    training: tuple[Path, TrialConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow
    import pandas as pd

    folder, _ = training
    uri = f"sqlite:///{tmp_path / 'store.db'}"

    status = main(["export", str(folder), "--register", "motion", "--tracking", uri, "--card", str(tmp_path / "hub")])

    assert status == 0
    assert f"models:/motion/1 in {uri}" in capsys.readouterr().out
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    registered = mlflow.pyfunc.load_model("models:/motion/1")
    video = min((folder / "data").rglob("val/**/*.mp4"))
    table = registered.predict(pd.DataFrame({"video": [str(video)]}))
    (best,) = vattn.load(folder)(video, top=1)
    assert (table["label"][0], table["probability"][0]) == (best.label, pytest.approx(best.probability, rel=1e-6))
    assert registered.metadata.signature.inputs.input_names() == ["video"]
    example, description = registered.input_example, mlflow.MlflowClient().get_registered_model("motion").description
    assert isinstance(example, pd.DataFrame)
    assert str(example["video"][0]).endswith(".mp4")
    assert str(description).startswith("---\nlibrary_name: vattn")
    # The folder of the card has all that a prediction needs.
    assert (tmp_path / "hub" / "README.md").is_file()
    assert vattn.load(tmp_path / "hub")(video, top=1) == [best]
    assert main(["export", str(folder), "--card", str(tmp_path / "hub")]) == 2
    assert "README.md: exists; name another file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "vattn export: has nothing to do; give --onnx"),
        (["--pick", "best"], "--pick, --out, --weights and --epochs: is of a search"),
        (["--onnx", "m.onnx"], "--clips: is missing, and the data of the training cannot be read"),
        (["--onnx", "m.onnx", "--clips", "gone.mp4"], "gone.mp4: there is no such file"),
    ],
)
def test_wrong_input_is_one_line(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(trial(), tmp_path / "model.safetensors")

    assert main(["export", "model.safetensors", *words]) == 2

    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1
