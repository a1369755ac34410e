"""Specs with a data set of the user: problems are reported with file and path before anything starts."""

from pathlib import Path

import pytest

from search.cli import main
from search.spec.messages import SpecError
from search.spec.validation import load
from vattn.canonical import trial_id

SPEC = """\
schema: 1
name: small
trial:
  data:
    kind: folders
    root: %s
    sampling: {kind: {choice: [segments, dense]}}
    augment: {crop: {choice: [random, multiscale]}, flip: true}
    views: {clips: 2, crops: 3}
  model: {frames: 4, size: 32, backbone: {kind: resnet, depth: 10, width: 0.125}}
  train: {epochs: 1, batch: 4, lr: 0.1}
search: {budget: {trials: 2}}
"""


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    for name in ("run", "jump", "fall"):
        (tmp_path / "set" / name).mkdir(parents=True)
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC % (tmp_path / "set"))
    return path


def test_the_number_of_classes_is_read_from_the_files(spec_file: Path) -> None:
    spec = load(spec_file)
    config = spec.trial_config(next(spec.space.one_at_a_time())[1])

    assert spec.classes == 3
    # ResNet-10 with an eighth of the width has 64 features after its last stage: one more class is 65 parameters.
    (spec_file.parent / "set" / "swim").mkdir()
    with_four = load(spec_file, [f"trial.data.root={spec_file.parent}/../{spec_file.parent.name}/set"])
    assert with_four.cost(config)["params_m"] - spec.cost(config)["params_m"] == pytest.approx(65e-6)


def test_sampling_and_augmentation_are_searchable(spec_file: Path) -> None:
    spec = load(spec_file)

    assert spec.space.part("data").size() == 4
    assert len({trial_id(spec.trial_config(tree)) for _, tree in spec.space.enumerate()}) == 4


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("trial.data={kind: folders}", "trial.data.root: is missing; add it"),
        ("trial.data.root=auto", "trial.data.root: must be the folder of the files as their owners publish it"),
        ("trial.data.views.crops=2", "trial.data.views.crops: must be one of 1, 3 (got 2)"),
        ("trial.data={kind: ucf101, root: x, split: 4}", "trial.data.split: must be one of 1, 2, 3, all (got 4)"),
        ("trial.data={kind: table, root: x}", "trial.data.file: is missing; add it"),
    ],
)
def test_a_problem_of_the_data_section_is_one_line(spec_file: Path, change: str, line: str) -> None:
    with pytest.raises(SpecError) as error:
        load(spec_file, [change])

    assert str(error.value).startswith(f"{spec_file}: {line}")


def test_colour_augmentation_of_optical_flow_is_refused_at_its_path(spec_file: Path) -> None:
    with pytest.raises(SpecError, match=r"spec\.yaml: trial\.data\.augment: color and randaugment change colours"):
        load(spec_file, ["trial.data.modality=flow", "trial.data.augment.color=0.4"])


def test_a_missing_data_set_ends_the_check_with_status_2(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["check", str(spec_file), "--set", "trial.data.root=/nowhere"])

    assert status == 2
    assert capsys.readouterr().err == (
        f"{spec_file}: trial.data.root: must be the folder of the folders files as their owners publish it; /nowhere "
        "does not exist\n"
    )
