"""Checks of whole specs and configs."""

from pathlib import Path

import pytest

from search.spec.messages import SpecError
from search.spec.validation import load_config
from tests.search.spec.minimal import Problems
from vattn.config import TrialConfig
from vattn.errors import UserError

ATTENTION = "trial.model.attention="


def test_a_problem_that_only_a_combination_has_is_reported(problems: Problems) -> None:
    # Each value is valid with the first value of the other range: bottlenecks have a position c, basic blocks have b.
    lines = problems(
        "trial.model.backbone.depth={choice: [50, 18]}", ATTENTION + "[{kind: tam, position: {choice: [b, c]}}]"
    )

    (line,) = lines
    where = "trial.model.attention[0].position.choice[1]"
    assert line.startswith(f"spec.yaml: {where}: a block of this resnet offers block, a, b, d")


def test_a_complete_config_is_read_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    path.write_text(
        "data: {kind: motion}\nmodel: {frames: 4, size: 48, backbone: {kind: resnet, depth: 10}}\n"
        "train: {epochs: 2, batch: 4, lr: 0.1}\n"
    )

    config = load_config(path, ["train.epochs=5"])

    assert isinstance(config, TrialConfig)
    assert config.train.epochs == 5
    with pytest.raises(SpecError, match=r"best\.yaml: train\.epochs: must be at least 1; try 1 \(got 0\)$"):
        load_config(path, ["train.epochs=0"])


def test_a_spec_in_place_of_a_config_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("schema: 1\nname: a\ntrial: {}\nsearch: {}\n")

    with pytest.raises(UserError, match=r"spec\.yaml: must be one config, and is the spec of a search; run that"):
        load_config(path)
