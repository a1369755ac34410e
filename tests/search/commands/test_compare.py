"""`vattn compare` of trials and configs; tests clip by clip are compared in test_test.py."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from search.cli import main

CONFIG = """\
data: {kind: motion}
model: {frames: 4, size: 32, backbone: {kind: resnet, depth: 10, width: 0.125}%s}
train: {epochs: 1, batch: 12, lr: 0.1}
"""


def test_two_trials_are_compared_by_config_cost_and_accuracy(
    tmp_path: Path, events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))

    assert main(["compare", str(tmp_path), "0", "1"]) == 0

    out = capsys.readouterr().out
    assert re.search(r"model.attention.0.alpha +- +2\n", out)
    assert "difference in top1: +25.0 points" in out
    assert main(["compare", str(tmp_path), "0", "9"]) == 2
    assert capsys.readouterr().err == f"{tmp_path}: compare: must be the number of a trial, 0 to 4 (got 9)\n"


def test_two_configs_are_compared_with_their_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, attention in (("none", ""), ("tam", ", attention: [{kind: tam, stages: [5]}]")):
        (tmp_path / f"{name}.yaml").write_text(CONFIG % attention)
    files = [str(tmp_path / f"{name}.yaml") for name in ("none", "tam")]

    assert main(["compare", *files, "--json"]) == 0

    tree = json.loads(capsys.readouterr().out)
    assert tree["differ"]["model.attention.0.kind"] == [None, "tam"]
    assert all(key.startswith("model.attention") for key in tree["differ"])
    assert tree["costs"]["gflops"][0] < tree["costs"]["gflops"][1]
    assert main(["compare", files[0], files[0]]) == 0
    assert "the configs are the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["a.parquet", "b.parquet"], "a.parquet: is not a Parquet file"),
        (["one"], "compare: must be two FILE.parquet"),
        (["a.yaml", "b.yaml"], "a.yaml: "),
        (["a.yaml", "b.yaml", "--out", "x"], "--out: must be left out"),
    ],
)
def test_wrong_input_is_one_line(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["compare", *words]) == 2

    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1
