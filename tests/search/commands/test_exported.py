"""The section `exported` of a config: what it records, and what `vattn train` refuses by it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import vattn
from search.cli import main
from search.commands._versions import versions
from search.commands.export import export
from search.commands.train import _other_data
from search.spec.exported import Exported, other_versions, read_exported
from search.spec.validation import load_config
from tests.vattn.support import model
from vattn.config import TrialConfig
from vattn.cost import cost
from vattn.data import listed, prepare
from vattn.data.motion import encode, render
from vattn.model import build_model


def add_clip(root: Path, place: str, seed: int) -> None:
    file = root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    encode(file, render(0, np.random.default_rng(seed), 6, 40))


@pytest.fixture
def best(tmp_path: Path, events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The best trial of a search, exported with its weights; its data are 8 videos of 2 classes."""
    monkeypatch.chdir(tmp_path)
    root, run = tmp_path / "set", tmp_path / "runs" / "by-hand"
    for seed, place in enumerate(f"{s}/{name}/{n}.mp4" for s in ("train", "val") for name in "ab" for n in range(2)):
        add_clip(root, place, seed)
    data = {"kind": "folders", "root": str(root), "cache": str(run / "cache"), "store": {"size": 36}}
    config = TrialConfig.parse(
        {"data": data | {"views": {"crops": 3}}, "model": model().tree(), "train": {"epochs": 2, "batch": 4, "lr": 0.1}}
    )
    events[0] |= {"versions": versions(), "clips": {"train": 4, "val": 4}}
    next(event for event in events if event["event"] == "proposed" and event["trial"] == 1)["config"] = config.tree()
    (run / "trials" / "0001").mkdir(parents=True)
    torch.save(build_model(config.model, 2).state_dict(), run / "trials" / "0001" / "model.pt")
    (run / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    prepare(config.data, run, test=False)
    export("by-hand", "trial=1", tmp_path / "best.yaml", tmp_path / "weights")
    return tmp_path / "best.yaml"


def test_an_exported_config_records_how_it_was_found(best: Path, tmp_path: Path) -> None:
    found = read_exported(best)

    assert isinstance(found, Exported)
    assert (found.search, found.trial, found.versions) == ("by-hand", 1, versions())
    # 3 of 4 clips, by Wilson.
    expected = found.expected
    assert expected is not None
    assert (expected.value, expected.clips, expected.epochs, expected.seeds) == (0.75, 4, 2, (0,))
    assert (expected.low, expected.high) == (pytest.approx(0.3006, abs=1e-4), pytest.approx(0.9544, abs=1e-4))
    config = load_config(best)
    one = cost(config.model, 2)
    assert found.costs["gflops"] == pytest.approx(one.gflops, rel=1e-5)
    assert found.costs["gflops_video"] == pytest.approx(3 * one.gflops, rel=1e-5)
    assert found.costs["params_m"] == pytest.approx(one.params_m, rel=1e-5)
    assert {split: each.clips for split, each in found.data.items()} == {"train": 4, "val": 4}
    header = best.read_text().partition("data:")[0]
    assert "# Expected top1: 75.0 % (30.1 to 95.4 %), 95 % interval on 4 clips." in header
    # The weights stand on their own.
    trained = vattn.load(tmp_path / "weights")
    assert (trained.labels, trained.file.provenance["search"]["trial"]) == (("a", "b"), 1)


def test_the_same_data_and_code_do_not_differ(best: Path, tmp_path: Path) -> None:
    exported, config = read_exported(best), load_config(best)
    assert exported is not None
    cache = prepare(config.data, tmp_path, test=False)
    moved = (tmp_path / "set").rename(tmp_path / "moved")
    there = listed(config.data.model_copy(update={"root": str(moved)}), tmp_path, test=False)

    assert other_versions(exported.versions, versions()) == []
    assert _other_data(exported, there, cache) == []


def refused(best: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["train", str(best)]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{best}: exported: was found with other data or code: ")
    assert line.endswith("; put them back, or train it all the same with --force")
    return line


@pytest.mark.medium
def test_a_training_with_other_data_or_code_is_refused_naming_what(
    best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = best.read_text()

    add_clip(tmp_path / "set", "val/a/new.mp4", 99)
    assert "data: the val split had 4 clips, and has 5" in refused(best, capsys)
    (tmp_path / "set/val/a/new.mp4").rename(tmp_path / "set/val/a/0.mp4")  # in the place of another
    assert "data: files of the val split have another content" in refused(best, capsys)
    (tmp_path / "set/val/b/0.mp4").rename(tmp_path / "set/val/b/7.mp4")
    assert "data: the val split lists other files, frames or classes" in refused(best, capsys)
    best.write_text(text.replace(f"torch: {versions()['torch']}", "torch: 1.0.0"))
    line = refused(best, capsys)
    assert f"torch was 1.0.0, and is {versions()['torch'].partition('+')[0]}; data: " in line


def test_versions_that_matter_are_compared() -> None:
    before = {"python": "3.11.2", "torch": "2.15.0+cpu", "numpy": "2.0.0", "ray": "1.0"}

    assert other_versions(before, {"python": "3.11.9", "torch": "2.15.0+cu130", "numpy": "2.0.0", "ray": "2.0"}) == []
    assert other_versions(before, {"python": "3.12.0", "torch": "2.15.0", "numpy": "2.0.0"}) == [
        "python was 3.11, and is 3.12",
    ]
    assert other_versions(before, {"python": "3.11.2", "torch": "2.15.0"}) == ["numpy was 2.0.0, and is missing"]


def test_a_section_of_another_form_is_refused(best: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = yaml.safe_load(best.read_text())
    best.write_text(yaml.safe_dump(tree | {"exported": tree["exported"] | {"trial": "one", "more": 1}}))

    assert main(["train", str(best)]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith(f"{best}: exported.") for line in lines)
    assert len(lines) == 2
    assert main(["cost", str(best)]) == 0
