"""A spec or config names the files of a teacher, and has their content once it is read."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from search.cli import main
from search.spec.messages import SpecError
from search.spec.validation import load, load_config
from vattn.canonical import trial_id
from vattn.config import TrialConfig
from vattn.files import digest
from vattn.model import build_model
from vattn.trained import write_model
from vattn.training.recipe.distill import DistillConfig

CONFIG: dict[str, Any] = {
    "data": {"kind": "motion", "train_clips": 2, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
             "store": {"size": 32}},
    "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}},
    "train": {"epochs": 2, "batch": 16, "lr": 0.05},
}  # fmt: skip


@pytest.fixture(autouse=True)
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("teacher.yaml").write_text(json.dumps(CONFIG | {"data": CONFIG["data"] | {"store": {"size": "auto"}}}))
    torch.save({"fc.weight": torch.zeros(16, 64)}, "teacher.pt")


def distilled(**options: Any) -> dict[str, Any]:
    distill = {"teacher": "teacher.yaml", "checkpoint": "teacher.pt"} | options
    return CONFIG | {"train": CONFIG["train"] | {"distill": distill}}


def written(tree: dict[str, Any], name: str = "student.yaml") -> Path:
    Path(name).write_text(json.dumps(tree))
    return Path(name)


def spec_of(distill: Any) -> dict[str, Any]:
    return {"schema": 1, "name": "taught", "trial": CONFIG | {"train": CONFIG["train"] | {"distill": distill}},
            "search": {"budget": {"trials": 4}}}  # fmt: skip


def test_a_config_has_the_content_of_its_teacher() -> None:
    config = load_config(written(distilled(weight=5.0)))

    distill = config.train.distill
    assert isinstance(distill, DistillConfig)
    assert distill.teacher.model == TrialConfig.parse(CONFIG).model
    assert distill.teacher.data.store.size == 38  # 8/7 of 32 pixels, and even
    assert (distill.checkpoint, distill.digest) == (str(Path("teacher.pt").absolute()), digest(Path("teacher.pt")))
    assert (distill.loss, distill.factor) == ("mars", 5.0)
    # What export writes is read as it is, without the files.
    again = written(config.tree(), "exported.yaml")
    Path("teacher.yaml").unlink()
    Path("teacher.pt").unlink()
    assert load_config(again) == config


def test_weights_default_to_those_of_the_papers() -> None:
    factors = [load_config(written(distilled(loss=loss))).train.distill.tree() for loss in ("mars", "kl")]  # pyright: ignore[reportAttributeAccessIssue]

    assert [DistillConfig.parse(tree).factor for tree in factors] == [50.0, 1.0]


def test_a_teacher_is_an_option_of_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    taught = {"teacher": "teacher.yaml", "checkpoint": "teacher.pt", "weight": {"float": [1.0, 100.0], "log": True}}
    spec = load(written(spec_of({"choice": ["none", taught]}), "spec.yaml"))

    trees = [tree for _, tree in spec.space.one_at_a_time()]
    configs = [TrialConfig.parse(tree) for tree in trees]

    assert {config.train.distill == "none" for config in configs} == {True, False}
    assert len({trial_id(config) for config in configs}) >= 3  # none, and two weights
    assert main(["check", "spec.yaml"]) == 0
    Path("teacher.pt").unlink()
    assert main(["check", "spec.yaml"]) == 2
    line = "spec.yaml: trial.train.distill.choice[1].checkpoint: no such file or directory; name the weights of the"
    assert line in capsys.readouterr().err


def test_a_key_beside_the_choice_of_teachers_is_refused() -> None:
    taught = {"teacher": "teacher.yaml", "checkpoint": "teacher.pt"}

    for distill in (
        {"choice": ["none", taught], "min": 1},
        taught | {"teacher": {"choice": ["teacher.yaml"], "min": 1}},
    ):
        with pytest.raises(SpecError, match="min: is unknown beside choice, which takes nothing; remove it"):
            load(written(spec_of(distill), "spec.yaml"))


def test_another_teacher_is_another_spec() -> None:
    path = written(spec_of({"teacher": "teacher.yaml", "checkpoint": "teacher.pt"}), "spec.yaml")
    before = load(path).tree()
    torch.save({"fc.weight": torch.ones(16, 64)}, "teacher.pt")

    after = load(path).tree()

    assert before["trial"]["train"]["distill"]["digest"] != after["trial"]["train"]["distill"]["digest"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"teacher": "gone.yaml"},
            'train.distill.teacher: no such file or directory; name a file .* (got "gone.yaml")',
        ),
        ({"teacher": "half.yaml"}, "train.distill.teacher: must be the config of a trained network, and has no model"),
        ({"checkpoint": "gone.pt"}, "train.distill.checkpoint: no such file .*; name the weights of the teacher"),
        ({"checkpoint": {"choice": ["a.pt", "b.pt"]}}, "checkpoint: must be one file; for several teachers, put the"),
        ({"loss": "hinton"}, "train.distill.loss: must be one of mars, kl"),
        ({"weight": -1}, "train.distill.weight: must be auto or at least 0"),
        ({"temperature": 0}, "train.distill.temperature: must be above 0"),
        ({"teacher": 3}, "train.distill.teacher: must be a mapping"),
    ],
)
def test_mistakes_are_named_where_they_stand(options: dict[str, Any], line: str) -> None:
    written({"data": CONFIG["data"]}, "half.yaml")

    with pytest.raises(SpecError) as raised:
        load_config(written(distilled(**options)))

    pattern = line.replace("(", r"\(").replace(")", r"\)")
    assert re.search(pattern, str(raised.value)), str(raised.value)


def test_a_trained_model_is_its_own_checkpoint() -> None:
    config = TrialConfig.parse(CONFIG)
    state = build_model(config.model, 16).state_dict()
    write_model(Path("teacher.safetensors"), config, config.data.labels(), state, {})
    train = CONFIG["train"] | {"distill": {"teacher": "teacher.safetensors"}}

    distill = load_config(written(CONFIG | {"train": train})).train.distill

    assert isinstance(distill, DistillConfig)
    assert distill.teacher.model == config.model
    assert distill.checkpoint == str(Path("teacher.safetensors").absolute())
    assert distill.digest == digest(Path("teacher.safetensors"))
