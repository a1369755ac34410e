"""The spaces of TAM's Tables 1 to 3 and of M2A contain the networks of the papers' tables."""

from pathlib import Path

import pytest

import spaces
from search.spec.schema import Spec
from search.spec.validation import load
from vattn.canonical import architecture_id
from vattn.config import ModelConfig
from vattn.modules.m2a import M2AConfig
from vattn.modules.tam import TAMConfig


def library(name: str) -> Spec:
    return load(Path(spaces.__file__).parent / "library" / f"{name}.yaml")


def networks(name: str) -> list[ModelConfig]:
    return [ModelConfig.parse(tree["model"]) for _, tree in library(name).space.enumerate()]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # Table 1: 9 pairs of alpha and beta, and 5 taps, with 8 and 16 frames.
        ("tam_table1", 2 * (9 + 1)),
        # Table 2: C2D, pool, convolution, TSM, I3D, non-local, three parts of TAM, TANet-R and TANet.
        ("tam_table2", 11),
        # Table 3: five backbones with and without TAM.
        ("tam_table3", 5 * 2),
        # None; 3 x 3 parts; attention alone; two sizes of patches; M2A + TSM; TSM, TEA, TDN and TAM.
        ("m2a", 1 + 9 + 1 + 2 + 1 + 4),
    ],
)
def test_a_space_has_the_networks_of_its_tables_and_trains_all_of_them(name: str, count: int) -> None:
    assert len({architecture_id(network) for network in networks(name)}) == count
    assert library(name).search.budget.trials == count


def test_table_1_varies_the_parameters_around_those_of_the_paper() -> None:
    tams = [(network.frames, module) for network in networks("tam_table1") for module in network.attention]

    assert all(isinstance(module, TAMConfig) for _, module in tams)
    values = {(frames, m.alpha, m.beta, m.kernel_size) for frames, m in tams if isinstance(m, TAMConfig)}
    assert values >= {
        (8, 2, 4, 3),
        (16, 2, 4, 3),
        (8, 2, 4, 5),
        (16, 2, 4, 5),
        (8, 1, 4, 3),
        (8, 4, 4, 3),
        (8, 2, 8, 3),
    }


def test_the_non_local_network_of_table_2_has_five_blocks() -> None:
    (network,) = (n for n in networks("tam_table2") if n.attention and n.attention[0].kind == "nonlocal")

    sites = network.attention[0].at(network.backbone.sites(network.size))
    assert [(site.stage, site.block) for site in sites] == [(3, 0), (3, 2), (4, 0), (4, 2), (4, 4)]


def test_table_3_has_the_four_other_backbones_of_the_paper() -> None:
    kinds = {network.backbone.kind for network in networks("tam_table3")}

    assert kinds == {"shufflenet_v2", "mobilenet_v2", "inception_v3", "resnext", "resnet"}


def test_the_space_of_m2a_has_the_rows_of_tables_1_and_4() -> None:
    parts = {
        (module.motion, module.attention)
        for network in networks("m2a")
        for module in network.attention
        if isinstance(module, M2AConfig)
    }

    assert parts >= {("m2a", "m2a"), ("m2a", "none"), ("none", "m2a"), ("m2a", "tam"), ("m2a", "patch")}
