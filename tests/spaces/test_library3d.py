"""The ready spaces of T-CNN and STA hold the papers' layouts and ablations."""

from pathlib import Path
from typing import Any

import pytest

import spaces
from search.spec.schema import Spec
from search.spec.validation import load
from vattn.backbones.tcnn import TCNNConfig
from vattn.canonical import architecture_id
from vattn.config import ModelConfig


def library(name: str) -> Spec:
    return load(Path(spaces.__file__).parent / "library" / f"{name}.yaml")


def networks(name: str) -> list[ModelConfig]:
    return [ModelConfig.parse(tree["model"]) for _, tree in library(name).space.enumerate()]


def test_the_paper_s_layout_is_a_point_of_the_space_of_tcnns() -> None:
    backbone: dict[str, Any] = library("tcnn").trial["model"]["backbone"]

    assert tuple(backbone["widths"]) == TCNNConfig().widths
    for searched, found in zip(backbone["dilations"], TCNNConfig().dilations, strict=True):
        if isinstance(searched, dict):
            least, most = searched["repeat"]["times"]["int"]
            assert least <= len(found) <= most
            assert set(found) <= set(searched["repeat"]["of"]["choice"])
        else:
            assert tuple(searched) == found


def test_the_small_space_of_tcnns_is_counted_by_hand() -> None:
    found = networks("tcnn_small")

    # Two widths; in stage 4 one to three pairs of 3 dilations each, in stage 5 one or two.
    assert len({architecture_id(network) for network in found}) == 2 * (3 + 9 + 27) * (3 + 9)


@pytest.mark.parametrize("name", ["sta", "sta_small"])
def test_the_spaces_of_sta_are_the_paper_s_ablations(name: str) -> None:
    found = networks(name)

    # For each length of clips: none; STA and TA at 4 stages with 3 steps (beyond 3 taps all are one); SA at 4; without
    # the deconvolution at 2.
    assert len({architecture_id(network) for network in found}) == 2 * (1 + 2 * 4 * 3 + 4 + 2)
