"""TEA's temporal aggregation, against arithmetic by hand, and TEA's whole network."""

import pytest
import torch
from support import model, site
from torch import Tensor, nn

from vattn.config import ModelConfig
from vattn.convert import convert_model
from vattn.model import build_model
from vattn.modules.mta import MTA, MTAConfig

TEA = [{"kind": "tea"}, {"kind": "mta"}]


def plain(splits: int, width: int, *, block: int, stride: int = 1) -> MTA:
    """One whose convolutions pass on the middle pixel, without norms."""
    here = site(channels=splits * width, size=1, position="conv2", block=block, stride=stride)
    module = MTAConfig(splits=splits).build(here, frames=3)
    for conv in module.convs:
        nn.init.dirac_(conv.get_parameter("weight"))
    module.bns = nn.ModuleList(nn.Identity() for _ in module.bns)
    return module


@pytest.mark.parametrize(
    ("block", "second"),
    [
        # The second split is handed what the first gives: -1 + 1, 2 + 0, -3 + 3 and 4 + 0, -5 + 5, 6 + 0.
        (1, [[0, 2, 0], [4, 0, 6]]),
        # Not so in the first block of a stage.
        (0, [[0, 2, 0], [4, 0, 6]]),
    ],
)
def test_splits_are_handed_on_except_in_a_stage_s_first_block(block: int, second: list[list[float]]) -> None:
    x = torch.tensor([[1.0, -2, 3], [-4, 5, -6], [-1, 2, -3], [4, -5, 6], [7, 8, 9], [10, 11, 12]])
    module = plain(3, 2, block=block)

    y = module(x.view(1, 6, 3, 1, 1)).view(6, 3)

    assert y.tolist() == [[1, 0, 3], [0, 5, 0], *second, [8, 9, 0], [0, 10, 11]]
