import torch
from torch import Tensor

from vattn.detection.targets import AnchorRule, Draws, RegionRule, anchor_targets, region_targets


class InOrder(Draws):
    """Draws nothing at random: permutations in order, uniform numbers evenly spaced from 0."""

    def permutation(self, n: int) -> Tensor:
        return torch.arange(n)

    def uniform(self, n: int) -> Tensor:
        return torch.arange(n) / n


ANCHORS = torch.tensor([[0.0, 9.0], [10.0, 19.0], [20.0, 29.0], [30.0, 49.0]])


def instances(*rows: tuple[float, float, float]) -> Tensor:
    return torch.tensor([[*rows, (0.0, 0.0, 0.0)]])


def test_the_best_anchor_of_an_instance_is_an_action_however_small_its_overlap() -> None:
    # Of 15 to 31: 5 of 22 frames of the second anchor, 10 of 17 of the third. The fourth leaves the buffer of 40.
    targets = anchor_targets(ANCHORS, instances((15, 31, 2)), 40, AnchorRule(), InOrder())

    assert targets.labels.tolist() == [[0, 0, 1, -1]]
    torch.testing.assert_close(targets.outside, torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0]]))


def test_an_instance_that_meets_no_anchor_marks_none() -> None:
    targets = anchor_targets(ANCHORS, instances((35, 39, 1)), 30, AnchorRule(), InOrder())

    assert targets.labels.tolist() == [[0, 0, 0, -1]]


def test_too_many_anchors_are_dropped_actions_first() -> None:
    rows = instances((0, 9, 1), (10, 19, 2), (20, 29, 3))

    targets = anchor_targets(ANCHORS, rows, 40, AnchorRule(count=2), InOrder())

    # One action at most, and the first two of three are dropped; there is no background.
    assert targets.labels.tolist() == [[-1, -1, 1, -1]]


def test_regions_come_from_proposals_and_from_the_instances_themselves() -> None:
    # IoU 1 / 2 of 0 to 9 with 0 to 4; 3 / 12 of 7 to 18, background; 40 to 49 is neither.
    proposals = [torch.tensor([[0.0, 4.0], [7.0, 18.0], [40.0, 49.0]])]

    targets = region_targets(proposals, instances((0, 9, 3)), RegionRule(count=4), InOrder())

    assert targets.regions.tolist() == [[0, 0, 4], [0, 0, 9], [0, 7, 18], [0, 7, 18]]
    assert targets.labels.tolist() == [3, 3, 0, 0]
    # The centre 5 of the instance is 2.5 of 5 frames later than 2.5, and its length twice as long.
    torch.testing.assert_close(targets.offsets[0], torch.tensor([0.5 / 0.1, 0.6931472 / 0.2]))
    assert not targets.offsets[2:].any()


def test_without_background_all_regions_are_actions() -> None:
    targets = region_targets([torch.tensor([[0.0, 9.0]])], instances((0, 9, 3)), RegionRule(count=6), InOrder())

    assert targets.labels.tolist() == [3] * 6


def test_a_buffer_without_regions_of_either_kind_has_none() -> None:
    nothing = torch.zeros(1, 2, 3)

    targets = region_targets([torch.tensor([[0.0, 9.0]])], nothing, RegionRule(), InOrder())

    assert not len(targets.labels)


def test_of_instances_with_equal_times_the_first_gives_the_class() -> None:
    rows = instances((0, 9, 5), (0, 9, 8))

    targets = region_targets([torch.tensor([[0.0, 9.0]])], rows, RegionRule(count=2), InOrder())

    assert set(targets.labels.tolist()) == {5}


def test_without_replacement_fewer_regions_can_come() -> None:
    rule = RegionRule(count=8, share=0.25, negative=(0.0, 0.5), replace=False)
    proposals = [torch.tensor([[0.0, 9.0], [20.0, 29.0], [30.0, 39.0]])]

    targets = region_targets(proposals, instances((0, 9, 3)), rule, InOrder())

    assert targets.labels.tolist() == [3, 3, 0, 0]
