"""T-CNN: the paper's layout, the reach of a dilated pair, refused layouts, and the published cost."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.vattn.support import model
from vattn.backbones.tcnn import TCNNConfig
from vattn.cost import cost


def test_plain_cost_of_tcnn() -> None:
    total = cost(model(backbone={"kind": "tcnn"}, frames=16, size=224), 101)

    assert total.gflops == pytest.approx(15.663, abs=0.0005)
    assert total.params_m == pytest.approx(12.96, abs=0.005)


def test_the_default_has_36_convolutions_of_which_9_are_dilated() -> None:
    with torch.device("meta"):
        net = TCNNConfig().build()
    main = [m for n, m in net.named_modules() if isinstance(m, nn.Conv3d) and "downsample" not in n]

    assert len(main) == 36
    dilated = [conv.dilation[0] for conv in main if conv.dilation[0] > 1]
    # Table 1, in order.
    assert dilated == [4, 4, 4, 4, 2, 4, 2, 2, 2]
    assert [len(pairs) * 2 for pairs in TCNNConfig().dilations] == [2, 2, 2, 12, 6, 8, 4]


def test_a_dilated_pair_depends_on_frames_at_its_dilation_only() -> None:
    tree = {"kind": "tcnn", "widths": [4] * 7, "dilations": [[4], [1], [1], [1], [1], [1], [1]]}
    torch.manual_seed(0)
    pair = model(backbone=tree).backbone.build().eval().get_submodule("layers.0.0")
    x = torch.randn(1, 3, 12, 8, 8)
    changed_input = x.clone()
    changed_input[:, :, 5] += 1

    changed = (pair(x) != pair(changed_input)).any(dim=0).any(dim=0).flatten(1).any(1)

    assert changed.nonzero().flatten().tolist() == [1, 5, 9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": [8] * 6}, r"widths: must have one entry for each of the 7 stages \(got 6\)"),
        ({"dilations": [[1]] * 8}, r"dilations: must have one entry for each of the 7 stages \(got 8\)"),
        ({"dilations": [[1]] * 6 + [[]]}, r"dilations: each stage has at least one pair; give stage 7 one"),
    ],
)
def test_layouts_without_seven_stages_of_pairs_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(backbone={"kind": "tcnn"} | change)
