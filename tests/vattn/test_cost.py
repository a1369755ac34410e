"""Cost in closed form equals the counted cost and the published figures."""

from typing import Any

import pytest

from tests.vattn.counting import clips, count_elements, model_activations, model_macs, on_meta, use_reference_forms
from tests.vattn.random_configs import PAIRS, random_network
from tests.vattn.support import model
from vattn.backbones import BackboneConfig
from vattn.config import ModelConfig
from vattn.cost import cost, gflops_video, render, render_video
from vattn.data.config import ViewsConfig
from vattn.modules import ModuleConfig

TAM, TSM = {"kind": "tam"}, {"kind": "tsm"}


def check_macs_and_parameters(network: ModelConfig) -> None:
    total = cost(network, 7)

    assert total.macs == model_macs(network, 7), network
    assert total.params == sum(p.numel() for p in on_meta(network, 7).parameters()), network


def check_activations(network: ModelConfig) -> None:
    # The closed form assumes the memory format of folded images. A network of clips has the other format, so mechanisms
    # that need the first one keep a copy.
    least = 1.0 if network.backbone.folds else 0.9
    assert cost(network, 7).activations >= least * model_activations(network, 7), network


@pytest.mark.medium
@pytest.mark.parametrize("seed", range(PAIRS))
def test_cost_of_random_networks_equals_the_counted_cost(seed: int) -> None:
    check_macs_and_parameters(random_network(seed))


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(1, 11))
def test_cost_of_a_thousand_more_networks_equals_the_counted_cost(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        network = random_network(seed)
        check_macs_and_parameters(network)
        check_activations(network)


@pytest.mark.medium
def test_random_networks_include_every_possible_pair_of_mechanism_and_backbone() -> None:
    networks = [random_network(seed) for seed in range(PAIRS)]

    together = {(module.kind, network.backbone.kind) for network in networks for module in network.attention}
    for kind, config in ModuleConfig.kinds.items():
        assert issubclass(config, ModuleConfig)
        fitting = {n.backbone.kind for n in networks if {*config.places} & {*n.backbone.positions()}}
        assert {(kind, backbone) for backbone in fitting} <= together
    assert {network.backbone.kind for network in networks} == BackboneConfig.kinds.keys()
    assert max(len(network.attention) for network in networks) == 3


@pytest.mark.medium
@pytest.mark.parametrize("seed", range(0, 100, 9))
def test_activations_of_a_backbone_equal_those_that_autograd_keeps(seed: int) -> None:
    network = random_network(seed).model_copy(update={"attention": ()})

    assert cost(network, 7).activations == model_activations(network, 7)


@pytest.mark.medium
@pytest.mark.parametrize("seed", range(0, 100, 9))
def test_activations_are_at_least_those_that_autograd_keeps(seed: int) -> None:
    check_activations(random_network(seed))


def test_rows_sum_to_the_total() -> None:
    total = cost(model(TAM, TSM), 7)

    assert total.macs == sum(row.macs for row in total.rows)
    assert total.params == sum(row.params for row in total.rows)
    assert total.activations == sum(row.activations for row in total.rows)
    assert [(row.stage, row.what) for row in total.rows if row.stage < 3] == [
        (1, "resnet"), (2, "resnet"), (2, "tam"), (2, "tsm"), (0, "head"),
    ]  # fmt: skip


def test_head_costs_one_linear_layer_per_frame() -> None:
    head = cost(model(width=1.0, frames=8, size=32), 10).rows[-1]

    # 512 features, 8 frames. Dropout keeps its mask, unless its rate is 0.
    assert (head.what, head.macs, head.params, head.activations) == ("head", 8 * 512 * 10, 513 * 10, 2 * 8 * 512)
    assert cost(model(head={"dropout": 0.0}, width=1.0, frames=8), 10).rows[-1].activations == 8 * 512


@pytest.mark.parametrize(
    ("depth", "attention", "size", "frames", "classes", "gmacs", "params_m"),
    [
        (18, [], 224, 8, 174, 14.509, 11.266),
        (18, [TSM], 224, 8, 174, 14.509, 11.266),
        (50, [], 256, 8, 400, 42.713, 24.328),
        (50, [TAM], 256, 8, 400, 42.784, 25.590),
        (50, [TAM], 224, 8, 400, 32.760, 25.590),
        (50, [TAM], 256, 16, 400, 85.568, 25.598),
    ],
)
def test_macs_and_parameters_of_published_networks(
    depth: int, attention: list[Any], size: int, frames: int, classes: int, gmacs: float, params_m: float
) -> None:
    total = cost(model(*attention, depth=depth, width=1.0, size=size, frames=frames), classes)

    # The tolerance is that of the last printed digit: 42.78345 is printed as 42.784.
    assert total.gflops == pytest.approx(gmacs, abs=0.0006)
    assert total.params_m == pytest.approx(params_m, abs=0.0005)


@pytest.mark.parametrize(
    ("depth", "attention", "size", "frames", "classes", "printed"),
    [
        (18, [], 224, 8, 174, 14.57),
        (18, [TSM], 224, 8, 174, 14.57),
        (50, [], 256, 8, 400, 43.055),
        (50, [TAM], 256, 8, 400, 43.066),
        (50, [TAM], 224, 8, 400, 32.977),
        (50, [TAM], 256, 16, 400, 86.133),
    ],
)
def test_cost_in_the_convention_of_the_m2a_paper_is_the_published_one(
    depth: int, attention: list[Any], size: int, frames: int, classes: int, printed: float
) -> None:
    network = model(*attention, depth=depth, width=1.0, size=size, frames=frames)
    net = on_meta(network, classes)
    use_reference_forms(net)

    counted = count_elements(net, clips(network)).m2a_paper()

    # The figures of TANet do not include the dynamic aggregation: K = 3 products per value.
    sites = [site for module in network.attention for site in module.at(network.backbone.sites(size))]
    aggregation = sum(3 * frames * site.channels * site.height * site.width for site in sites)
    assert (counted - aggregation) / 1e9 == pytest.approx(printed, rel=0.002)


def test_cost_of_tsm_is_the_published_one() -> None:
    network = model(TSM, depth=50, width=1.0, size=224, frames=8)

    assert count_elements(on_meta(network, 101), clips(network)).stated() / 1e9 == pytest.approx(32.88, rel=0.002)


def test_table_names_every_stage() -> None:
    lines = render(model(TAM), 7).splitlines()

    assert [line.split()[:2] for line in lines[1:4]] == [["stem", "resnet"], ["res2", "resnet"], ["res2", "tam"]]
    assert lines[-3].startswith("all")


def test_table_shows_the_cost_of_stc_as_an_alternative_to_sta() -> None:
    # Table IV of the STA paper, r = 16. In two blocks of res5, c = 2048, T = 4 (of 64 frames), 2 x 2 pixels (of 64).
    # STA has 2048 (4 + 4) + 5 = 16,389 parameters per block. STC has 2048^2 (4^2 + 4 + 2) / 16 = 5,767,168 parameters,
    # and 2048 (4 + 3) = 14,336 more multiplications than parameters.
    backbone = {"kind": "resnext3d", "depth": 101}
    network = model({"kind": "sta", "every": 2}, backbone=backbone, frames=64, size=64)

    sta, stc = (line.split() for line in render(network, 51).splitlines() if "st" in line and line.startswith("res5"))

    assert sta[:2] == ["res5", "sta"]
    assert stc == ["res5", "(stc)", f"{2 * 5_781_504 / 1e9:.4f}", f"{2 * 5_767_168 / 1e6:.4f}", "-"]
    assert sta[3] == f"{2 * 16_389 / 1e6:.4f}"
    total = cost(network, 51)
    assert not any("stc" in row.what for row in total.rows)


def test_table_shows_no_stc_for_ta_and_sa() -> None:
    backbone = {"kind": "i3d_resnet", "depth": 10}

    for weights in ("ta", "sa"):
        assert "stc" not in render(model({"kind": "sta", "weights": weights}, backbone=backbone, size=64), 7)


def test_the_cost_of_a_video_is_that_of_its_views_at_the_size_of_the_evaluation() -> None:
    network = model(TAM, depth=50, width=1.0, frames=8, size=224)

    # TANet-50, 10 x 3 views of 256 x 256 pixels: 42.784 GFLOPs a view.
    views = ViewsConfig(clips=10, crops=3, size=256)
    assert gflops_video(network, views, 400) == pytest.approx(30 * 42.784, abs=0.02)
    assert gflops_video(network, ViewsConfig(), 400) == cost(network, 400).gflops
    assert "10 x 3 views of 256 x 256 pixels: 1284 GFLOPs (gflops_video)" in render_video(network, views, 400)
