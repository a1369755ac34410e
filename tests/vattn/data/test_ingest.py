import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest

from tests.vattn.data.support import STORE, Steps, decoded, footage, manifest
from tests.vattn.situations.support import images, numbers
from vattn.data import open_clips
from vattn.data.cache import read_failures, read_index, write_index
from vattn.data.cache.writer import _batches
from vattn.data.config import StoreConfig
from vattn.data.ingest import ingest
from vattn.data.motion import encode
from vattn.errors import UserError


def cut_off(path: Path) -> None:
    """Write a file whose index comes first and announces 20 frames, but which has only some of them."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=12, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for pixels in footage(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 5])


def test_cached_clips_equal_a_sequential_decode(root: Path, tmp_path: Path) -> None:
    names = ["good2.mp4", "good0.mp4", "good1.mp4"]

    clips = open_clips(ingest(manifest(*names), root, tmp_path / "cache", STORE, jobs=2), "train")

    assert clips.paths == names
    assert clips.labels.tolist() == [0, 1, 2]
    assert clips.shapes.tolist() == [[6, 32, 48], [4, 32, 48], [5, 32, 48]]
    for number, name in enumerate(names):
        np.testing.assert_allclose(clips.clip(number), decoded(root / name), atol=2)
        source = footage(frames=len(clips.clip(number)), seed=int(name[4]))
        # Chroma is stored at half the resolution, so the blocks are compared by their means.
        error = clips.clip(number).astype(float) - source
        assert np.abs(error.reshape(len(source), 2, 16, 3, 16, 3).mean(axis=(2, 4))).max() < 12


def test_unreadable_files_are_listed_with_the_reason_and_the_others_are_cached(root: Path, tmp_path: Path) -> None:
    (root / "garbage.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    (root / "empty.mp4").write_bytes(b"")
    whole = (root / "good0.mp4").read_bytes()
    (root / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    cut_off(root / "cut-off.mp4")
    with av.open(str(root / "sound.wav"), "w") as container:
        container.add_stream("pcm_s16le", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), layout="mono")
        silence.rate = 8000
        container.mux(container.streams.audio[0].encode(silence))
    names = ["good0.mp4", "garbage.mp4", "empty.mp4", "good1.mp4", "truncated.mp4", "cut-off.mp4", "sound.wav"]
    names += ["missing.mp4", "good2.mp4"]

    cache = ingest(manifest(*names), root, tmp_path / "cache", STORE, jobs=1)

    reasons = {failure["path"]: failure["reason"] for failure in read_failures(cache)}
    assert list(reasons) == [name for name in names if "good" not in name]
    assert reasons["missing.mp4"] == "No such file or directory"
    assert reasons["sound.wav"] == "has no video stream"
    assert reasons["cut-off.mp4"].startswith("is cut off: has ")
    assert reasons["cut-off.mp4"].endswith(" of 20 frames")
    for name in ("garbage.mp4", "empty.mp4", "truncated.mp4"):
        assert "Invalid data" in reasons[name]
    clips = open_clips(cache, "train")
    assert clips.paths == ["good0.mp4", "good1.mp4", "good2.mp4"]
    assert clips.labels.tolist() == [0, 3, 8]


def test_a_cache_is_built_once_and_again_when_anything_changes(root: Path, tmp_path: Path) -> None:
    steps = Steps()

    def cache(*names: str, store: StoreConfig = STORE) -> Path:
        steps.clear()
        return ingest(manifest(*names), root, tmp_path / "cache", store, jobs=1, progress=steps)

    first = cache("good0.mp4", "good1.mp4")
    assert steps == [("ingest", 1, 2), ("ingest", 2, 2)]
    assert cache("good0.mp4", "good1.mp4") == first
    assert steps == []
    reordered = cache("good1.mp4", "good0.mp4")
    smaller = cache("good0.mp4", "good1.mp4", store=StoreConfig(size=16))
    encode(root / "good1.mp4", footage(frames=9))
    changed = cache("good0.mp4", "good1.mp4")
    assert len({first, reordered, smaller, changed}) == 4
    assert open_clips(changed, "train").shapes[1].tolist() == [9, 32, 48]
    assert open_clips(smaller, "train").shapes[0].tolist() == [4, 16, 24]


def content(cache: Path) -> dict[str, tuple[int, str, bytes]]:
    """Return label, split and pixels of every clip of a cache by path, and (-1, reason, b"") of each failure."""
    index = read_index(cache)
    by_path: dict[str, tuple[int, str, bytes]] = {}
    for split in set(index["split"].to_pylist()):
        clips = open_clips(cache, split)
        for i, path in enumerate(clips.paths):
            by_path[path] = (int(clips.labels[i]), split, clips.clip(i).tobytes())
    return by_path | {line["path"]: (-1, line["reason"], b"") for line in read_failures(cache)}


SCRIPT = """
import os, signal, sys
from pathlib import Path
import pyarrow as pa
from vattn.data import workers
from vattn.data.config import StoreConfig
from vattn.data.ingest import ingest
root, cache, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def step(stage, done, total):
    print(done, flush=True)
    if done == last: os.kill(os.getpid(), signal.SIGKILL)
names = sorted(path.name for path in root.iterdir())
table = pa.table({"path": names, "label": pa.array(range(len(names)), pa.int32()), "split": ["train"] * len(names)})
print(ingest(table, root, cache, StoreConfig(size=32), jobs=2, progress=step))
"""


def killed_at(last: int, root: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Ingest all files of ``root`` in a process that kills itself when ``last`` files are done."""
    command = [sys.executable, "-c", SCRIPT, root, cache, str(last)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == -9, process.stderr
    return process


@pytest.mark.medium
def test_a_killed_ingest_is_continued_and_ends_with_the_same_content(root: Path, tmp_path: Path) -> None:
    for number in range(3, 12):
        shutil.copy(root / "good0.mp4", root / f"good{number}.mp4")
    (root / "garbage.mp4").write_bytes(b"garbage")
    names = manifest(*sorted(path.name for path in root.iterdir()))

    killed_at(5, root, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/index.arrow"))
    assert killed_at(9, root, tmp_path / "cache").stdout.split() == ["6", "7", "8", "9"]
    steps = Steps()
    cache = ingest(names, root, tmp_path / "cache", STORE, jobs=1, progress=steps)

    assert steps.done == [10, 11, 12, 13]
    assert content(cache) == content(ingest(names, root, tmp_path / "undisturbed", STORE, jobs=1))
    assert not list((tmp_path / "cache").glob("*.part"))


@pytest.mark.slow
def test_an_ingest_killed_at_any_moment_is_completed_by_the_next_call(root: Path, tmp_path: Path) -> None:
    for number in range(3, 40):
        encode(root / f"good{number}.mp4", footage(frames=20, seed=number))
    names = manifest(*sorted(path.name for path in root.iterdir()))
    expected = content(ingest(names, root, tmp_path / "undisturbed", STORE, jobs=2))
    rng, cache, kills = np.random.default_rng(0), tmp_path / "cache", 0

    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, root, cache, "0"], stdout=subprocess.PIPE, text=True, process_group=0
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        process.communicate()
        kills += process.returncode == -9
        if list(cache.glob("*/index.arrow")):
            assert content(ingest(names, root, cache, STORE, jobs=2)) == expected
            shutil.rmtree(cache)

    assert kills > 10
    assert content(ingest(names, root, cache, STORE, jobs=2)) == expected


@pytest.mark.medium
def test_after_a_full_disk_the_next_call_continues(root: Path, tmp_path: Path) -> None:
    for number in range(3, 12):
        shutil.copy(root / "good0.mp4", root / f"good{number}.mp4")
    # Just enough for 4 clips of 4 frames of 32 x 48 pixels in a file.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))\n"
    command = [sys.executable, "-c", limit + SCRIPT, root, tmp_path / "cache", "0"]

    full = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "cannot be written: " in full.stderr.splitlines()[-1]
    assert full.stderr.splitlines()[-1].endswith("make room and call again: it goes on")
    assert not list((tmp_path / "cache").glob("*/index.arrow"))
    names, steps = manifest(*sorted(path.name for path in root.iterdir())), Steps()
    cache = ingest(names, root, tmp_path / "cache", STORE, jobs=1, progress=steps)
    assert steps.done[0] > 3
    assert content(cache) == content(ingest(names, root, tmp_path / "undisturbed", STORE, jobs=1))


def test_only_changed_files_are_decoded_again(root: Path, tmp_path: Path) -> None:
    names, steps = manifest("good0.mp4", "good1.mp4", "good2.mp4"), Steps()

    def cache() -> Path:
        steps.clear()
        return ingest(names, root, tmp_path / "cache", STORE, jobs=1, progress=steps)

    first = cache()
    before = content(first)
    encode(root / "good1.mp4", footage(frames=9))
    os.utime(root / "good2.mp4", (0, 0))  # as after a copy: the content is the same
    second = cache()

    assert steps.done == [3]
    assert content(first) == before
    after = content(second)
    assert [len(after[f"good{i}.mp4"][2]) for i in range(3)] == [frames * 32 * 48 * 3 for frames in (4, 9, 6)]
    assert (after["good0.mp4"], after["good2.mp4"]) == (before["good0.mp4"], before["good2.mp4"])
    # The new cache does not need the first.
    shutil.rmtree(first)
    assert content(second) == after


def test_the_test_split_is_decoded_on_request_and_nothing_is_decoded_twice(root: Path, tmp_path: Path) -> None:
    files = {"path": [f"good{i}.mp4" for i in range(3)], "label": pa.array([0, 1, 2], pa.int32())}
    names, steps = pa.table(files | {"split": ["train", "test", "val"]}), Steps()

    def cache(below: str, **options: Any) -> Path:
        steps.clear()
        return ingest(names, root, tmp_path / below, STORE, jobs=1, progress=steps, **options)

    without_test = cache("cache", test=False)
    assert steps == [("ingest", 1, 2), ("ingest", 2, 2)]
    assert content(without_test).keys() == {"good0.mp4", "good2.mp4"}
    complete = cache("cache")
    assert steps == [("ingest", 3, 3)]
    assert content(complete) == content(cache("undisturbed"))
    # A cache of all splits is used for requests without the test split too.
    assert cache("cache", test=False) == complete
    assert steps == []


def test_a_killed_ingest_is_continued_by_one_without_the_test_split(root: Path, tmp_path: Path) -> None:
    files = sorted(path.name for path in root.iterdir())
    labels, steps = pa.array(range(3), pa.int32()), Steps()
    killed_at(2, root, tmp_path / "cache")  # its manifest has one split, but the same clips
    names = pa.table({"path": files, "label": labels, "split": ["test", "train", "train"]})

    cache = ingest(names, root, tmp_path / "cache", STORE, jobs=1, test=False, progress=steps)

    assert steps in ([], [("ingest", 2, 2)])  # two were done before, and one of them may be of the test split
    assert content(cache).keys() == set(files[1:])


def test_a_file_in_several_rows_is_decoded_once(root: Path, tmp_path: Path) -> None:
    rows = {"path": ["good2.mp4"] * 3, "label": pa.array([0, 1, 2], pa.int32()), "split": ["train", "val", "train"]}
    ranges = {"first": pa.array([None, None, 1], pa.int64()), "last": pa.array([None, None, 3], pa.int64())}
    steps = Steps()

    cache = ingest(pa.table(rows | ranges), root, tmp_path / "cache", STORE, jobs=1, progress=steps)

    assert steps.done == [1, 2]
    train, val = open_clips(cache, "train"), open_clips(cache, "val")
    assert train.shapes[:, 0].tolist() == [6, 3]
    np.testing.assert_array_equal(train.clip(0), val.clip(0))
    np.testing.assert_array_equal(train.clip(1), val.clip(0)[1:4])


def test_a_cache_can_store_fewer_frames_each_from_the_middle_of_its_part(root: Path, tmp_path: Path) -> None:
    encode(root / "long.mp4", footage(frames=10))
    names = manifest("good0.mp4", "long.mp4")

    whole = open_clips(ingest(names, root, tmp_path / "cache", STORE, jobs=1), "train")
    fewer = open_clips(ingest(names, root, tmp_path / "cache", StoreConfig(size=32, frames=5), jobs=1), "train")

    assert fewer.shapes[:, 0].tolist() == [4, 5]
    # 10 frames in 5 parts of 2: the second of each.
    np.testing.assert_array_equal(fewer.clip(1), whole.clip(1)[1::2])


def without_lengths(cache: Path) -> None:
    """Turn a cache into one of the time when it did not hold the lengths of its clips."""
    write_index(cache, read_index(cache).drop_columns(["length", "seconds", "reader", "times"]), "raw")


def test_a_cache_of_an_earlier_version_is_read_and_its_clips_are_taken_over(root: Path, tmp_path: Path) -> None:
    steps = Steps()
    earlier = ingest(manifest("good0.mp4", "good1.mp4"), root, tmp_path / "cache", STORE, jobs=1)
    expected = content(earlier)
    without_lengths(earlier)

    assert ingest(manifest("good0.mp4", "good1.mp4"), root, tmp_path / "cache", STORE, jobs=1) == earlier
    assert content(earlier) == expected
    more = ingest(manifest("good0.mp4", "good1.mp4", "good2.mp4"), root, tmp_path / "cache", STORE, 1, steps)

    assert steps == [("ingest", 3, 3)]
    assert content(more).items() > expected.items()
    assert read_index(more)["length"].to_pylist() == [-1, -1, 6]


def test_clips_that_an_earlier_version_decoded_are_announced(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = manifest("good0.mp4", "good1.mp4")
    earlier = ingest(names, root, tmp_path / "cache", STORE, jobs=1)
    assert not caplog.records
    without_lengths(earlier)

    assert ingest(names, root, tmp_path / "cache", STORE, jobs=1) == earlier
    ingest(manifest("good0.mp4", "good1.mp4", "good2.mp4"), root, tmp_path / "cache", STORE, jobs=1)

    for record, folder in zip(caplog.records, (earlier, tmp_path / "cache"), strict=True):
        assert f"2 clips of {folder}" in record.getMessage()
        assert "images that EXIF turns, of 16 bits or damaged" in record.getMessage()
        assert f"remove the folders {earlier.name[:8]}-* beside it" in record.getMessage()


def test_a_shard_of_an_earlier_version_is_continued(root: Path, tmp_path: Path) -> None:
    killed_at(2, root, tmp_path / "cache")
    (part,) = (tmp_path / "cache").glob("*.part")
    for shard in part.glob("shard-*.arrow"):
        batches = list(_batches(shard))
        shard.unlink()
        if batches:
            old = batches[0].schema.empty_table().drop_columns(["length", "seconds", "reader", "times"]).schema
            with pa.ipc.new_file(str(shard), old) as file:
                for batch in batches:
                    file.write_batch(batch.select(old.names))
    steps = Steps()

    cache = ingest(manifest(*sorted(path.name for path in root.iterdir())), root, tmp_path / "cache", STORE, 1, steps)

    assert steps.done == [3]
    assert open_clips(cache, "train").shapes[:, 0].tolist() == [4, 5, 6]


def test_the_first_images_of_a_folder_are_taken_over_from_an_earlier_version_where_it_took_the_same(
    tmp_path: Path,
) -> None:
    root, steps = tmp_path / "set", Steps()
    images(root / "from0", "%d.png", range(10))
    images(root / "from1", "%d.png", range(1, 11))
    columns = {"path": ["from0", "from1"], "label": pa.array([0, 1], pa.int32()), "split": ["train"] * 2}
    # Earlier, first and last were all that a manifest said.
    before = pa.table(columns | {"first": pa.array([1, 1], pa.int64()), "last": pa.array([10, 10], pa.int64())})
    without_lengths(ingest(before, root, tmp_path / "cache", STORE, jobs=1))

    stated = before.append_column("frames", pa.array([10, 10], pa.int64()))
    cache = ingest(stated, root, tmp_path / "cache", STORE, jobs=1, progress=steps)

    assert steps == [("ingest", 2, 2)]
    clips = open_clips(cache, "train")
    assert [numbers(clips.clip(i)) for i in range(2)] == [list(range(10)), list(range(1, 11))]


def test_an_ingest_that_can_read_no_file_fails_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of its 2 files could be read; the first, a\.mp4: No such file"):
        ingest(manifest("a.mp4", "b.mp4"), tmp_path, tmp_path / "cache", STORE, jobs=1)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]
