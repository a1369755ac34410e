"""SlowFast: the published cost, the frames of the slow pathway, and TAM in place of temporal convolutions."""

from collections import Counter

import pytest

from tests.vattn.counting import model_macs, on_meta
from tests.vattn.support import model
from vattn.canonical import architecture_id, canonical_model
from vattn.config import ModelConfig
from vattn.cost import cost


@pytest.mark.parametrize(("alpha", "printed"), [(8, 36.1), (4, 65.7)])
def test_slowfast_50_costs_what_its_paper_prints(alpha: int, printed: float) -> None:
    # 4x16 and 8x8 of Table 2, at 256 pixels. The paper does not say what it counts. Multiply-accumulates alone differ
    # by 0.6 %.
    total = cost(model(backbone={"kind": "slowfast", "alpha": alpha}, frames=32, size=256), 400)

    assert total.gflops == pytest.approx(printed, rel=0.007)
    assert total.params_m == pytest.approx(34.4, abs=0.1)


def test_tam_in_place_of_temporal_convolutions_has_a_lower_cost() -> None:
    tam = {"kind": "tam"}
    tree = {"kind": "slowfast", "temporal": "none"}
    network = model(tam, backbone=tree, frames=32, size=224)
    with_tam = cost(network, 400)
    with_convolutions = cost(model(backbone={"kind": "slowfast"}, frames=32, size=224), 400)

    # TAM is in all 16 blocks of both pathways.
    assert len(network.attention[0].at(network.backbone.sites(224))) == 32
    assert with_tam.macs < with_convolutions.macs


def test_frames_that_are_no_multiple_of_alpha_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames: must be a multiple of alpha, 8, of slowfast \(got 12\)"):
        model(backbone={"kind": "slowfast"}, frames=12)


#: TAM where SlowFast has its 3x1x1 convolutions: in the whole fast pathway, and in res4 and res5 of the slow one.
PAPER = ({"kind": "tam", "pathway": "fast"}, {"kind": "tam", "pathway": "slow", "stages": [4, 5]})


def test_tam_takes_the_places_of_the_temporal_convolutions() -> None:
    network = model(*PAPER, backbone={"kind": "slowfast", "temporal": "none"}, frames=32, size=224)
    fast, slow = (mechanism.at(network.backbone.sites(224)) for mechanism in network.attention)

    assert Counter(site.stage for site in fast) == {2: 3, 3: 4, 4: 6, 5: 3}
    assert Counter(site.stage for site in slow) == {4: 6, 5: 3}
    # The fast pathway has an eighth of the channels, and eight times the frames of the slow one.
    assert {(site.channels, network.backbone.frames_at(site, 32)) for site in fast if site.stage == 5} == {(64, 32)}
    assert {(site.channels, network.backbone.frames_at(site, 32)) for site in slow if site.stage == 5} == {(512, 4)}
    tams = [name for name, module in on_meta(network, 7).named_modules() if type(module).__name__ == "TAM"]
    assert len(tams) == 16 + 9


def test_the_order_of_mechanisms_in_different_pathways_has_no_effect() -> None:
    backbone = {"kind": "slowfast", "depth": 14, "temporal": "none"}
    one, other = (model(*mechanisms, backbone=backbone, frames=8) for mechanisms in (PAPER, PAPER[::-1]))
    both = model({"kind": "tam"}, backbone=backbone, frames=8)

    assert architecture_id(one) == architecture_id(other) != architecture_id(both)
    assert cost(canonical_model(other), 7).macs == cost(one, 7).macs == model_macs(one, 7)


@pytest.mark.parametrize("kind", ["resnet", "inflated"])
def test_a_backbone_with_one_pathway_has_no_slow_one(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"attention\[0\]\.pathway: {kind} has one pathway, slowfast two; write both"):
        model({"kind": "tam", "pathway": "slow"}, backbone={"kind": kind, "depth": 50}, frames=8)


def test_blocks_are_counted_from_the_first_one_that_gets_the_mechanism() -> None:
    def attending(every: int) -> ModelConfig:
        module = {"kind": "nonlocal", "pathway": "fast", "stages": [2], "first": 1, "every": every}
        return model(module, backbone={"kind": "slowfast", "depth": 50}, frames=8)

    # The blocks of the fast pathway are 3, 4 and 5: 3 and 5, only 5, and 4.
    assert len({architecture_id(attending(every)) for every in (2, 4, 3)}) == 3
    for every in (2, 3, 4):
        network = attending(every)
        sites = network.backbone.sites(network.size)
        assert canonical_model(network).attention[0].at(sites) == network.attention[0].at(sites)
