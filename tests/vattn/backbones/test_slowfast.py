"""SlowFast: the published cost, the frames of the slow pathway, and TAM in place of temporal convolutions."""

import pytest

from tests.vattn.support import model
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
