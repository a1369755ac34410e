"""The ready spaces of T-CNN and STA contain the papers' layouts and ablations."""

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


def test_the_tcnn_space_contains_the_layout_of_the_paper() -> None:
    backbone: dict[str, Any] = library("tcnn").trial["model"]["backbone"]

    assert tuple(backbone["widths"]) == TCNNConfig().widths
    for searched, dilations in zip(backbone["dilations"], TCNNConfig().dilations, strict=True):
        if isinstance(searched, dict):
            least, most = searched["repeat"]["times"]["int"]
            assert least <= len(dilations) <= most
            assert set(dilations) <= set(searched["repeat"]["of"]["choice"])
        else:
            assert tuple(searched) == dilations


@pytest.mark.medium
def test_the_small_tcnn_space_has_the_number_of_networks_counted_by_hand() -> None:
    # Two widths; one to three pairs in stage 4, one or two in stage 5; 3 dilations for each pair.
    assert len({architecture_id(network) for network in networks("tcnn_small")}) == 2 * (3 + 9 + 27) * (3 + 9)


@pytest.mark.parametrize("name", ["sta", "sta_small"])
def test_the_sta_spaces_are_the_ablations_of_the_paper(name: str) -> None:
    # For each clip length: no mechanism 1; STA and TA at 4 stages with 3 steps (a step of 4 is the same network as 3,
    # because the kernel has 3 taps); SA at 4 stages; no deconvolution at 2 stages.
    assert len({architecture_id(network) for network in networks(name)}) == 2 * (1 + 2 * 4 * 3 + 4 + 2)
