"""The loss of a step that is divided is torch's loss of the whole step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vattn.training.recipe.losses import Criterion, class_weights

WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 3.0])


def of_parts(criterion: Criterion, scores: Tensor, labels: Tensor, sizes: list[int]) -> Tensor:
    """Return the loss of a step on one worker, as `train_step` adds it up."""
    total = criterion.total(labels, len(labels), 1)
    parts = zip(scores.split(sizes), labels.split(sizes), strict=True)
    return torch.stack([criterion(s, y) * (criterion.weight(y) / total) for s, y in parts]).sum()


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), weighted=st.booleans(), mixed=st.booleans())
def test_parts_add_up_to_torchs_loss_of_the_whole(sizes: list[int], weighted: bool, mixed: bool) -> None:
    clips = sum(sizes)
    scores, labels = torch.randn(clips, 4), torch.randint(0, 4, (clips,))
    if mixed:
        labels = torch.rand(clips, 4).softmax(1)
    weights = WEIGHTS if weighted else None
    expected = nn.CrossEntropyLoss(weights, label_smoothing=0.2)(scores, labels)

    torch.testing.assert_close(of_parts(Criterion(0.2, weights), scores, labels, sizes), expected)


def test_scores_in_half_precision_take_class_weights() -> None:
    scores, labels = torch.randn(3, 4), torch.tensor([0, 1, 3])

    loss = Criterion(0.0, WEIGHTS)(scores.bfloat16(), labels)

    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nn.CrossEntropyLoss(WEIGHTS)(scores.bfloat16().float(), labels))


def test_class_weights_are_a_power_of_the_number_of_clips_with_mean_1_over_clips() -> None:
    # 8, 2 and 2 clips: by the inverse 1/8 : 1/2 : 1/2. The sum over clips is 1 + 1 + 1 = 12 / 4.
    weights = class_weights(torch.tensor([8, 2, 2]), 1)

    assert weights is not None
    torch.testing.assert_close(weights, torch.tensor([0.5, 2.0, 2.0]))
    root = class_weights(torch.tensor([9, 1]), 0.5)
    assert root is not None
    assert root.tolist() == pytest.approx([10 / 4 / 3, 10 / 4])  # 1/3 : 1, sum over clips 3 + 1
    assert class_weights(torch.tensor([8, 2]), 0) is None


def test_a_class_without_clips_has_the_smallest_weight() -> None:
    weights = class_weights(torch.tensor([8, 0, 2]), 1)

    assert weights is not None
    assert weights[1] == weights[0] < weights[2]
