"""Class-balanced sampling: shares of classes, and the same epoch on all workers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vattn.training.recipe.support import trial, write_unequal_classes
from vattn.config import DataConfig
from vattn.data import open_clips
from vattn.training.batches.loader import train_batches
from vattn.training.recipe.balance import training_order


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=60), balance=st.floats(0, 1), seed=st.integers(0, 99))
def test_each_clip_comes_as_often_as_expected_rounded_down_or_up(labels: list[int], balance: float, seed: int) -> None:
    own = np.array(labels)
    counts = np.bincount(own)
    shares = np.where(counts, counts.clip(min=1) ** (1.0 - balance), 0)
    expected = len(own) * (shares / shares.sum() / counts.clip(min=1))[own]

    order = training_order(own, balance, np.random.default_rng(seed))

    times = np.bincount(order % len(own), minlength=len(own))
    assert len(order) == len(own)
    assert len(set(order)) == len(own)  # each time has a number of its own
    assert (np.floor(expected - 1e-6) <= times).all()
    assert (times <= np.ceil(expected + 1e-6)).all()


def test_without_balance_each_clip_comes_once_in_the_order_of_before() -> None:
    labels = np.arange(20) % 3

    order = training_order(labels, 0.0, np.random.default_rng([1, 2, 0]))

    assert order.tolist() == np.random.default_rng([1, 2, 0]).permutation(20).tolist()


def test_classes_have_equal_shares_and_times_of_one_clip_differ(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = write_unequal_classes(tmp_path_factory.mktemp("clips") / "cache")
    config, clips = trial({}, {"crop": "resized"}, balance={"sampling": 1}), open_clips(folder, "train")
    data: DataConfig = config.data

    whole = list(train_batches(clips, data, config.model, config.train, epoch=1))
    parts = [list(train_batches(clips, data, config.model, config.train, 1, rank, 2)) for rank in (0, 1)]

    counts = np.bincount(np.concatenate([labels.numpy() for _, labels in whole]), minlength=4)
    assert abs(counts[:4] - 45 / 4).max() <= 2  # 45 clips, less the last step's remainder, of 4 classes
    for (images, labels), first, second in zip(whole, *parts, strict=True):
        assert (images[0::2] == first[0]).all()
        assert (images[1::2] == second[0]).all()
        assert (labels[0::2] == first[1]).all()
    images = [image.numpy().tobytes() for batch, labels in whole for image in batch[labels == 3]]
    assert len(images) > 3  # of 3 clips
    assert len(set(images)) == len(images)
    again = list(train_batches(clips, data, config.model, config.train, epoch=1, start=2))
    assert (again[0][0] == whole[2][0]).all()
    other = list(train_batches(clips, data, config.model, config.train, epoch=2))
    assert any((one[1] != two[1]).any() for one, two in zip(whole, other, strict=True))
