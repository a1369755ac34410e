"""The model card, read as its readers do."""

from pathlib import Path

import yaml

import vattn
from search.report.deploy.card import card
from tests.vattn.trained.test_file import trial
from vattn.cost import cost
from vattn.model import build_model
from vattn.trained import write_model


def test_a_card_says_what_a_model_is_how_good_it_is_and_what_it_costs(tmp_path: Path) -> None:
    config = trial(attention=[{"kind": "tam", "stages": [4]}])
    provenance = {
        "split": "val", "metrics": {"top1": 0.9, "loss": 0.3}, "clips": {"train": 320, "val": 80}, "epoch": 3,
        "epochs": 4, "seed": 7, "search": {"name": "demo", "id": "s1", "trial": 12}, "versions": {"torch": "2.15.0"},
    }  # fmt: skip
    labels = ["push", "pull | <b>", "turn `x`"]
    write_model(tmp_path / "model.safetensors", config, labels, build_model(config.model, 3).state_dict(), provenance)

    text = card(vattn.load(tmp_path))

    _, front, body = text.split("---\n", 2)
    (result,) = yaml.safe_load(front)["model-index"][0]["results"]
    assert (result["metrics"][0]["value"], result["dataset"]["name"]) == (0.9, "motion")
    assert yaml.safe_load(front)["pipeline_tag"] == "video-classification"
    # Wilson's interval of 72 of 80.
    assert "| top1 | 90.0 % (81.5 to 94.8 %) |" in body
    assert "of 80 clips after epoch 3 of 4" in body
    assert f"{cost(config.model, 3).gflops:.4g} a view" in body
    assert "trial 12 of the search demo (s1)" in body
    # Names of classes are no Markdown.
    assert "`push`, `pull  b`, `turn x`" in body


def test_a_card_without_provenance_claims_nothing(tmp_path: Path) -> None:
    config = trial()
    state = build_model(config.model, 2).state_dict()
    write_model(tmp_path / "model.safetensors", config, ["a", "b"], state, {"metrics": ["x"], "clips": 3})

    text = card(vattn.load(tmp_path))

    assert "Nothing is recorded." in text
    assert "model-index" not in text
