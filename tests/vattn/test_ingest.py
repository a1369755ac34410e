import math
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

from vattn.data import DataConfig, open_clips, workers
from vattn.data.cache import read_failures, read_index
from vattn.data.config import StoreConfig
from vattn.data.decode import read_video
from vattn.data.ingest import ingest
from vattn.data.motion import encode

REAL = Path(__file__).parents[3] / "shared" / "clips"
needs_footage = pytest.mark.skipif(not REAL.is_dir(), reason="real footage is not part of the project")

STORE = StoreConfig(size=32)


def footage(frames: int = 5, seed: int = 0, height: int = 32, width: int = 48) -> np.ndarray:
    """Blocks of random colours, which survive lossy coding."""
    blocks = np.random.default_rng(seed).integers(0, 256, (frames, height // 16, width // 16, 3), np.uint8)
    return blocks.repeat(16, axis=1).repeat(16, axis=2)


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def manifest(*paths: str) -> pa.Table:
    labels = pa.array(range(len(paths)), pa.int32())
    return pa.table({"path": pa.array(paths, pa.string()), "label": labels, "split": ["train"] * len(paths)})


def cut_off(path: Path) -> None:
    """Write a file whose index comes first and announces 20 frames, of which only some are there."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=12, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for pixels in footage(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 5])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(3):
        encode(folder / f"good{number}.mp4", footage(frames=4 + number, seed=number))
    return folder


def test_what_is_cached_is_a_sequential_decode(root: Path, tmp_path: Path) -> None:
    names = ["good2.mp4", "good0.mp4", "good1.mp4"]

    clips = open_clips(ingest(manifest(*names), root, tmp_path / "cache", STORE, jobs=2), "train")

    assert clips.paths == names
    assert clips.labels.tolist() == [0, 1, 2]
    assert clips.shapes.tolist() == [[6, 32, 48], [4, 32, 48], [5, 32, 48]]
    for number, name in enumerate(names):
        np.testing.assert_allclose(clips.clip(number), decode(root / name), atol=2)
        source = footage(frames=len(clips.clip(number)), seed=int(name[4]))
        # Chroma is stored at half the resolution, so the blocks are compared by their means.
        error = clips.clip(number).astype(float) - source
        assert np.abs(error.reshape(len(source), 2, 16, 3, 16, 3).mean(axis=(2, 4))).max() < 12


def test_files_that_cannot_be_read_are_listed_with_the_reason_and_the_rest_is_there(root: Path, tmp_path: Path) -> None:
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


def test_a_cache_is_made_once_and_again_when_anything_changes(root: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []

    def cache(*names: str, store: StoreConfig = STORE) -> Path:
        told.clear()
        return ingest(
            manifest(*names), root, tmp_path / "cache", store, jobs=1, progress=lambda *step: told.append(step)
        )

    first = cache("good0.mp4", "good1.mp4")
    assert told == [("ingest", 1, 2), ("ingest", 2, 2)]
    assert cache("good0.mp4", "good1.mp4") == first
    assert told == []
    others = [cache("good1.mp4", "good0.mp4"), cache("good0.mp4", "good1.mp4", store=StoreConfig(size=16))]
    encode(root / "good1.mp4", footage(frames=9))
    others.append(cache("good0.mp4", "good1.mp4"))
    assert len({first, *others}) == 4
    assert open_clips(others[-1], "train").shapes[1].tolist() == [9, 32, 48]
    assert open_clips(others[1], "train").shapes[0].tolist() == [4, 16, 24]


def content(cache: Path) -> dict[str, tuple[int, str, bytes]]:
    """Label, split and pixels of every clip of a cache, by path, and what could not be read."""
    index = read_index(cache)
    found: dict[str, tuple[int, str, bytes]] = {}
    for split in set(index["split"].to_pylist()):
        clips = open_clips(cache, split)
        for i, path in enumerate(clips.paths):
            found[path] = (int(clips.labels[i]), split, clips.clip(i).tobytes())
    return found | {line["path"]: (-1, line["reason"], b"") for line in read_failures(cache)}


INGEST = """
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
    """Ingest all files of ``root``; the process kills itself when ``last`` files are done."""
    command = [sys.executable, "-c", INGEST, root, cache, str(last)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == -9, process.stderr
    return process


def test_a_killed_ingest_goes_on_where_it_was_and_ends_with_the_same_content(root: Path, tmp_path: Path) -> None:
    for number in range(3, 12):
        shutil.copy(root / "good0.mp4", root / f"good{number}.mp4")
    (root / "garbage.mp4").write_bytes(b"garbage")
    names = manifest(*sorted(path.name for path in root.iterdir()))

    killed_at(5, root, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/index.arrow"))
    assert killed_at(9, root, tmp_path / "cache").stdout.split() == ["6", "7", "8", "9"]
    told: list[int] = []
    cache = ingest(names, root, tmp_path / "cache", STORE, jobs=1, progress=lambda *step: told.append(step[1]))

    assert told == [10, 11, 12, 13]
    assert content(cache) == content(ingest(names, root, tmp_path / "undisturbed", STORE, jobs=1))
    assert not list((tmp_path / "cache").glob("*.part"))


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_what_the_next_call_completes(root: Path, tmp_path: Path) -> None:
    for number in range(3, 40):
        encode(root / f"good{number}.mp4", footage(frames=20, seed=number))
    names = manifest(*sorted(path.name for path in root.iterdir()))
    expected = content(ingest(names, root, tmp_path / "undisturbed", STORE, jobs=2))
    rng, cache, kills = np.random.default_rng(0), tmp_path / "cache", 0

    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", INGEST, root, cache, "0"], stdout=subprocess.PIPE, text=True, process_group=0
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


def test_a_full_disk_ends_cleanly_and_the_next_call_goes_on(root: Path, tmp_path: Path) -> None:
    for number in range(3, 12):
        shutil.copy(root / "good0.mp4", root / f"good{number}.mp4")
    # No file may become larger than 4 clips of 4 frames of 32 x 48 pixels, and a bit.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))\n"
    command = [sys.executable, "-c", limit + INGEST, root, tmp_path / "cache", "0"]

    full = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "cannot be written: " in full.stderr.splitlines()[-1]
    assert full.stderr.splitlines()[-1].endswith("make room and call again: it goes on")
    assert not list((tmp_path / "cache").glob("*/index.arrow"))
    names, told = manifest(*sorted(path.name for path in root.iterdir())), []
    cache = ingest(names, root, tmp_path / "cache", STORE, jobs=1, progress=lambda *step: told.append(step[1]))
    assert told[0] > 3
    assert content(cache) == content(ingest(names, root, tmp_path / "undisturbed", STORE, jobs=1))


def test_of_changed_files_only_the_changed_are_decoded_again(root: Path, tmp_path: Path) -> None:
    names, told = manifest("good0.mp4", "good1.mp4", "good2.mp4"), []

    def cache() -> Path:
        told.clear()
        return ingest(names, root, tmp_path / "cache", STORE, jobs=1, progress=lambda *step: told.append(step[1]))

    first = cache()
    before = content(first)
    encode(root / "good1.mp4", footage(frames=9))
    os.utime(root / "good2.mp4", (0, 0))  # copied, say: its content is the same
    second = cache()

    assert told == [3]
    assert content(first) == before
    after = content(second)
    assert [len(after[f"good{i}.mp4"][2]) for i in range(3)] == [frames * 32 * 48 * 3 for frames in (4, 9, 6)]
    assert (after["good0.mp4"], after["good2.mp4"]) == (before["good0.mp4"], before["good2.mp4"])
    # The new cache stands on its own.
    shutil.rmtree(first)
    assert content(second) == after


def test_the_test_split_is_decoded_once_it_is_asked_for_and_nothing_twice(root: Path, tmp_path: Path) -> None:
    files = {"path": [f"good{i}.mp4" for i in range(3)], "label": pa.array([0, 1, 2], pa.int32())}
    names, told = pa.table(files | {"split": ["train", "test", "val"]}), []

    def cache(below: str, **options: Any) -> Path:
        told.clear()
        progress = lambda *step: told.append(step[1:])  # noqa: E731
        return ingest(names, root, tmp_path / below, STORE, jobs=1, progress=progress, **options)

    without = cache("cache", test=False)
    assert told == [(1, 2), (2, 2)]
    assert content(without).keys() == {"good0.mp4", "good2.mp4"}
    every = cache("cache")
    assert told == [(3, 3)]
    assert content(every) == content(cache("undisturbed"))
    # Once all is there, that serves both.
    assert cache("cache", test=False) == every
    assert told == []


def test_an_ingest_that_was_killed_is_gone_on_with_by_one_that_leaves_out_the_test_split(
    root: Path, tmp_path: Path
) -> None:
    files = sorted(path.name for path in root.iterdir())
    labels, told = pa.array(range(3), pa.int32()), []
    killed_at(2, root, tmp_path / "cache")  # of one split alone; the clips are the same
    names = pa.table({"path": files, "label": labels, "split": ["test", "train", "train"]})

    cache = ingest(
        names, root, tmp_path / "cache", STORE, jobs=1, test=False, progress=lambda *step: told.append(step[1:])
    )

    assert told in ([], [(2, 2)])  # two were done before, of which one may be of the test split
    assert content(cache).keys() == set(files[1:])


def test_a_file_in_several_rows_is_decoded_once(root: Path, tmp_path: Path) -> None:
    rows = {"path": ["good2.mp4"] * 3, "label": pa.array([0, 1, 2], pa.int32()), "split": ["train", "val", "train"]}
    ranges = {"first": pa.array([None, None, 1], pa.int64()), "last": pa.array([None, None, 3], pa.int64())}
    told: list[int] = []

    cache = ingest(
        pa.table(rows | ranges), root, tmp_path / "cache", STORE, jobs=1, progress=lambda *step: told.append(step[1])
    )

    assert told == [1, 2]
    train, val = open_clips(cache, "train"), open_clips(cache, "val")
    assert train.shapes[:, 0].tolist() == [6, 3]
    np.testing.assert_array_equal(train.clip(0), val.clip(0))
    np.testing.assert_array_equal(train.clip(1), val.clip(0)[1:4])


def test_a_cache_keeps_so_many_frames_each_from_the_middle_of_its_part(root: Path, tmp_path: Path) -> None:
    encode(root / "long.mp4", footage(frames=10))
    names = manifest("good0.mp4", "long.mp4")

    whole = open_clips(ingest(names, root, tmp_path / "cache", STORE, jobs=1), "train")
    some = open_clips(ingest(names, root, tmp_path / "cache", StoreConfig(size=32, frames=5), jobs=1), "train")

    assert some.shapes[:, 0].tolist() == [4, 5]
    # 10 frames in 5 parts of 2: of each the second.
    np.testing.assert_array_equal(some.clip(1), whole.clip(1)[1::2])


def test_jpeg_frames_are_close_to_the_raw_ones_and_any_of_them_can_be_asked_for(root: Path, tmp_path: Path) -> None:
    names, jpeg = manifest("good1.mp4", "good2.mp4"), StoreConfig(size=32, codec="jpeg")

    first = open_clips(ingest(names, root, tmp_path / "cache", STORE, jobs=1), "train")
    second = open_clips(ingest(names, root, tmp_path / "cache", jpeg, jobs=1), "train")

    assert first.shapes.tolist() == second.shapes.tolist()
    for i in range(2):
        # Chroma is stored at half the resolution, so the blocks are compared by their means.
        error = (first.clip(i).astype(float) - second.clip(i)).reshape(-1, 2, 16, 3, 16, 3)
        assert np.abs(error.mean(axis=(2, 4))).max() < 12
    np.testing.assert_array_equal(np.stack(list(second.frames(1, [3, 0, 3]))), second.clip(1)[[3, 0, 3]])


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_an_altered_byte_of_a_frame_is_found_when_it_is_read(codec: str, root: Path, tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match=r"shard-00000\.arrow: was altered or cut off .*good0\.mp4: frame 2 .*remove"):
        list(altered.frames(0, [2]))
    with pytest.raises(ValueError, match="was altered"):
        altered.clip(0)


def test_a_shard_or_an_index_that_is_cut_off_or_altered_is_found_when_it_is_opened(root: Path, tmp_path: Path) -> None:
    cache = ingest(manifest("good0.mp4", "good1.mp4"), root, tmp_path / "cache", STORE, jobs=1)
    (shard,) = cache.glob("shard-*")
    whole = shard.read_bytes()

    shard.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"shard-00000\.arrow: was altered or cut off"):
        open_clips(cache, "train").clip(0)
    shard.write_bytes(whole)
    open_clips(cache, "train").clip(0)
    shard.write_bytes(whole)
    one = ingest(manifest("good1.mp4"), root, tmp_path / "other", STORE, jobs=1)
    shard.write_bytes(next(one.glob("shard-*")).read_bytes())  # a whole shard, but not this one
    with pytest.raises(ValueError, match=r"was altered or cut off after it was written \(good0\.mp4: "):
        open_clips(cache, "train").clip(0)
    index = bytearray((cache / "index.arrow").read_bytes())
    index[len(index) // 2] ^= 1
    (cache / "index.arrow").write_bytes(index)
    with pytest.raises(ValueError, match=r"index\.arrow: was altered"):
        open_clips(cache, "train")


def test_a_cache_of_an_earlier_version_is_told_from_an_altered_one(root: Path, tmp_path: Path) -> None:
    cache = ingest(manifest("good0.mp4"), root, tmp_path / "cache", STORE, jobs=1)
    _, digest = (cache / "index.check").read_text().split()

    (cache / "index.check").write_text(f"4 {digest}")
    with pytest.raises(ValueError, match=r"is a cache of version 4, and only .* version 3 can be read; ingest again"):
        open_clips(cache, "train")
    (cache / "index.check").unlink()  # which earlier versions did not have
    with pytest.raises(ValueError, match=r"is a cache of version 2 or earlier"):
        open_clips(cache, "train")


def test_a_folder_of_which_nothing_can_be_read_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none of its 2 files could be read; the first, a\.mp4: No such file"):
        ingest(manifest("a.mp4", "b.mp4"), tmp_path, tmp_path / "cache", STORE, jobs=1)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_missing_data_folder_and_a_file_in_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.root: .*nowhere does not exist"):
        DataConfig(kind="folders").supply(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"data\.root: .*file is a file"):
        DataConfig(kind="folders").supply(tmp_path / "file")
    with pytest.raises(ValueError, match=r"must be a folder, but .*file is a file"):
        ingest(manifest("a.mp4"), tmp_path, tmp_path / "file", STORE, jobs=1)


@needs_footage
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        # Frames as their README counts them; 340 x 256 -> 42.5 x 32, 320 x 240 -> 42.67 x 32, 426 x 240 -> 56.8 x 32.
        ("demo.mp4", (280, 32, 42, 3)),
        ("part_0.mp4", (32, 32, 42, 3)),
        ("demo_spatiotemporal_det.mp4", (57, 32, 42, 3)),
        ("test.avi", (164, 32, 43, 3)),
        ("test_video_structuralize.mp4", (300, 32, 57, 3)),
        ("flipping_a_pancake.mkv", (310, 32, 57, 3)),
    ],
)
def test_real_footage_is_decoded_whole_with_the_shorter_side_scaled(name: str, shape: tuple[int, ...]) -> None:
    clip = read_video(REAL / name, 32)

    assert clip.shape == shape
    # Scaled by averaging: each picture keeps its mean colour.
    reference = decode(REAL / name).mean(axis=(1, 2))
    np.testing.assert_allclose(clip.mean(axis=(1, 2)), reference, atol=3)


@needs_footage
@pytest.mark.parametrize(("name", "size"), [("part_0.mp4", 256), ("test.avi", 240)])
def test_real_footage_at_its_own_size_is_a_sequential_decode(name: str, size: int) -> None:
    np.testing.assert_allclose(read_video(REAL / name, size), decode(REAL / name), atol=2)


@needs_footage
def test_a_corrupt_file_among_real_footage_is_a_named_failure(tmp_path: Path) -> None:
    cache = ingest(manifest("corrupted.mp4", "part_0.mp4"), REAL, tmp_path / "cache", STORE, jobs=1)

    assert read_failures(cache) == [{"path": "corrupted.mp4", "reason": "Invalid data found when processing input"}]
    assert open_clips(cache, "train").paths == ["part_0.mp4"]


def test_a_process_has_its_next_job_while_the_outcome_of_the_last_is_dealt_with(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    outcomes = workers.run(os.mkdir, [first, second], processes=1)

    next(outcomes)

    deadline = time.monotonic() + 60
    while not second.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert second.exists()
    assert list(outcomes) == [(second, None)]


def test_workers_report_what_raises_and_go_on() -> None:
    outcomes = dict(workers.run(math.sqrt, [4.0, -1.0, 9.0], processes=1))

    assert outcomes[4.0] == 2
    assert outcomes[9.0] == 3
    assert isinstance(outcomes[-1.0], workers.Failure)


def test_a_job_that_hangs_or_kills_its_process_does_not_stop_the_others() -> None:
    began = time.monotonic()
    slept = dict(workers.run(time.sleep, [0.0, 600.0, 0.01, 0.02], processes=2, time_limit=2.0))
    assert slept == {0.0: None, 600.0: workers.Failure("took longer than 2 seconds"), 0.01: None, 0.02: None}
    assert time.monotonic() - began < 60

    died = dict(workers.run(os._exit, [3, 4], processes=1))
    assert died == {status: workers.Failure(f"its process died, exit status {status}") for status in (3, 4)}


def test_the_data_package_starts_without_what_only_decoding_or_training_needs() -> None:
    code = (
        "import sys, vattn.data, vattn.data.ingest; print([m for m in ('torch', 'av', 'decord') if m in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
