import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.vattn.support import model
from vattn.config import DataConfig, ModelConfig, TrainConfig
from vattn.data import open_clips
from vattn.data.cache import CacheWriter, Clips
from vattn.data.layouts.motion import MotionDataConfig
from vattn.errors import UserError
from vattn.training.batches.loader import _seed_words, eval_batches, train_batches

FRAMES, HEIGHT, WIDTH = 12, 40, 44


def video(number: int, frames: int = FRAMES) -> np.ndarray:
    """Return a clip whose pixels show their position: red is 16 * number + frame, green the row, blue the column."""
    t, y, x = np.meshgrid(np.arange(frames) + 16 * number, np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
    return np.stack([t, y, x], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """Ten training clips of labels 0, 1, 2, 3, 4, 0, ..."""
    folder = tmp_path_factory.mktemp("caches")
    writer = CacheWriter(folder)
    for number in range(10):
        writer.add(number, f"{number}.mp4", number % 5, "train", video(number))
    writer.finish([])
    return open_clips(folder, "train")


def data(**augment: object) -> DataConfig:
    return MotionDataConfig.parse({"augment": augment})


def train(**changes: int) -> TrainConfig:
    return TrainConfig.parse({"epochs": 2, "batch": 4, "lr": 0.1, "seed": 0} | changes)


def numbers(images: torch.Tensor) -> list[int]:
    """Return the numbers of the clips in a batch."""
    return (images[:, 0, 0, 0, 0] // 16).tolist()


def test_a_training_clip_is_the_same_square_of_one_frame_of_each_segment(clips: Clips) -> None:
    config, corners = model(size=32, frames=4), set()
    for epoch in range(20):
        for images, labels in train_batches(clips, data(), config, train(), epoch):
            assert images.dtype == torch.uint8
            assert labels.dtype == torch.int64
            assert images.shape == (len(labels), 3, 4, 32, 32)
            for clip, label in zip(images, labels, strict=True):
                frame, row, column = clip.int()
                top, left = int(row.min()), int(column.min())
                corners.add((top, left))
                assert label == (frame[0, 0, 0] // 16) % 5
                assert ((frame[:, 0, 0] % 16) // 3).tolist() == [0, 1, 2, 3]
                assert (frame == frame[:, :1, :1]).all()
                assert (row == torch.arange(top, top + 32)[:, None]).all()
                assert (column == torch.arange(left, left + 32)).all()

    # The free space is 8 rows and 12 columns; 200 clips reach every position.
    assert {top for top, _ in corners} == set(range(9))
    assert {left for _, left in corners} == set(range(13))


def test_crop_and_flip_follow_the_data_config(clips: Clips) -> None:
    config, mirrored = model(size=32, frames=4), []
    for images, _ in train_batches(clips, data(crop="center", flip=True), config, train(batch=10), 0):
        for clip in images.int():
            # The crop begins at row (40 - 32) / 2 = 4 and column (44 - 32) / 2 = 6; mirrored columns are 37 to 6.
            assert (clip[1] == torch.arange(4, 36)[:, None]).all()
            mirrored.append(bool(clip[2, 0, 0, 0] == 37))
            columns = torch.arange(6, 38)
            assert (clip[2] == (columns.flip(0) if mirrored[-1] else columns)).all()

    assert 0 < sum(mirrored) < 10


def test_folding_frames_into_the_batch_gives_a_view_in_channels_last_format(clips: Clips) -> None:
    images, _ = next(iter(train_batches(clips, data(), model(size=32, frames=4), train(), 0)))

    folded = images.transpose(1, 2).flatten(0, 1)

    assert folded.data_ptr() == images.data_ptr()
    assert folded.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("batch", "world", "steps"),
    [
        (4, 1, [4, 4, 2]),
        (3, 1, [3, 3, 3]),  # a step of the tenth clip alone is dropped
        (10, 1, [10]),
        (16, 1, [10]),
        (1, 1, [1] * 10),  # single clips are what was requested
        (4, 2, [2, 2]),  # each worker would have a single clip of the last two
        (6, 2, [3, 2]),
        (2, 2, [1] * 5),
    ],
)
def test_remaining_clips_make_a_smaller_step_unless_a_worker_would_get_a_single_one(
    clips: Clips, batch: int, world: int, steps: list[int]
) -> None:
    for rank in range(world):
        batches = train_batches(clips, data(), model(), train(batch=batch), 0, rank, world)

        assert [len(labels) for _, labels in batches] == steps
        assert len(batches) == len(steps)


@given(batch=st.integers(1, 12), world=st.integers(1, 3), epoch=st.integers(0, 99), seed=st.integers(0, 99))
def test_workers_have_equal_numbers_of_steps_and_no_clip_comes_twice(
    clips: Clips, batch: int, world: int, epoch: int, seed: int
) -> None:
    config = train(batch=batch * world, seed=seed)
    parts = [
        [numbers(images) for images, _ in train_batches(clips, data(), model(), config, epoch, rank, world)]
        for rank in range(world)
    ] if 10 // world >= 2 else []  # fmt: skip

    seen = [number for part in parts for step in part for number in step]
    assert len(seen) == len(set(seen)) > 10 - 2 * world
    assert len({len(part) for part in parts}) == 1


def test_an_epoch_depends_on_its_seed_and_number_but_not_on_the_number_of_workers(clips: Clips) -> None:
    def epoch(number: int = 0, world: int = 1, **changes: int) -> dict[int, bytes]:
        shares = [train_batches(clips, data(), model(), train(**changes), number, rank, world) for rank in range(world)]
        pairs = [(images, labels) for share in shares for images, labels in share]
        return {
            n: clip.numpy().tobytes() for images, _ in pairs for n, clip in zip(numbers(images), images, strict=True)
        }

    assert epoch() == epoch()
    assert epoch(world=2).items() <= epoch().items()
    assert list(epoch()) != list(epoch(1))
    assert all(epoch()[number] != epoch(1)[number] for number in range(10))
    assert list(epoch()) != list(epoch(seed=1))


@given(st.lists(st.integers(0, 2**70), min_size=1, max_size=4))
def test_seed_words_give_the_generator_that_the_seeds_give(seeds: list[int]) -> None:
    assert np.random.default_rng(_seed_words(*seeds)).random() == np.random.default_rng(seeds).random()


def test_training_with_too_few_clips_is_rejected(clips: Clips) -> None:
    with pytest.raises(UserError, match=r"train\.batch: each step needs 1 or more clips for each of 4 workers"):
        train_batches(clips, data(), model(), train(batch=2), 0, 0, 4)
    with pytest.raises(UserError, match="10 clips to train on"):
        train_batches(clips, data(), model(), train(batch=24), 0, 0, 12)


@pytest.mark.parametrize("world", [1, 2, 3, 12])
def test_the_workers_together_evaluate_each_clip_once(clips: Clips, world: int) -> None:
    seen = [
        number
        for rank in range(world)
        for images, _ in eval_batches(clips, data(), model(), 4, rank, world)
        for number in numbers(images)
    ]

    assert sorted(seen) == list(range(10))


def test_evaluation_uses_the_centre_crop_and_the_centre_of_each_segment(clips: Clips) -> None:
    images, labels = next(iter(eval_batches(clips, data(crop="random", flip=True), model(size=32, frames=4), 4)))

    # 12 frames: segments of 3 frames with the centres 1, 4, 7, 10.
    assert (images[:, 0, :, 0, 0] % 16).tolist() == [[1, 4, 7, 10]] * 4
    assert (images[:, 1, 0, :, 0] == torch.arange(4, 36)).all()
    assert (images[:, 2, 0, 0] == torch.arange(6, 38)).all()
    assert labels.tolist() == [0, 1, 2, 3]


def test_a_backbone_that_takes_five_frames_gets_each_centre_with_its_neighbours(clips: Clips) -> None:
    backbone = {"kind": "resnet_tdn", "depth": 10, "width": 0.25}
    images, _ = next(iter(eval_batches(clips, data(), model(size=32, frames=2, backbone=backbone), 1)))

    # 12 frames: segments of 6 frames with the centres 3 and 8, as the halves mirror each other.
    assert (images[0, 0, :, 0, 0] % 16).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


def test_the_frame_of_an_odd_middle_segment_alternates_between_clips(clips: Clips) -> None:
    images, _ = next(iter(eval_batches(clips, data(), model(frames=1), 4)))

    assert (images[:, 0, 0, 0, 0] % 16).tolist() == [5, 6, 5, 6]


@given(frames=st.integers(1, 20).filter(lambda t: t % 2 == 0))
def test_a_reversed_clip_is_evaluated_on_the_same_frames_in_reverse(
    frames: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    writer = CacheWriter(folder)
    for number, clip in enumerate((video(0), video(0)[::-1])):
        writer.add(number, f"{number}.mp4", number, "val", clip)
    writer.finish([])

    images, _ = next(iter(eval_batches(open_clips(folder, "val"), data(), model(frames=frames), 2)))

    torch.testing.assert_close(images[1], images[0].flip(1), rtol=0, atol=0)


def test_a_crop_larger_than_the_stored_frames_is_rejected(clips: Clips) -> None:
    large: ModelConfig = model(size=48)
    with pytest.raises(UserError, match=r"model\.size: .*40 pixels.*raise data\.store\.size \(got 48 and 80\)"):
        train_batches(clips, data(), large, train(), 0)
    with pytest.raises(UserError, match=r"model\.size"):
        eval_batches(clips, data(), large, 4)


def evaluated(clips: Clips, changes: dict[str, object], size: int, frames: int = 4) -> np.ndarray:
    """Return the views of the first clip in evaluation: (views, 3, T, size, size)."""
    images, _ = next(iter(eval_batches(clips, MotionDataConfig.parse(changes), model(size=size, frames=frames), 1)))
    return images.numpy()


def test_a_protocol_determines_the_frames_and_the_crops(clips: Clips) -> None:
    sampling = {"kind": "segments", "protocol": "tsm"}
    views = evaluated(clips, {"sampling": sampling, "views": {"clips": 2, "crops": 3}}, size=32)

    # Segments of 3 frames: int(1.5 + 3 x), then int(3 x).
    assert views[:, 0, :, 0, 0].tolist() == [[1, 4, 7, 10]] * 3 + [[0, 3, 6, 9]] * 3
    # 32 of 40 x 44: quarters of 2 down and 3 across; left, right, centre.
    assert views[:, 1, 0, 0, 0].tolist() == [4] * 6
    assert views[:, 2, 0, 0, 0].tolist() == [0, 12, 6] * 2


def test_evaluation_crops_may_have_another_size_than_those_of_the_training(clips: Clips) -> None:
    views = evaluated(clips, {"views": {"size": 40, "crops": 3}}, size=32)

    assert views.shape == (3, 3, 4, 40, 40)
    assert views[:, 2, 0, 0, 0].tolist() == [0, 2, 4]


def test_frames_are_scaled_before_they_are_cropped(clips: Clips) -> None:
    # At 20 x 22 pixels, one pixel is two of the stored frame: crops of 16 at 0, 3 and 6 across and 2 down.
    views = evaluated(clips, {"views": {"size": 16, "short": 20, "crops": 3}}, size=32)

    assert views.shape == (3, 3, 4, 16, 16)
    middle = views[:, :, 0, 7, 7].astype(int)
    np.testing.assert_allclose(middle[:, 1], [4 + 15] * 3, atol=1)
    np.testing.assert_allclose(middle[:, 2], [15, 6 + 15, 12 + 15], atol=1)


@pytest.mark.parametrize(
    ("views", "path"), [({"size": 48}, "data.views.size"), ({"size": 32, "short": 41}, "data.views.short")]
)
def test_evaluation_crops_larger_than_the_frames_are_refused(clips: Clips, views: dict[str, int], path: str) -> None:
    with pytest.raises(UserError, match=path):
        evaluated(clips, {"views": views, "store": {"size": 80}}, size=32)
