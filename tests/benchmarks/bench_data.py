"""Speed of the data pipeline on one core: clips per second by source, for 8 frames of 112 pixels in batches of 32.

It also measures how long trainings wait for their clips, and how long a cache of a million clips takes to open.

    python tests/benchmarks/bench_data.py sources [--seconds 5] [--files 8]
    python tests/benchmarks/bench_data.py feeding [--turns 5]
    python tests/benchmarks/bench_data.py cold [--turns 3]
    python tests/benchmarks/bench_data.py ingest --against CHECKOUT [--turns 9]

sources: the files are 320 x 240 H.264 videos of 10 seconds at 25 frames per second. Times are CPU times, so that other
processes on the machine do not change them. With a cold page cache it is wall-clock time, after the system was asked to
drop the cache's files from memory.

feeding: batches of 8 frames of 224 pixels with each augmentation, made by one thread as before (`single_thread.py`),
and by one and two threads. cold: the same without augmentation, of frames that are not in memory, against the disk. In
both, all take turns; ratios are medians over the turns. ingest: this version against that of another checkout, in
turns.
"""

import argparse
import gc
import itertools
import mmap
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import pyarrow as pa
import torch

from tests.benchmarks.single_thread import single_thread
from vattn.config import DataConfig, ModelConfig, TrainConfig
from vattn.data import open_clips
from vattn.data.cache import CacheWriter, Clips, Codec, write_index
from vattn.data.cache.format import INDEX_SCHEMA
from vattn.data.config import StoreConfig
from vattn.data.ingest import ingest
from vattn.data.layouts.motion import MotionDataConfig
from vattn.training.batches.feed import feed
from vattn.training.batches.loader import Batches, train_batches

#: frames of a clip
FRAMES = 8
#: pixels, side of the crop
SIZE = 112
#: pixels, shorter side of the frames in the cache
STORED = 128
#: clips
BATCH = 32
#: frames of a video file
LENGTH = 250
#: pixels
HEIGHT, WIDTH = 240, 320
#: frames per second
RATE = 25

Video = np.ndarray


def footage(path: Path, seed: int, codec: str = "libx264", **options: str) -> None:
    """Write a video of a camera that moves over a random texture."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(0, 256, (HEIGHT // 8 + 16, WIDTH // 8 + 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    scene = scene // 2 + rng.integers(0, 24, scene.shape, np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options or {"crf": "23", "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for t in range(LENGTH):
            top, left = (int(32 + 30 * np.sin(t / 25 + phase)) for phase in (0, 2))
            picture = np.ascontiguousarray(scene[top : top + HEIGHT, left : left + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def sampled_indices(rng: np.random.Generator) -> np.ndarray:
    """Return the indices of one random frame of each of `FRAMES` equal segments of a file."""
    return np.arange(FRAMES) * (LENGTH // FRAMES) + rng.integers(0, LENGTH // FRAMES, FRAMES)


def cropped(frames: Video, rng: np.random.Generator, out: Video) -> None:
    """Scale the shorter side of each frame to `STORED`, and copy a random square into ``out``."""
    from av.video.reformatter import VideoReformatter

    scaler = VideoReformatter()
    width = round(WIDTH * STORED / HEIGHT)
    top, left = int(rng.integers(STORED - SIZE + 1)), int(rng.integers(width - SIZE + 1))
    for picture, crop in zip(frames, out, strict=True):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        scaled = scaler.reformat(frame, width, STORED, "rgb24", interpolation="BICUBIC").to_ndarray()
        crop[...] = scaled[top : top + SIZE, left : left + SIZE]


def with_decord(paths: list[Path]) -> Iterator[int]:
    """Yield 1 after each clip that decord read by random access to its frames, as data loaders usually do."""
    import decord

    rng, batch = np.random.default_rng(0), np.empty((BATCH, FRAMES, SIZE, SIZE, 3), np.uint8)
    while True:
        for n in range(BATCH):
            reader = decord.VideoReader(str(paths[n % len(paths)]), num_threads=1)
            cropped(reader.get_batch(sampled_indices(rng).tolist()).asnumpy(), rng, batch[n])
            yield 1


def with_pyav(paths: list[Path]) -> Iterator[int]:
    """Yield 1 after each clip that PyAV read in order, with only the sampled frames converted to RGB."""
    rng, batch = np.random.default_rng(0), np.empty((BATCH, FRAMES, SIZE, SIZE, 3), np.uint8)
    while True:
        for n in range(BATCH):
            chosen, frames = set(sampled_indices(rng).tolist()), []
            with av.open(str(paths[n % len(paths)])) as container:
                container.streams.video[0].thread_type = "NONE"
                for t, frame in enumerate(container.decode(video=0)):
                    if t in chosen:
                        frames.append(frame.to_ndarray(format="rgb24"))
            cropped(np.stack(frames), rng, batch[n])
            yield 1


def with_cache(clips: Clips) -> Iterator[int]:
    """Yield the number of clips of each batch of a training."""
    backbone = {"kind": "resnet", "depth": 10}
    model = ModelConfig.parse({"frames": FRAMES, "size": SIZE, "backbone": backbone})
    train = TrainConfig.parse({"epochs": 1, "batch": BATCH, "lr": 0.1})
    epoch = 0
    while True:
        for images, _ in train_batches(clips, MotionDataConfig(), model, train, epoch):
            yield len(images)
        epoch += 1


def rate(clips: Iterator[int], seconds: float, clock: Callable[[], float] = time.process_time) -> float:
    """Return clips per second; the first item is not timed."""
    next(clips)
    began, done = clock(), 0
    while clock() - began < seconds:
        done += next(clips)
    return done / (clock() - began)


def with_ray(paths: list[Path], seconds: float) -> float:
    """Return clips per second and core of `ray.data.read_videos`; its rows are frames, and a clip is a whole file."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        began, rows = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            for batch in ray.data.read_videos([str(path) for path in paths]).iter_batches(batch_size=LENGTH):
                rows += len(batch["frame"])
        return rows / LENGTH / (time.perf_counter() - began)
    finally:
        ray.shutdown()


def drop(folder: Path) -> None:
    """Ask the system to drop the files of a cache from memory."""
    os.sync()
    for file in folder.glob("*.arrow"):
        with file.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold(clips: Callable[[], Clips], folder: Path) -> float:
    """Return clips per wall-clock second when each clip is read once and none is in the page cache."""
    drop(folder)
    opened = clips()
    batch_sizes, began, done = with_cache(opened), time.perf_counter(), 0
    while done < len(opened) // BATCH * BATCH:
        done += next(batch_sizes)
    return done / (time.perf_counter() - began)


def loading_shares(folder: Path, frames: int, width: float) -> tuple[float, float]:
    """Train ResNet-10 with TAM on the motion set, on one core, and return two fractions of its second epoch.

    The first is the fraction of wall-clock time in which the training waited for a batch. The second is the fraction of
    CPU time that was spent on making batches; a loader thread cannot hide it if no core is idle.
    """
    import vattn.training.distill
    import vattn.training.fit
    from vattn.config import TrialConfig
    from vattn.data import prepare

    config = TrialConfig.parse({
        "data": {"kind": "motion", "train_clips": 40},
        "model": {
            "frames": frames, "size": 48, "backbone": {"kind": "resnet", "depth": 10, "width": width},
            "attention": [{"kind": "tam"}],
        },
        "train": {"epochs": 2, "batch": 32, "lr": 0.1},
    })  # fmt: skip
    waited = made = 0.0

    def count_made(function: Any) -> Any:
        def call(argument: Any) -> Any:
            nonlocal made
            began = time.thread_time()
            try:
                return function(argument)
            finally:
                made += time.thread_time() - began

        return call

    def count_waited(batches: Batches, device: torch.device) -> Iterator[Any]:
        nonlocal waited
        batches.plan, batches.make = count_made(batches.plan), count_made(batches.make)
        remaining, began = feed(batches, device), time.perf_counter()
        while (batch := next(remaining, None)) is not None:
            waited += time.perf_counter() - began
            yield batch
            began = time.perf_counter()

    vattn.training.distill.feed = count_waited
    try:
        epochs = vattn.training.fit.fit(config, prepare(config.data, folder), folder / f"{frames}-{width}")
        next(epochs)
        waited, made, clock, cpu = 0.0, 0.0, time.perf_counter(), time.process_time()
        next(epochs)
        return waited / (time.perf_counter() - clock), made / (time.process_time() - cpu)
    finally:
        vattn.training.distill.feed = feed


def open_million(folder: Path) -> tuple[float, float]:
    """Return the seconds and the peak megabytes of opening a cache of a million clips, in a process of its own."""
    count = 1_000_000
    columns = {
        "path": [f"train/class-{i % 400:03}/{i:011}_000010_000020.mp4" for i in range(count)],
        "label": np.arange(count) % 400, "split": ["val" if i % 10 == 0 else "train" for i in range(count)],
        "digest": [f"{i:032x}" for i in range(count)], "damage": [""] * count,
        "shard": [f"shard-{i // 100:05}.arrow" for i in range(count)], "batch": np.arange(count) % 100,
    }  # fmt: skip
    arrays = [pa.array(columns.get(field.name, np.full(count, 300)), field.type) for field in INDEX_SCHEMA]
    write_index(folder, pa.table(arrays, schema=INDEX_SCHEMA), "raw")
    code = (
        "import re, sys, time; from pathlib import Path; from vattn.data.cache import open_clips\n"
        "import pyarrow.compute\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024\n"
        "start, before = time.perf_counter(), peak()\n"
        "clips = open_clips(Path(sys.argv[1]), 'train'); clips.labels, clips.shapes\n"
        "assert len(clips) == 900_000\n"
        "print(time.perf_counter() - start, peak() - before)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True).stdout
    seconds, megabytes = map(float, printed.split())
    return seconds, megabytes


#: name of each augmentation, and its config
AUGMENTS: dict[str, dict[str, Any]] = {
    "none": {},
    "flip": {"flip": True},
    "resized crop": {"crop": "resized"},
    "MixUp": {"mixup": 0.4},
    "CutMix": {"cutmix": 1.0},
    "RandAugment, 2 operations": {"randaugment": 2},
    "colour 0.4": {"color": 0.4},
    "flip, colour, RandAugment, MixUp or CutMix": {
        "flip": True, "color": 0.4, "randaugment": 2, "mixup": 0.4, "cutmix": 1.0,
    },
}  # fmt: skip


def write_cache(folder: Path, codec: Codec, clips: int, frames: int, stored: int) -> Path:
    """Write a cache of training clips of smooth areas and edges, ``stored`` x 4/3 ``stored`` pixels."""
    folder.mkdir()
    rng, writer = np.random.default_rng(0), CacheWriter(folder, codec=codec)
    base = rng.integers(0, 256, (frames, stored // 8, stored // 6, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    for number in range(clips):
        writer.add(number, f"{number}.mp4", number % 16, "train", np.roll(base, number, 1) ^ np.uint8(number % 256))
    writer.finish([])
    return folder


class Speed(NamedTuple):
    """Speed of making batches."""

    rate: float
    """clips per wall-clock second"""
    cpu: float
    """CPU seconds of a clip"""


def speed(passes: Callable[[int], Iterator[tuple[torch.Tensor, torch.Tensor]]], seconds: float) -> Speed:
    """Measure one pass, and further ones until ``seconds`` have passed; each is called with its number."""
    began, cpu, done = time.perf_counter(), time.process_time(), 0
    for number in itertools.count():
        done += sum(len(images) for images, _ in passes(number))
        if time.perf_counter() - began >= seconds:
            return Speed(done / (time.perf_counter() - began), (time.process_time() - cpu) / done)
    raise AssertionError


def ways(clips: Clips, data: DataConfig, size: int, batch: int, seconds: float) -> list[Callable[[], Speed]]:
    """Return functions that measure the single thread of before, one thread, and two."""
    model = ModelConfig.parse({"frames": FRAMES, "size": size, "backbone": {"kind": "resnet", "depth": 10}})
    train = TrainConfig.parse({"epochs": 1, "batch": batch, "lr": 0.1})

    def measured(threads: int) -> Speed:
        torch.set_num_threads(threads)
        try:
            device = torch.device("cpu")
            return speed(lambda epoch: feed(train_batches(clips, data, model, train, epoch), device), seconds)
        finally:
            torch.set_num_threads(1)

    return [
        lambda: speed(lambda epoch: single_thread(clips, data, model, train, epoch), seconds),
        lambda: measured(1),
        lambda: measured(2),
    ]


def feeding(scratch: Path, turns: int) -> None:
    """Print how many clips a second are made with each augmentation, before and now."""
    print("| cache | augmentation | before, clips/s | 1 thread / before | 2 threads / before | CPU time / before |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    codecs: tuple[Codec, ...] = ("raw", "jpeg")
    for codec in codecs:
        clips = open_clips(write_cache(scratch / codec, codec, clips=32, frames=16, stored=256), "train")
        for name, augment in AUGMENTS.items():
            each = ways(clips, MotionDataConfig.parse({"augment": augment}), 224, 8, 0.5)
            for way in each:
                way()  # the files are in memory, and torchvision is imported
            rows = [[way() for way in each] for _ in range(turns)]
            before = median(row[0].rate for row in rows)
            one, two = (median(row[way].rate / row[0].rate for row in rows) for way in (1, 2))
            cpu = median(row[1].cpu / row[0].cpu for row in rows)
            print(f"| {codec} | {name} | {before:,.0f} | {one:.2f} | {two:.2f} | {cpu:.2f} |", flush=True)


def disk(folder: Path, piece: int) -> tuple[float, float]:
    """Return the disk's bytes per second: of a file read from its beginning, and of scattered pieces, 32 at a time."""
    drop(folder)
    shard = folder / "shard-00000.arrow"
    with shard.open("rb") as file:
        buffer, began, done = bytearray(4 << 20), time.perf_counter(), 0
        while read := file.readinto(buffer):
            done += read
        whole = done / (time.perf_counter() - began)
        drop(folder)
        places = [random.Random(n).randrange(done - piece) for n in range(1024)]
        began = time.perf_counter()
        with ThreadPoolExecutor(32) as threads:
            done = sum(threads.map(lambda place: len(os.pread(file.fileno(), piece, place)), places))
        return whole, done / (time.perf_counter() - began)


def cold_rate(folder: Path, way: int) -> float:
    """Return the clips a second of one of `ways`, of frames that are not in memory."""
    gc.collect()  # pages that are mapped are not dropped
    drop(folder)
    clips = open_clips(folder, "train")
    if way == 0:  # as files were mapped before
        for shard in {id(shard): shard for shard in map(clips._shard, range(len(clips)))}.values():
            shard.advise(mmap.MADV_NORMAL, 0, len(shard.bytes))
    return ways(clips, MotionDataConfig(), SIZE, BATCH, 0)[way]().rate


def from_disk(scratch: Path, turns: int) -> None:
    """Print how many clips a second are read from the disk, before and now, and the share of the disk's bandwidth."""
    print("| cache | before, clips/s | 1 thread | 2 threads | useful MB/s | of one file | of scattered pieces |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    caches: list[tuple[str, Codec, int, int]] = [
        ("raw, 250 frames", "raw", 192, 250), ("raw, 8 frames", "raw", 1536, 8), ("jpeg, 250 frames", "jpeg", 192, 250),
    ]  # fmt: skip
    for name, codec, clips, frames in caches:
        folder = write_cache(scratch / f"{codec}-{frames}", codec, clips, frames, STORED)
        useful = FRAMES * sum(file.stat().st_size for file in folder.glob("shard-*")) / clips / frames
        rows = []
        for _ in range(turns):
            whole, scattered = disk(folder, int(useful if frames == FRAMES else useful / FRAMES))
            rates = [cold_rate(folder, way) for way in range(3)]
            rows.append((*rates, rates[2] * useful / 1e6, rates[2] * useful / whole, rates[2] * useful / scattered))
        before, one, two, used, of_whole, of_scattered = (median(column) for column in zip(*rows, strict=True))
        print(
            f"| {name} | {before:,.0f} | {one:,.0f} | {two:,.0f} | {used:,.0f} | {of_whole:.0%} | {of_scattered:.0%} |",
            flush=True,
        )


#: Suffix, encoder and options of the videos of `compare_ingests`.
COMPARED = {
    "H.264 in MP4": (".mp4", "libx264", {}),
    "H.264 in MKV, a keyframe each second": (".mkv", "libx264", {"g": "25", "bf": "2"}),
    "MPEG-4 in AVI": (".avi", "mpeg4", {"g": "12", "bf": "2", "b": "1M"}),
    "VP9 in WebM": (".webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "1M"}),
}
INGEST = """
import resource, shutil, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from zlib import crc32
import pyarrow as pa
from vattn.data import open_clips
from vattn.data.config import StoreConfig
from vattn.data.ingest import ingest

def cpu():
    uses = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)

for line in sys.stdin:
    root = Path(line.strip())
    names = sorted(path.name for path in root.iterdir())
    rows = pa.table({"path": names, "label": pa.array([0] * len(names), pa.int32()), "split": ["train"] * len(names)})
    cache = root.parent / f"cache-{time.monotonic_ns()}"
    began, spent = time.perf_counter(), cpu()
    folder = ingest(rows, root, cache, StoreConfig(size=SIZE), jobs=1)
    times = time.perf_counter() - began, cpu() - spent
    clips, check = open_clips(folder, "train"), 0
    for i in range(len(clips)):
        check = crc32(clips.clip(i), check)
    print(*times, check, flush=True)
    shutil.rmtree(cache)
"""


def compare_ingests(checkout: Path, scratch: Path, files: int, pairs: int) -> None:
    """Print how fast this version ingests, relative to that in ``checkout``.

    Two processes take turns with the same files. A ratio is the median over the pairs of turns, the first one left out;
    beside it are the quartiles.
    """
    here, code = Path(__file__).parents[2], INGEST.replace("SIZE", str(STORED))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, folder], cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for folder in (checkout, here)
    ]  # fmt: skip
    print("| files | by CPU time | by the clock | frames |\n| --- | --- | --- | --- |")
    for number, (name, (suffix, codec, options)) in enumerate(COMPARED.items()):
        root = scratch / f"{number}/files"
        root.mkdir(parents=True)
        for seed in range(files):
            footage(root / f"{seed}{suffix}", seed, codec, **options)
        ratios, checks = [], set()
        for pair in range(pairs + 1):
            times = np.empty((2, 2))
            for which in (0, 1) if pair % 2 else (1, 0):
                stdin, stdout = processes[which].stdin, processes[which].stdout
                assert stdin is not None
                assert stdout is not None
                stdin.write(f"{root}\n")
                stdin.flush()
                clock, spent, check = map(float, stdout.readline().split())
                times[which] = clock, spent
                checks.add(check)
            ratios.append(times[0] / times[1])
        low, middle, high = np.quantile(ratios[1:], (0.25, 0.5, 0.75), axis=0)
        cells = [f"{middle[i]:.2f} ({low[i]:.2f} to {high[i]:.2f})" for i in (1, 0)]
        cells.append("the same" if len(checks) == 1 else "other ones")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    for process in processes:
        process.kill()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["sources", "feeding", "cold", "ingest"])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="of this repository, for ingest")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "ingest" and arguments.against is None:
        parser.error("ingest needs --against")
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.part == "ingest":
            compare_ingests(arguments.against.absolute(), Path(scratch), arguments.files, arguments.turns)
        elif arguments.part == "feeding":
            feeding(Path(scratch), arguments.turns)
        elif arguments.part == "cold":
            from_disk(Path(scratch), arguments.turns)
        else:
            sources(Path(scratch), arguments)


def sources(scratch: Path, arguments: argparse.Namespace) -> None:
    """Print how many clips a second each source gives, how long trainings wait, and how long opening takes."""
    root = scratch / "files"
    root.mkdir()
    paths = [root / f"{number}.mp4" for number in range(arguments.files)]
    for number, path in enumerate(paths):
        footage(path, number)
    rows, copies = 64, []
    table = pa.table({
        "path": [paths[i % len(paths)].name for i in range(rows)], "label": pa.array([0] * rows, pa.int32()),
        "split": ["train"] * rows,
    })  # fmt: skip
    for i in range(rows - len(paths)):  # one file per row, so that a cold read really reads the disk
        copies.append(root / f"copy{i}.mp4")
        os.link(paths[i % len(paths)], copies[-1])
    table = table.set_column(0, "path", pa.array([path.name for path in [*paths, *copies]]))
    results: dict[str, float] = {}
    results["decord on the fly"] = rate(with_decord(paths), arguments.seconds)
    results["PyAV on the fly"] = rate(with_pyav(paths), arguments.seconds)
    for codec in ("raw", "jpeg"):
        began = time.perf_counter()
        folder = ingest(table, root, scratch / "cache", StoreConfig(size=STORED, codec=codec))
        took = time.perf_counter() - began
        clips = open_clips(folder, "train")
        megabytes = sum(file.stat().st_size for file in folder.iterdir()) / rows / 1e6
        print(f"ingest {codec}: {rows / took:.1f} files/s; {megabytes:.1f} MB per clip", file=sys.stderr)
        results[f"{codec} cache, page cache cold (wall clock)"] = cold(
            lambda at=folder: open_clips(at, "train"), folder
        )
        results[f"{codec} cache, page cache warm"] = rate(with_cache(clips), arguments.seconds)
    try:
        results["ray.data.read_videos"] = with_ray(paths[:2], arguments.seconds)
    except Exception as error:  # it needs packages that are no dependency of this project
        print(f"ray.data.read_videos: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
    base = results["decord on the fly"]
    print("| source | clips/s per core | speed relative to decord |\n| --- | ---: | ---: |")
    for name, value in results.items():
        print(f"| {name} | {value:,.1f} | {value / base:,.0f} |")
    print("\n| training, raw cache | waiting, of wall time | making batches, of CPU time |\n| --- | ---: | ---: |")
    for frames, width in ((4, 0.125), (8, 0.25), (8, 0.5), (8, 1.0)):
        waited, made = loading_shares(scratch / "motion", frames, width)
        print(f"| {frames} frames, width {width} | {waited:.1%} | {made:.1%} |")
    large = scratch / "million"
    large.mkdir()
    seconds, megabytes = open_million(large)
    print(f"\nA cache of a million clips opens in {seconds:.2f} s and {megabytes:.0f} MB.")
    print(f"Peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB.", file=sys.stderr)


if __name__ == "__main__":
    main()
