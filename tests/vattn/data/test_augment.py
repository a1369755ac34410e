"""Augmentation: crops, mirroring, colours and mixing; and the batches of other modalities and views."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.vattn.support import model
from vattn.config import DataConfig, TrainConfig
from vattn.data import open_clips
from vattn.data.augment import PLACES, Region, crops, mixed, training_region
from vattn.data.cache import CacheWriter, Clips
from vattn.data.config import AugmentConfig
from vattn.data.layouts.folders import FoldersDataConfig
from vattn.data.layouts.motion import MotionDataConfig
from vattn.data.motion import LABELS
from vattn.data.recolour import Recolour
from vattn.training.batches.loader import eval_batches, train_batches
from vattn.training.evaluation import averaged

FRAMES, HEIGHT, WIDTH = 12, 40, 56
CROPS = ["random", "center", "multiscale", "resized", "stretched"]


def video(number: int) -> np.ndarray:
    """Return a clip whose pixels show their position: red is 16 * number + frame, green 4 * row, blue 4 * column."""
    t, y, x = np.meshgrid(np.arange(FRAMES) + 16 * number, np.arange(HEIGHT) * 4, np.arange(WIDTH) * 4, indexing="ij")
    return np.stack([t, y, x], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    folder = tmp_path_factory.mktemp("caches") / "ten"
    folder.mkdir()
    writer = CacheWriter(folder)
    for number in range(10):
        writer.add(number, f"{number}.mp4", number, "train", video(number))
    writer.finish([])
    return open_clips(folder, "train")


def data(modality: str = "rgb", views: Sequence[int] = (1, 1), kind: str = "segments", **augment: Any) -> DataConfig:
    return MotionDataConfig.parse(
        {
            "modality": modality, "augment": augment, "views": {"clips": views[0], "crops": views[1]},
            "sampling": {"kind": kind},
        }
    )  # fmt: skip


def train(**changes: int) -> TrainConfig:
    return TrainConfig.parse({"epochs": 2, "batch": 4, "lr": 0.1, "seed": 0} | changes)


# Crops


@given(
    crop=st.sampled_from(CROPS), height=st.integers(32, 90), width=st.integers(32, 90), seed=st.integers(0, 2**32),
    size=st.integers(8, 32),
)  # fmt: skip
def test_every_crop_lies_inside_the_frame(crop: str, height: int, width: int, seed: int, size: int) -> None:
    top, left, rows, columns = training_region(crop, height, width, size, np.random.default_rng(seed))

    assert 0 <= top <= top + rows <= height
    assert 0 <= left <= left + columns <= width
    assert rows > 0
    assert columns > 0


def sampled(crop: str, count: int = 4000, height: int = 100, width: int = 140, size: int = 56) -> list[Region]:
    rng = np.random.default_rng(0)
    return [training_region(crop, height, width, size, rng) for _ in range(count)]


def test_multiscale_crops_are_those_of_tsn() -> None:
    regions = sampled("multiscale")

    # Shares of 100 pixels: 100, 87, 75 and 66. Equal and neighbouring sides are combined: 4 squares and 2 * 3 others.
    sizes = {(region.height, region.width) for region in regions}
    assert sizes == {(100, 100), (87, 87), (75, 75), (66, 66)} | {
        pair for a, b in ((100, 87), (87, 75), (75, 66)) for pair in ((a, b), (b, a))
    }
    # Each of the 10 has probability 0.1.
    share = sum((region.height, region.width) == (75, 66) for region in regions) / len(regions)
    assert abs(share - 0.1) < 5 * math.sqrt(0.1 * 0.9 / len(regions))
    assert len(PLACES) == 13
    # A quarter of 140 - 66 is 18.5.
    assert {region.left for region in regions if region.width == 66} == {0, 18, 37, 55, 74}


def test_a_multiscale_crop_of_nearly_the_wanted_size_is_not_scaled() -> None:
    # 75 is within 3 pixels of 77.
    assert (77, 77) in {(region.height, region.width) for region in sampled("multiscale", size=77)}
    assert not any(75 in region[2:] for region in sampled("multiscale", size=77))


def test_resized_crops_have_random_areas_and_shapes_within_bounds() -> None:
    regions = sampled("resized")

    areas = np.array([region.height * region.width for region in regions]) / (100 * 140)
    ratios = np.array([region.width / region.height for region in regions])
    # The bounds have a margin because sides are rounded to pixels.
    assert 0.07 < areas.min() < 0.1
    assert 0.9 < areas.max() <= 1
    assert 0.72 < ratios.min() < 0.78
    assert 1.28 < ratios.max() < 1.38
    # Tall and wide crops are equally frequent, except for large ones, which must fit the frame.
    small = ratios[areas < 0.5]
    assert abs((small > 1).mean() - 0.5) < 5 * 0.5 / math.sqrt(len(small))


def test_stretched_crops_are_224_of_256_x_342_pixels() -> None:
    (size,) = {(region.height, region.width) for region in sampled("stretched", height=256, width=342)}
    assert size == (224, 224)
    # Of 40 x 56: 40 * 224 / 256 = 35 rows, and 56 * 224 / 342 = 36.7 columns.
    assert sampled("stretched", 1, HEIGHT, WIDTH)[0][2:] == (35, 37)


def test_three_crops_cover_the_longer_side() -> None:
    assert crops(40, 56, 40, 3) == [Region(0, 0, 40, 40), Region(0, 8, 40, 40), Region(0, 16, 40, 40)]
    assert crops(60, 40, 32, 3) == [Region(0, 4, 32, 32), Region(14, 4, 32, 32), Region(28, 4, 32, 32)]
    assert crops(60, 40, 32, 1) == [Region(14, 4, 32, 32)]


@pytest.mark.parametrize("crop", ["multiscale", "resized", "stretched"])
def test_a_scaled_crop_is_the_same_for_all_frames_and_keeps_its_orientation(clips: Clips, crop: str) -> None:
    for images, _ in train_batches(clips, data(crop=crop), model(size=32, frames=4), train(), 0):
        for frame, row, column in images.int():
            assert ((frame[:, 0, 0] % 16) // 3).tolist() == [0, 1, 2, 3]
            assert (frame == frame[:, :1, :1]).all()
            assert (row == row[:1, :, :1]).all()
            assert (column == column[:1, :1]).all()
            assert (row[0, :, 0].diff() >= 0).all()
            assert (column[0, 0].diff() >= 0).all()


# Mirroring


def test_a_mirrored_clip_has_the_mirrored_label(clips: Clips) -> None:
    seen = set()
    for epoch in range(4):
        for images, labels in train_batches(clips, data(crop="center", flip=True), model(size=32), train(), epoch):
            for image, label in zip(images.int(), labels.tolist(), strict=True):
                number, mirrored = int(image[0, 0, 0, 0]) // 16, bool(image[2, 0, 0, 0] > image[2, 0, 0, 1])
                seen.add((LABELS[number], LABELS[label], mirrored))

    assert ("left", "right", True) in seen
    assert ("right", "left", True) in seen
    assert ("turn-cw", "turn-ccw", True) in seen
    for drawn, label, mirrored in seen:
        assert (drawn == label) != (mirrored and drawn in ("left", "right", "turn-cw", "turn-ccw"))


def test_clips_of_a_class_without_a_mirror_image_are_not_mirrored(clips: Clips) -> None:
    class WithoutMirrorImages(MotionDataConfig):
        def mirrored(self) -> list[int]:
            return [-1] * 16

    for images, labels in train_batches(
        clips, WithoutMirrorImages.parse({"augment": {"flip": True}}), model(size=32), train(), 0
    ):
        assert (images[:, 2, 0, 0, 0] < images[:, 2, 0, 0, 1]).all()
        assert (images[:, 0, 0, 0, 0] // 16 == labels).all()


# Colours


def test_colours_change_equally_in_all_frames_and_differently_in_each_clip() -> None:
    augment = AugmentConfig.parse({"color": 0.5, "randaugment": 2})
    frames = torch.randint(256, (1, 3, 24, 24), dtype=torch.uint8).expand(4, -1, -1, -1)
    recolour = Recolour(augment, 24, torch.device("cpu"))

    recoloured = [recolour(frames, recolour.choose(np.random.default_rng(seed))) for seed in range(6)]

    assert all((clip == clip[:1]).all() for clip in recoloured)
    assert all(clip.dtype == torch.uint8 for clip in recoloured)
    assert len({clip.numpy().tobytes() for clip in recoloured}) == 6


@pytest.mark.parametrize("augment", [{"color": 0.4}, {"randaugment": 2, "magnitude": 5, "crop": "resized"}])
def test_augmentation_depends_on_the_seed_but_not_on_the_number_of_workers(
    clips: Clips, augment: dict[str, Any]
) -> None:
    def epoch(world: int = 1) -> dict[int, bytes]:
        shares = [train_batches(clips, data(**augment), model(), train(batch=10), 0, rank, world) for rank in range(world)]  # noqa: E501  # fmt: skip
        return {
            int(label): clip.numpy().tobytes()
            for share in shares
            for images, labels in share
            for label, clip in zip(labels, images, strict=True)
        }

    assert epoch() == epoch() == epoch(world=2)


def test_colour_augmentation_of_a_modality_without_colours_is_rejected() -> None:
    with pytest.raises(ValidationError, match="augment: color and randaugment change colours"):
        data(modality="diff", color=0.4)


def test_magnitude_has_no_effect_without_operations() -> None:
    assert data(magnitude=3).canonical() == data().canonical()
    assert data(magnitude=3, randaugment=1).canonical() != data(randaugment=1).canonical()


# Mixing


class ConstantBeta(np.random.Generator):
    """A generator whose Beta distribution always returns ``share``."""

    def __init__(self, share: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.share = share

    def beta(self, *args: Any, **options: Any) -> Any:
        return self.share


def test_mixup_blends_each_clip_with_the_previous_one() -> None:
    images = torch.tensor([0, 100, 200], dtype=torch.uint8).view(3, 1, 1, 1, 1).expand(3, 3, 2, 4, 4)

    blended, targets = mixed(
        images, torch.tensor([0, 1, 1]), 3, AugmentConfig.parse({"mixup": 0.2}), ConstantBeta(0.75)
    )

    # 0.75 * (0, 100, 200) + 0.25 * (200, 0, 100)
    assert blended[:, 0, 0, 0, 0].tolist() == [50, 75, 175]
    assert (blended == blended[:, :1, :1, :1, :1]).all()
    assert targets.tolist() == [[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 1, 0]]


@given(share=st.floats(0, 1), size=st.integers(4, 20))
def test_cutmix_pastes_one_rectangle_into_all_frames_and_weights_labels_by_area(share: float, size: int) -> None:
    images = torch.tensor([0, 100], dtype=torch.uint8).view(2, 1, 1, 1, 1).expand(2, 3, 2, size, size)

    pasted, targets = mixed(images, torch.tensor([0, 1]), 2, AugmentConfig.parse({"cutmix": 1.0}), ConstantBeta(share))

    foreign = pasted[0] == 100
    assert (foreign == foreign[:1, :1]).all()
    area = foreign[0, 0].float().mean().item()
    assert area <= 1 - share + 1e-6
    torch.testing.assert_close(targets, torch.tensor([[1 - area, area], [area, 1 - area]]))
    rows, columns = foreign[0, 0].any(1).sum(), foreign[0, 0].any(0).sum()
    assert foreign[0, 0].sum() == rows * columns


def test_labels_of_mixed_batches_are_shares_of_classes(clips: Clips) -> None:
    both = data(mixup=0.4, cutmix=1.0)
    first, again = ([(i, t) for i, t in train_batches(clips, both, model(), train(), 0)] for _ in range(2))

    assert [len(images) for images, _ in first] == [4, 4, 2]
    for (images, targets), (_, same) in zip(first, again, strict=True):
        assert images.dtype == torch.uint8
        assert targets.shape == (len(images), 16)
        torch.testing.assert_close(targets.sum(1), torch.ones(len(images)))
        assert torch.equal(targets, same)


# Continuing an epoch


@pytest.mark.parametrize("augment", [{}, {"mixup": 0.4}])
@pytest.mark.parametrize("world", [1, 2])
def test_an_epoch_can_be_continued_from_any_step(clips: Clips, augment: dict[str, Any], world: int) -> None:
    def steps(start: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(train_batches(clips, data(**augment), model(), train(), 3, world - 1, world, start))

    whole = steps(0)
    for start in range(len(whole) + 1):
        rest = steps(start)
        assert len(rest) == len(whole) - start
        for continued, expected in zip(rest, whole[start:], strict=True):
            assert torch.equal(continued[0], expected[0])
            assert torch.equal(continued[1], expected[1])


# Modalities


def test_modality_diff_is_the_difference_of_each_frame_to_the_next(tmp_path: Path) -> None:
    writer = CacheWriter(tmp_path)
    levels = np.array([10, 14, 9, 255, 0], np.uint8)
    writer.add(0, "a.mp4", 0, "val", np.ones((5, 32, 32, 3), np.uint8) * levels[:, None, None, None])
    writer.finish([])

    images, _ = next(iter(eval_batches(open_clips(tmp_path, "val"), data("diff"), model(frames=5), 1)))

    # Differences 4, -5, 246, -255, and 0 for the last frame; halved, rounded down, plus 128.
    assert images[0, 0, :, 0, 0].tolist() == [130, 125, 251, 0, 128]


def test_mirroring_reverses_horizontal_flow(clips: Clips, tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"class{number}").mkdir()
    flow = FoldersDataConfig.parse(
        {"root": str(tmp_path), "modality": "flow", "augment": {"crop": "center", "flip": True}}
    )
    batches = train_batches(clips, flow, model(size=40, frames=1), train(batch=10), 0)
    images, _ = next(iter(batches))

    # Channel 0 of clip n is 16 n + 0 ... 11, or 255 minus that if mirrored. Channel 1 is the row in both cases.
    mirrored = images[:, 2, 0, 0, 0] > images[:, 2, 0, 0, 1]
    across = images[:, 0, 0, 0, 0].int()
    numbers = torch.where(mirrored, 255 - across, across) // 16
    assert 0 < mirrored.sum() < 10
    assert sorted(numbers.tolist()) == list(range(10))
    assert (images[:, 1, 0, :, 0] == 4 * torch.arange(40)).all()


# Views


def test_views_of_a_clip_follow_each_other(clips: Clips) -> None:
    batches = eval_batches(clips, data(views=(2, 3)), model(size=40, frames=4), 12)

    images, labels = next(iter(batches))

    # 12 views are 2 clips. Segments of 3 frames: the first clip starts at 0, the second at 1.5.
    assert len(batches) == 5
    assert labels.tolist() == [0, 1]
    assert images.shape == (12, 3, 4, 40, 40)
    assert (images[:6, 0, :, 0, 0]).tolist() == [[0, 3, 6, 9]] * 3 + [[1, 4, 7, 10]] * 3
    assert (images[:6, 2, 0, 0, 0] // 4).tolist() == [0, 8, 16] * 2
    assert (images[6:, 0, 0, 0, 0] // 16 == 1).all()


def test_the_softmax_scores_of_views_are_averaged() -> None:
    # Softmax of (0, ln 3) is (1/4, 3/4), of (ln 9, 0) it is (9/10, 1/10); the mean is (23/40, 17/40).
    scores = torch.tensor([[0.0, math.log(3)], [math.log(9), 0.0], [5.0, 5.0], [7.0, 7.0]])

    both = averaged(scores, 2)

    torch.testing.assert_close(both.exp(), torch.tensor([[0.575, 0.425], [0.5, 0.5]]))
    assert averaged(scores, 4) is scores
