import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vattn.detection.boxes import Rule, anchors, decode, encode, nms, nms_by_class, overlaps


def test_an_anchor_of_scale_2_is_16_frames_around_the_centre_of_its_position() -> None:
    # Position 1 at stride 8 has the centre 8 + 3.5; 16 frames inclusively are 15 from the first to the last.
    boxes = anchors([2.0], length=2)

    torch.testing.assert_close(boxes, torch.tensor([[-4.0, 11.0], [4.0, 19.0]]))


def test_decoding_adds_one_frame_to_the_end() -> None:
    boxes, targets = torch.tensor([[10.0, 19.0]]), torch.tensor([[12.0, 16.0]])

    torch.testing.assert_close(decode(boxes, encode(boxes, targets)), torch.tensor([[12.0, 17.0]]))


def test_overlap_counts_frames_inclusively() -> None:
    # 0 to 9 and 5 to 14 share 5 of 15 frames. Padding has 0, and a box of one frame has -1.
    iou = overlaps(torch.tensor([[0.0, 9.0], [3.0, 3.0]]), torch.tensor([[5.0, 14.0], [0.0, 0.0]]))

    torch.testing.assert_close(iou, torch.tensor([[1 / 3, 0.0], [-1.0, -1.0]]))


@pytest.mark.parametrize(
    ("rule", "kept"), [("inclusive", [0]), ("inclusive_gpu", [0, 1]), ("plain", [0, 1]), ("scnn", [0, 1])]
)
def test_rules_differ_at_equality(rule: Rule, kept: list[int]) -> None:
    # By inclusive lengths 0 to 9 and 0 to 4 have an IoU of 5 / 10, by plain ones of 4 / 9.
    boxes, scores = torch.tensor([[0.0, 9.0], [0.0, 4.0]]), torch.tensor([0.9, 0.8])

    assert nms(boxes, scores, 0.5, rule).tolist() == kept


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), min_size=1, max_size=30),
    st.sampled_from(["inclusive", "inclusive_gpu", "plain"]),
    st.sampled_from([0.0, 0.3, 0.5, 0.9]),
)
def test_suppression_is_that_of_the_plain_loop(spans: list[tuple[int, int]], rule: Rule, threshold: float) -> None:
    boxes = torch.tensor([(start, start + length) for start, length in spans], dtype=torch.float64)
    scores = torch.linspace(1, 0.1, len(spans), dtype=torch.float64)

    assert nms(boxes, scores, threshold, rule).tolist() == plain_loop(boxes, threshold, rule)


def plain_loop(boxes: Tensor, threshold: float, rule: Rule) -> list[int]:
    """Suppress as the public code does, one pair at a time; boxes are by decreasing score."""
    extra = rule in ("inclusive", "inclusive_gpu")
    kept: list[int] = []
    for number, (start, end) in enumerate(boxes.tolist()):
        ious = []
        for other in kept:
            first, last = boxes[other].tolist()
            shared = max(0.0, min(end, last) - max(start, first) + extra)
            ious.append(shared / ((end - start + extra) + (last - first + extra) - shared))
        if all(iou < threshold if rule == "inclusive" else iou <= threshold for iou in ious):
            kept.append(number)
    return kept


def test_boxes_of_other_classes_do_not_compete() -> None:
    boxes, scores = torch.tensor([[0.0, 9.0]] * 3), torch.tensor([0.7, 0.8, 0.9])

    assert nms_by_class(boxes, scores, torch.tensor([1, 2, 1]), 0.5, "plain").tolist() == [2, 1]


def test_thousands_of_boxes_of_one_class_are_suppressed() -> None:
    rng = np.random.default_rng(0)
    start = torch.from_numpy(rng.uniform(0, 1000, 5000))

    kept = nms(torch.stack([start, start + 10], 1), torch.from_numpy(rng.random(5000)), 0.0, "plain")

    # Of boxes of 10 s that do not overlap at all, 101 fit at most; a gap without one is shorter than two of them.
    assert 33 <= len(kept) <= 101
