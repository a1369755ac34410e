"""`vattn latency`: what is measured, on which device, and what could not be."""

import json
from pathlib import Path

import pytest
import yaml

from search.cli import main
from tests.search.constructed import write_ledger

CONFIG = {
    "data": {"kind": "motion"},
    "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}, "attention": []},
    "train": {"epochs": 1, "batch": 8, "lr": 0.1},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "best.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.mark.medium
def test_a_config_is_measured_with_one_clip_and_with_several(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["latency", str(config), "--threads", "1", "--batch", "3", "--modes", "eager"]

    assert main([*words, "--set", "model.frames=4", "--json"]) == 0

    tree = json.loads(capsys.readouterr().out)
    assert (tree["device"], tree["threads"], tree["precision"]) == ("cpu", 1, "float32")
    assert tree["name"]
    (model,) = tree["models"]
    assert [(row["mode"], row["batch"]) for row in model["measured"]] == [("eager", 1), ("eager", 3)]
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in model["measured"])

    assert main(words) == 0
    first, _, name, head, *rows = capsys.readouterr().out.splitlines()
    assert (
        first == f"cpu: {tree['name']}, 1 thread, float32; median of 5 repetitions after a warm-up, clips on the device"
    )
    assert name.startswith(f"{config}: 2 x 32 x 32, ")
    assert head.split() == ["mode", "batch", "p50", "ms", "p99", "ms", "clips/s", "runs"]
    assert [row.split()[:2] for row in rows] == [["eager", "1"], ["eager", "3"]]


def test_what_cannot_be_measured_says_why(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["latency", str(config), "--modes", "eager", "--batch", str(10**9), "--json"]

    assert main(words) == 0
    one, many = json.loads(capsys.readouterr().out)["models"][0]["measured"]
    assert one["runs"] > 0
    assert "allocate" in many["not_measured"]


def test_a_search_without_such_a_name_and_a_missing_config_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["latency", str(tmp_path / "nothing")]) == 2
    assert "no search is kept there" in capsys.readouterr().err
    assert main(["latency", str(tmp_path / "nothing.yaml")]) == 2
    assert "nothing.yaml" in capsys.readouterr().err


def test_values_of_a_search_cannot_be_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ledger(tmp_path / "ledger.jsonl", 6)

    assert main(["latency", str(tmp_path), "--set", "model.frames=4"]) == 2
    assert "--set: changes a config, and this is a search; export a trial, and name that" in capsys.readouterr().err
