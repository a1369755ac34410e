import pytest
import torch
import torch.nn.functional as F

from vattn.detection.pooling import pool_regions


@pytest.mark.parametrize("cells", [(4, 2, 2), (1, 4, 4), (3, 2, 2)])
@pytest.mark.parametrize("span", [(0, 9), (2, 5), (3, 3), (11, 15)])
def test_a_region_inside_is_pooled_as_torch_pools_its_slice(cells: tuple[int, int, int], span: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, 16, 7, 7, generator=torch.Generator().manual_seed(0))
    start, end = span

    pooled = pool_regions(maps, torch.tensor([[1.0, 8.0 * start, 8.0 * end]]), cells, 1 / 8)

    torch.testing.assert_close(pooled, F.adaptive_max_pool3d(maps[1:, :, start : end + 1], cells))


def test_cells_beyond_the_end_of_the_maps_are_zero_and_have_no_gradient() -> None:
    maps = torch.arange(1.0, 5.0).view(1, 1, 4, 1, 1).requires_grad_()

    # From place 3 to place 10, in 4 cells of 2: only the first place of the first cell exists.
    pooled = pool_regions(maps, torch.tensor([[0.0, 24.0, 80.0]]), (4, 1, 1), 1 / 8)
    pooled.sum().backward()

    assert pooled.flatten().tolist() == [4, 0, 0, 0]
    assert maps.grad is not None
    assert maps.grad.flatten().tolist() == [0, 0, 0, 1]


def test_the_first_of_equal_values_has_the_gradient() -> None:
    maps = torch.ones(1, 1, 4, 2, 2, requires_grad=True)

    pool_regions(maps, torch.tensor([[0.0, 0.0, 24.0]]), (1, 1, 1), 1 / 8).sum().backward()

    assert maps.grad is not None
    assert maps.grad[0, 0, 0, 0, 0] == 1
    assert maps.grad.sum() == 1


def test_ends_are_rounded_half_away_from_zero() -> None:
    maps = torch.arange(6.0).view(1, 1, 6, 1, 1)

    # 4 / 8 rounds to 1, 20 / 8 to 3.
    assert pool_regions(maps, torch.tensor([[0.0, 4.0, 20.0]]), (3, 1, 1), 1 / 8).flatten().tolist() == [1, 2, 3]


def test_no_regions_give_no_cells() -> None:
    assert pool_regions(torch.ones(1, 2, 4, 3, 3), torch.zeros(0, 3), (4, 2, 2), 1 / 8).shape == (0, 2, 4, 2, 2)
