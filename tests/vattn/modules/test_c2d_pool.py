"""C2D-Pool: averages that are computed by hand."""

import torch

from tests.vattn.support import site
from vattn.modules.c2d_pool import C2DPoolConfig


def test_average_at_the_ends_is_over_the_existing_frames() -> None:
    # 2, 4, 9, 1: (2 + 4) / 2, (2 + 4 + 9) / 3, (4 + 9 + 1) / 3, (9 + 1) / 2.
    pool = C2DPoolConfig().build(site(1), 4)

    y = pool(torch.tensor([2.0, 4.0, 9.0, 1.0]).view(1, 1, 4, 1, 1))

    torch.testing.assert_close(y.flatten(), torch.tensor([3.0, 5.0, 14 / 3, 5.0]))
