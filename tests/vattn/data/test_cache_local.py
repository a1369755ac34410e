"""Copies of a cache on a node's disk: shared, complete or continued, and clear about a full disk."""

import multiprocessing
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.vattn.data.support import footage
from vattn.data import open_clips
from vattn.data.cache import CacheWriter, local_copy
from vattn.errors import StorageError, UserError

CLIPS = 6


def write_cache(folder: Path, seed: int = 0) -> Path:
    """Write a cache of three shards."""
    folder.mkdir()
    writer = CacheWriter(folder, shard_bytes=2 * 4 * 32 * 48 * 3)
    for number in range(CLIPS):
        writer.add(number, f"{seed}-{number}.mp4", number, "train", footage(4, seed=seed + number))
    writer.finish([])
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return write_cache(tmp_path / "cache")


def assert_complete(copy: Path, seed: int = 0) -> None:
    clips = open_clips(copy, "train")
    assert len(clips) == CLIPS
    for number in range(CLIPS):
        np.testing.assert_array_equal(clips.clip(number), footage(4, seed=seed + number))
    assert not list(copy.glob(".part-*"))


def inodes(copy: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in copy.glob("shard-*")}


def test_a_copy_is_made_once_and_read_in_the_place_of_the_cache(cache: Path, tmp_path: Path) -> None:
    copy = local_copy(cache, tmp_path / "node")
    before = inodes(copy)

    assert copy.parent == tmp_path / "node"
    assert_complete(copy)
    assert {file.name for file in copy.iterdir()} == {file.name for file in cache.iterdir()}
    assert local_copy(cache, tmp_path / "node") == copy
    assert inodes(copy) == before


def test_caches_with_different_clips_have_different_copies(cache: Path, tmp_path: Path) -> None:
    other = write_cache(tmp_path / "other", seed=50)

    copies = [local_copy(each, tmp_path / "node") for each in (cache, other)]

    assert copies[0] != copies[1]
    assert_complete(copies[0])
    assert_complete(copies[1], seed=50)


def _copy(cache: Path, folder: Path, start: Any, copies: Any) -> None:
    start.wait()
    copies.put(local_copy(cache, folder))


def test_processes_that_start_together_share_one_copy(cache: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, copies = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_copy, args=(cache, tmp_path / "node", start, copies)) for _ in range(3)]
    for process in processes:
        process.start()

    found = {copies.get(timeout=120) for _ in processes}
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0]
    (copy,) = found
    assert_complete(copy)


def test_a_copy_that_was_killed_is_continued(cache: Path, tmp_path: Path) -> None:
    copy = local_copy(cache, tmp_path / "node")
    kept = copy / "shard-00000.arrow"
    inode = kept.stat().st_ino
    # As after a kill in the second shard: it has only the beginning of a file of another name, and no index.
    (copy / ".part-shard-00001.arrow").write_bytes((copy / "shard-00001.arrow").read_bytes()[:1000])
    for name in ("shard-00001.arrow", "shard-00002.arrow", "index.arrow"):
        (copy / name).unlink()

    assert local_copy(cache, tmp_path / "node") == copy

    assert_complete(copy)
    assert kept.stat().st_ino == inode


@pytest.mark.parametrize("damage", ["removed", "cut off"])
def test_a_file_that_was_removed_or_cut_off_later_is_copied_again(cache: Path, tmp_path: Path, damage: str) -> None:
    copy = local_copy(cache, tmp_path / "node")
    shard = copy / "shard-00001.arrow"
    content = shard.read_bytes()
    shard.unlink()
    if damage == "cut off":
        shard.write_bytes(content[:-10])

    local_copy(cache, tmp_path / "node")

    assert_complete(copy)


def test_a_changed_byte_in_a_copy_is_detected_when_it_is_read(cache: Path, tmp_path: Path) -> None:
    copy = local_copy(cache, tmp_path / "node")
    shard = copy / "shard-00000.arrow"
    pixels = footage(4, seed=0).tobytes()
    content = bytearray(shard.read_bytes())
    content[content.index(pixels) + 100] ^= 1
    shard.write_bytes(content)

    with pytest.raises(UserError, match=rf"{copy}/shard-00000\.arrow: was altered or cut off .*remove the folder"):
        open_clips(local_copy(cache, tmp_path / "node"), "train").clip(0)


def _copy_with_small_files(cache: Path, folder: Path, messages: "multiprocessing.Queue[str]") -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        local_copy(cache, folder)
    except StorageError as error:
        messages.put(str(error))


def test_a_write_that_fails_is_one_line_and_the_next_call_goes_on(cache: Path, tmp_path: Path) -> None:
    # The operating system refuses files of more than 20,000 bytes, as it refuses to write to a full disk.
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    process = context.Process(target=_copy_with_small_files, args=(cache, tmp_path / "node", messages))
    process.start()
    message = messages.get(timeout=120)
    process.join()

    (copy,) = (path for path in (tmp_path / "node").iterdir() if path.is_dir())
    assert message.startswith(f"{tmp_path / 'node'}: cannot be written: [Errno 27] File too large")
    assert message.endswith("; make room, or set data.local to another folder or to none")
    assert not (copy / "index.arrow").exists()
    assert not list(copy.glob(".part-*"))
    assert_complete(local_copy(cache, tmp_path / "node"))


def test_a_disk_with_too_little_room_is_refused_before_anything_is_copied(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**12, 10**12 - 5000, 5000))

    with pytest.raises(StorageError, match=rf"node: .*0\.0 GB of {cache} are .* 0\.0 GB are free; make room, or"):
        local_copy(cache, tmp_path / "node")
    assert [file.name for file in (tmp_path / "node").rglob("*") if file.is_file()] == [".lock"]


def test_what_is_no_cache_or_no_folder_is_named(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UserError, match="is not a clip cache"):
        local_copy(tmp_path, tmp_path / "node")
    with pytest.raises(UserError, match=r"must be a folder, but .*file is a file"):
        local_copy(cache, tmp_path / "file")
