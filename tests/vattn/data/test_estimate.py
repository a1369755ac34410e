"""The predicted size of a clip cache, and what a disk can hold."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.vattn.data.layouts.support import config
from tests.vattn.data.support import footage
from vattn.data import listed
from vattn.data.config import StoreConfig
from vattn.data.dataset import Listed
from vattn.data.estimate import format_bytes, stores, written
from vattn.data.layouts.motion import MotionDataConfig
from vattn.data.motion import encode
from vattn.errors import UserError

#: bytes of 4 clips of 40 frames of 48 x 64 pixels
RAW = 4 * 40 * 48 * 64 * 3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A set of 4 videos of 40 frames, two in each split."""
    for split in ("train", "val"):
        (tmp_path / f"set/{split}/a").mkdir(parents=True)
        for number in range(2):
            name = f"set/{split}/a/{number}.mp4"
            encode(tmp_path / name, footage(frames=40, height=96, width=128, seed=len(split) + number))
    return tmp_path / "set"


def clips(root: Path, **store: object) -> Listed:
    return listed(config("folders", root, store={"size": 48} | store), root.parent / "out")


def test_the_size_of_a_cache_is_predicted_and_is_that_of_the_cache(root: Path) -> None:
    raw, jpeg = clips(root), clips(root, codec="jpeg")

    assert raw.estimate.size == raw.estimate.missing == RAW
    assert clips(root, frames=10).estimate.size == RAW / 4
    for files in (raw, jpeg):
        folder = files.decode(jobs=1)
        written = sum(shard.stat().st_size for shard in folder.glob("shard-*"))
        assert files.estimate.size == pytest.approx(written, rel=0.15)
    # Now nothing is left to write, and a cache of another form is still to be written.
    assert clips(root).estimate.missing == 0
    assert clips(root, size=32).estimate.missing > 0


def test_clips_that_another_cache_has_need_no_space(root: Path) -> None:
    clips(root).decode(jobs=1)
    shutil.copy(root / "val/a/0.mp4", root / "train/a/2.mp4")
    encode(root / "train/a/2.mp4", footage(frames=40, height=96, width=128, seed=9))

    assert clips(root).estimate.missing == pytest.approx(RAW / 4)


def test_what_a_generated_set_needs_is_known_before_it_exists(tmp_path: Path) -> None:
    data = MotionDataConfig(train_clips=2, val_clips=1, test_clips=3, frames=5, size=32, store=StoreConfig(size=64))

    files = listed(data, tmp_path / "out", test=False, generate=False)

    # 16 classes of 3 clips without the test split, scaled up to 64 pixels.
    assert files.estimate.size == 16 * 3 * 5 * 64 * 64 * 3
    assert not (tmp_path / "out").exists()


def disk(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr("vattn.data.estimate.shutil.disk_usage", lambda folder: SimpleNamespace(free=int(free)))


def test_a_cache_that_does_not_fit_is_refused_with_what_fits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, RAW - 1)

    with pytest.raises(
        UserError, match=r"^data\.store: needs about 1\.47 MB more, and .* has 1\.47 MB free; "
    ) as error:
        clips(root).decode(jobs=1)

    assert "write store: {size: 48, frames: all, codec: jpeg, quality: 90}, which needs about " in str(error.value)
    assert not list((root.parent / "out/cache").glob("*-*"))
    disk(monkeypatch, RAW)
    clips(root).decode(jobs=1)


def test_auto_is_the_best_that_fits_and_stays_where_a_cache_exists(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = {quality: clips(root, codec="jpeg", quality=quality).estimate.size for quality in (90, 75)}
    assert jpeg[75] < jpeg[90] < RAW / 2

    def chosen(free: float, frames: int | None = None) -> StoreConfig:
        disk(monkeypatch, free)
        return clips(root).fitted(frames).data.store

    assert chosen(2 * RAW) == StoreConfig(size=48)
    assert chosen(1.2 * jpeg[90]) == StoreConfig(size=48, codec="jpeg")
    assert chosen(1.2 * jpeg[75]) == StoreConfig(size=48, codec="jpeg", quality=75)
    # 16 of 40 frames, if the network sees 4.
    assert chosen(0.6 * jpeg[90], frames=4) == StoreConfig(size=48, codec="jpeg", frames=16)
    with pytest.raises(UserError, match="even the smallest way to store these clips needs about "):
        chosen(0.6 * jpeg[75])
    disk(monkeypatch, 2 * RAW)
    clips(root, codec="jpeg").decode(jobs=1)
    assert chosen(2 * RAW) == StoreConfig(size=48, codec="jpeg")


def test_fewer_frames_are_stored_only_where_enough_are_left() -> None:
    assert {store.frames for store in stores(64, None)} == {"all"}
    assert {store.frames for store in stores(64, 8)} == {"all", 64, 32}
    assert {store.frames for store in stores(64, 32)} == {"all"}


def test_a_store_is_written_as_in_a_spec() -> None:
    assert written(StoreConfig(size=64)) == "{size: 64, frames: all, codec: raw}"
    assert written(StoreConfig(codec="jpeg", frames=8)) == "{size: 80, frames: 8, codec: jpeg, quality: 90}"


def test_sizes_are_printed_with_three_digits() -> None:
    assert [format_bytes(count) for count in (999, 1500, 2.5e9, 3e15)] == ["999 bytes", "1.5 kB", "2.5 GB", "3e+03 TB"]
