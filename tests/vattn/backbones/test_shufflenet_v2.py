"""ShuffleNetV2: its sites, its shuffle, its published cost."""

from collections import Counter

import pytest
import torch

from vattn.backbones.shufflenet_v2 import ShuffleNetV2Config, shuffled
from vattn.modules import Site


def test_sites_are_in_the_branch_with_three_convolutions() -> None:
    sites = ShuffleNetV2Config(width=0.5).sites(224)

    # Table 5: 4, 8 and 4 blocks at 28, 14 and 7 pixels.
    assert Counter(s.stage for s in sites if s.position == "b") == {3: 4, 4: 8, 5: 4}
    # The branch of the first block has all 24 channels of 56 x 56 as input, that of the second block half of 48.
    assert sites[:10] == (
        Site(3, 0, "block", 24, 56, 56), Site(3, 0, "a", 24, 56, 56), Site(3, 0, "b", 24, 56, 56),
        Site(3, 0, "c", 24, 28, 28), Site(3, 0, "d", 24, 28, 28),
        Site(3, 1, "block", 48, 28, 28), Site(3, 1, "a", 24, 28, 28), Site(3, 1, "b", 24, 28, 28),
        Site(3, 1, "c", 24, 28, 28), Site(3, 1, "d", 24, 28, 28),
    )  # fmt: skip


@pytest.mark.parametrize(("width", "macs"), [(0.5, 41e6), (1.0, 146e6), (1.5, 299e6), (2.0, 591e6)])
def test_cost_is_that_of_the_paper(width: float, macs: float) -> None:
    # Table 8 includes the 1000-way classifier, and rounds to whole millions.
    config = ShuffleNetV2Config(width=width)

    assert sum(p.macs for p in config.parts(224, 1)) + config.channels() * 1000 == pytest.approx(macs, rel=0.015)


def test_channels_of_both_branches_are_interleaved() -> None:
    first = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)

    y = shuffled(first, first + 10)

    assert y[0, :, 0, 0].tolist() == [0, 10, 1, 11, 2, 12]
    torch.testing.assert_close(y, y[:1, :, :1, :1].expand(2, 6, 4, 5))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_widths_other_than_the_papers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.5, 1, 1\.5 and 2; take one of them"):
        ShuffleNetV2Config(width=0.75)
