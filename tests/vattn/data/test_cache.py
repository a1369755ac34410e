import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.vattn.data.support import STORE, footage, manifest
from vattn.data import open_clips
from vattn.data.cache import CacheWriter, Clips, Codec
from vattn.data.config import StoreConfig
from vattn.data.ingest import ingest
from vattn.errors import UserError

FRAMES = 4
CLIP_BYTES = FRAMES * 32 * 48 * 3


def cache(folder: Path, clips: int, shard_bytes: int = 1 << 30) -> Path:
    """Write a cache whose clip i is `footage` of seed i, in reverse order."""
    folder.mkdir()
    writer = CacheWriter(folder, shard_bytes)
    for number in reversed(range(clips)):
        writer.add(number, f"{number}.mp4", number % 5, "train", footage(FRAMES, seed=number))
    writer.finish([])
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return open_clips(cache(tmp_path_factory.mktemp("caches") / "ten", 10), "train")


def test_clips_are_read_in_the_order_of_the_manifest_without_a_copy(clips: Clips) -> None:
    assert len(clips) == 10
    assert clips.paths == [f"{number}.mp4" for number in range(10)]
    assert clips.labels.tolist() == [0, 1, 2, 3, 4] * 2
    for number in range(10):
        np.testing.assert_array_equal(clips.clip(number), footage(FRAMES, seed=number))
    assert not clips.clip(3).flags.owndata
    assert not clips.clip(3).flags.writeable


def test_a_full_shard_is_followed_by_another(tmp_path: Path) -> None:
    folder = cache(tmp_path / "shards", 5, shard_bytes=2 * CLIP_BYTES)

    assert sorted(path.name for path in folder.glob("*-*.arrow")) == [f"shard-0000{i}.arrow" for i in range(3)]
    clips = open_clips(folder, "train")
    for number in range(5):
        np.testing.assert_array_equal(clips.clip(number), footage(FRAMES, seed=number))


def in_memory(clips: Clips, i: int, t: int) -> bool:
    shard, start, end = clips._place(i, t)
    # The pages at both ends are shared with other frames.
    return shard.in_memory((start + end) // 2)


def are_read(clips: Clips, *frames: tuple[int, int]) -> bool:
    """Return whether all these frames get into memory within ten seconds."""
    for _ in range(1000):
        if all(in_memory(clips, i, t) for i, t in frames):
            return True
        time.sleep(0.01)
    return False


def dropped(folder: Path, *frames: tuple[int, int]) -> Clips:
    """Open clips and have their shards dropped from memory; skip the test if the system keeps these frames.

    It is asked for up to five seconds, because a busy system keeps a part at first. Some file systems keep all.
    """
    clips = open_clips(folder, "train")
    for _ in range(500):
        for shard in clips._shards.values():
            shard.advise(mmap.MADV_DONTNEED, 0, len(shard.bytes))  # what is mapped is not dropped
        for path in folder.glob("shard-*"):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        places = [clips._place(i, t) for i, t in frames]
        if not any(shard.in_memory(at) for shard, start, end in places for at in range(start, end, 1024)):
            return clips
        time.sleep(0.01)
    pytest.skip("the files of this file system are always in memory")


def test_neighbours_are_read_too_where_most_frames_of_a_clip_are_wanted(tmp_path: Path) -> None:
    writer = CacheWriter(tmp_path, codec="raw")
    for number in range(8):
        writer.add(number, f"{number}.mp4", 0, "train", footage(8, seed=number))
    writer.finish([])
    clips = dropped(tmp_path, (2, 7), (7, 4))

    clips.read_ahead([(2, range(8))])

    assert are_read(clips, *((i, 4) for i in range(8)))


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_frames_that_are_not_in_memory_are_read_ahead_and_no_others(codec: Codec, tmp_path: Path) -> None:
    writer = CacheWriter(tmp_path, codec=codec)
    for number in range(4):
        writer.add(
            number,
            f"{number}.mp4",
            0,
            "train",
            np.random.default_rng(number).integers(0, 256, (40, 64, 64, 3), np.uint8),
        )
    writer.finish([])
    assert in_memory(open_clips(tmp_path, "train"), 3, 20)  # it was written a moment ago
    clips = dropped(tmp_path, (3, 20), (3, 21), (3, 25), (3, 30), (1, 5), (0, 20), (2, 1))
    clips.read_ahead([(3, [20, 21, 30]), (1, [5])])

    assert are_read(clips, (3, 20), (3, 21), (3, 30), (1, 5))
    assert not in_memory(clips, 3, 25)
    assert not in_memory(clips, 0, 20)
    assert not in_memory(clips, 2, 1)
    clips.read_ahead([(2, [0, 1])])  # the first frame follows what is read to find it
    assert are_read(clips, (2, 1))
    np.testing.assert_array_equal(next(clips.frames(3, [25])), clips.clip(3)[25])


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_the_footer_of_a_shard_says_where_its_clips_are(codec: Codec, tmp_path: Path) -> None:
    writer = CacheWriter(tmp_path, codec=codec)
    for number in range(5):
        writer.add(number, f"{'long' * 50 * number}.mp4", 0, "train", footage(3 + number, seed=number))
    writer.finish([])
    clips = open_clips(tmp_path, "train")

    for number in range(5):
        clips.clip(number)
        shard = clips._shard(number)
        block, (ends_at, checks_at, pixels_at) = shard._blocks[number], clips._starts[number].tolist()
        data_at = int(block["start"]) + int(block["metadata"])
        assert data_at <= ends_at < checks_at < pixels_at < data_at + int(block["data"])
        assert pixels_at - data_at < 1024 + 16 * (3 + number)
    assert len(clips._shard(0)._blocks) == 5


def test_a_cache_of_many_shards_keeps_no_file_open(tmp_path: Path) -> None:
    clips = open_clips(cache(tmp_path / "shards", 8, shard_bytes=CLIP_BYTES), "train")
    before = len(list(Path("/proc/self/fd").iterdir()))

    for number in range(8):
        clips.clip(number)

    assert len(clips._shards) == 8
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_folder_that_is_no_cache_and_a_missing_split_are_named(tmp_path: Path, clips: Clips) -> None:
    with pytest.raises(UserError, match="is not a clip cache"):
        open_clips(tmp_path, "train")
    with pytest.raises(UserError, match="has no clips of the 'val' split"):
        open_clips(clips.cache, "val")


def test_jpeg_frames_are_close_to_raw_ones_and_can_be_read_in_any_order(root: Path, tmp_path: Path) -> None:
    names, store = manifest("good1.mp4", "good2.mp4"), StoreConfig(size=32, codec="jpeg")

    raw = open_clips(ingest(names, root, tmp_path / "cache", STORE, jobs=1), "train")
    compressed = open_clips(ingest(names, root, tmp_path / "cache", store, jobs=1), "train")

    assert raw.shapes.tolist() == compressed.shapes.tolist()
    for i in range(2):
        # Chroma is stored at half the resolution, so the blocks are compared by their means.
        error = (raw.clip(i).astype(float) - compressed.clip(i)).reshape(-1, 2, 16, 3, 16, 3)
        assert np.abs(error.mean(axis=(2, 4))).max() < 12
    np.testing.assert_array_equal(np.stack(list(compressed.frames(1, [3, 0, 3]))), compressed.clip(1)[[3, 0, 3]])


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_an_altered_byte_is_detected_when_its_frame_is_read(codec: str, root: Path, tmp_path: Path) -> None:
    cache = ingest(manifest("good0.mp4"), root, tmp_path / "cache", StoreConfig.parse({"size": 32, "codec": codec}))
    clips = open_clips(cache, "train")
    ends, pixels, _ = clips._read(0)
    (shard,) = cache.glob("shard-*")
    data = bytearray(shard.read_bytes())
    start = data.index(pixels.tobytes()) + int(ends[2])
    data[start + 7] ^= 1
    shard.write_bytes(data)

    altered = open_clips(cache, "train")
    assert len(list(altered.frames(0, [0, 1, 3]))) == 3
    with pytest.raises(UserError, match=r"shard-00000\.arrow: was altered or cut off .*good0\.mp4: frame 2 .*remove"):
        list(altered.frames(0, [2]))
    with pytest.raises(UserError, match="was altered"):
        altered.clip(0)


def test_a_truncated_or_altered_shard_or_index_is_detected(root: Path, tmp_path: Path) -> None:
    cache = ingest(manifest("good0.mp4", "good1.mp4"), root, tmp_path / "cache", STORE, jobs=1)
    (shard,) = cache.glob("shard-*")
    whole = shard.read_bytes()

    shard.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"shard-00000\.arrow: was altered or cut off"):
        open_clips(cache, "train").clip(0)
    shard.write_bytes(whole)
    open_clips(cache, "train").clip(0)
    shard.write_bytes(whole)
    foreign = ingest(manifest("good1.mp4"), root, tmp_path / "other", STORE, jobs=1)
    shard.write_bytes(next(foreign.glob("shard-*")).read_bytes())  # an intact shard of another cache
    with pytest.raises(UserError, match=r"was altered or cut off after it was written \(good0\.mp4: "):
        open_clips(cache, "train").clip(0)
    index = bytearray((cache / "index.arrow").read_bytes())
    index[len(index) // 2] ^= 1
    (cache / "index.arrow").write_bytes(index)
    with pytest.raises(UserError, match=r"index\.arrow: was altered"):
        open_clips(cache, "train")


def test_a_cache_of_another_version_is_reported_as_such(root: Path, tmp_path: Path) -> None:
    cache = ingest(manifest("good0.mp4"), root, tmp_path / "cache", STORE, jobs=1)
    _, digest = (cache / "index.check").read_text().split()

    (cache / "index.check").write_text(f"4 {digest}")
    with pytest.raises(UserError, match=r"is a cache of version 4, and only .* version 3 can be read; ingest again"):
        open_clips(cache, "train")
    (cache / "index.check").unlink()  # earlier versions did not have it
    with pytest.raises(UserError, match=r"is a cache of version 2 or earlier"):
        open_clips(cache, "train")
