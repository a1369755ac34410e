"""Clips a second on one core, by where they come from: 8 frames of 112 pixels, cropped, in batches of 32.

Then how long trainings wait for their clips, and how long a cache of a million takes to open.

    python tests/benchmarks/bench_data.py [--seconds 5] [--files 8]

The files are 320 x 240 H.264 of 10 seconds at 25 frames a second. Times are the CPU's, so that they hold on a machine
that others use too; of a cold page cache the clock's, after the system was asked to drop the cache's files.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import pyarrow as pa
import torch

from vattn.config import ModelConfig, TrainConfig
from vattn.data import open_clips
from vattn.data.cache import Clips, write_index
from vattn.data.cache.format import INDEX_SCHEMA
from vattn.data.config import StoreConfig
from vattn.data.ingest import ingest
from vattn.data.layouts.motion import MotionDataConfig
from vattn.loader import train_batches

FRAMES, SIZE, STORED, BATCH = 8, 112, 128, 32
LENGTH, HEIGHT, WIDTH, RATE = 250, 240, 320, 25

Video = np.ndarray


def footage(path: Path, seed: int) -> None:
    """Write a textured scene that moves behind a few sprites."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(0, 256, (HEIGHT // 8 + 16, WIDTH // 8 + 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    scene = scene // 2 + rng.integers(0, 24, scene.shape, np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23", "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for t in range(LENGTH):
            top, left = (int(32 + 30 * np.sin(t / 25 + phase)) for phase in (0, 2))
            picture = np.ascontiguousarray(scene[top : top + HEIGHT, left : left + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def wanted(rng: np.random.Generator) -> np.ndarray:
    """One frame of each of as many segments."""
    return np.arange(FRAMES) * (LENGTH // FRAMES) + rng.integers(0, LENGTH // FRAMES, FRAMES)


def cropped(frames: Video, rng: np.random.Generator, out: Video) -> None:
    """Scale each frame's shorter side, and copy a random square."""
    from av.video.reformatter import VideoReformatter

    scaler = VideoReformatter()
    width = round(WIDTH * STORED / HEIGHT)
    top, left = int(rng.integers(STORED - SIZE + 1)), int(rng.integers(width - SIZE + 1))
    for picture, place in zip(frames, out, strict=True):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        scaled = scaler.reformat(frame, width, STORED, "rgb24", interpolation="BICUBIC").to_ndarray()
        place[...] = scaled[top : top + SIZE, left : left + SIZE]


def with_decord(paths: list[Path]) -> Iterator[int]:
    """Random access to 8 frames, as data loaders use decord."""
    import decord

    rng, batch = np.random.default_rng(0), np.empty((BATCH, FRAMES, SIZE, SIZE, 3), np.uint8)
    while True:
        for n in range(BATCH):
            reader = decord.VideoReader(str(paths[n % len(paths)]), num_threads=1)
            cropped(reader.get_batch(wanted(rng).tolist()).asnumpy(), rng, batch[n])
            yield 1


def with_pyav(paths: list[Path]) -> Iterator[int]:
    """The whole file in order, of which 8 frames are converted."""
    rng, batch = np.random.default_rng(0), np.empty((BATCH, FRAMES, SIZE, SIZE, 3), np.uint8)
    while True:
        for n in range(BATCH):
            chosen, frames = set(wanted(rng).tolist()), []
            with av.open(str(paths[n % len(paths)])) as container:
                container.streams.video[0].thread_type = "NONE"
                for t, frame in enumerate(container.decode(video=0)):
                    if t in chosen:
                        frames.append(frame.to_ndarray(format="rgb24"))
            cropped(np.stack(frames), rng, batch[n])
            yield 1


def with_cache(clips: Clips) -> Iterator[int]:
    """Batches as a training gets them."""
    backbone = {"kind": "resnet", "depth": 10}
    model = ModelConfig.parse({"frames": FRAMES, "size": SIZE, "backbone": backbone})
    train = TrainConfig.parse({"epochs": 1, "batch": BATCH, "lr": 0.1})
    epoch = 0
    while True:
        for images, _ in train_batches(clips, MotionDataConfig(), model, train, epoch):
            yield len(images)
        epoch += 1


def rate(clips: Iterator[int], seconds: float, clock: Callable[[], float] = time.process_time) -> float:
    """Return clips a second, without the first."""
    next(clips)
    began, done = clock(), 0
    while clock() - began < seconds:
        done += next(clips)
    return done / (clock() - began)


def with_ray(paths: list[Path], seconds: float) -> float:
    """Clips a second of a core by `ray.data.read_videos`, whose rows are frames; 250 rows are a clip."""
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


def cold(clips: Callable[[], Clips], folder: Path) -> float:
    """Clips a second by the clock, of which none is in memory: each read once."""
    os.sync()
    for file in folder.glob("*.arrow"):
        with file.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    opened = clips()
    reading, began, done = with_cache(opened), time.perf_counter(), 0
    while done < len(opened) // BATCH * BATCH:
        done += next(reading)
    return done / (time.perf_counter() - began)


def waiting(folder: Path, frames: int, width: float) -> tuple[float, float]:
    """Train ResNet-10 with TAM on the motion set, on one core; return shares of its second epoch.

    The first is of the clock's time, in which the training waited for a batch; the other of the CPU's time, which went
    into making batches: no thread could hide that on a machine without a core to spare.
    """
    import vattn.train
    from vattn.config import TrialConfig
    from vattn.data import prepare
    from vattn.loader import ahead

    config = TrialConfig.parse({
        "data": {"kind": "motion", "train_clips": 40},
        "model": {
            "frames": frames, "size": 48, "backbone": {"kind": "resnet", "depth": 10, "width": width},
            "attention": [{"kind": "tam"}],
        },
        "train": {"epochs": 2, "batch": 32, "lr": 0.1},
    })  # fmt: skip
    waited = made = 0.0

    def making(batches: Iterable[Any]) -> Iterator[Any]:
        nonlocal made
        each, began = iter(batches), time.thread_time()
        while (batch := next(each, None)) is not None:
            made += time.thread_time() - began
            yield batch
            began = time.thread_time()

    def timed(batches: Iterable[Any]) -> Iterator[Any]:
        nonlocal waited
        each, began = ahead(making(batches)), time.perf_counter()
        while (batch := next(each, None)) is not None:
            waited += time.perf_counter() - began
            yield batch
            began = time.perf_counter()

    vattn.train.ahead = timed
    try:
        epochs = vattn.train.fit(config, prepare(config.data, folder), folder / f"{frames}-{width}")
        next(epochs)
        waited, made, clock, cpu = 0.0, 0.0, time.perf_counter(), time.process_time()
        next(epochs)
        return waited / (time.perf_counter() - clock), made / (time.process_time() - cpu)
    finally:
        vattn.train.ahead = ahead


def million(folder: Path) -> tuple[float, float]:
    """Return the seconds and megabytes that it takes to open a cache of a million clips, in a process of its own."""
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--files", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "files"
        root.mkdir()
        paths = [root / f"{number}.mp4" for number in range(arguments.files)]
        for number, path in enumerate(paths):
            footage(path, number)
        rows, copies = 64, []
        table = pa.table({
            "path": [paths[i % len(paths)].name for i in range(rows)], "label": pa.array([0] * rows, pa.int32()),
            "split": ["train"] * rows,
        })  # fmt: skip
        for i in range(rows - len(paths)):  # as many files as rows, so that a cold read is one of the disk
            copies.append(root / f"copy{i}.mp4")
            os.link(paths[i % len(paths)], copies[-1])
        table = table.set_column(0, "path", pa.array([path.name for path in [*paths, *copies]]))
        results: dict[str, float] = {}
        results["decord on the fly"] = rate(with_decord(paths), arguments.seconds)
        results["PyAV on the fly"] = rate(with_pyav(paths), arguments.seconds)
        for codec in ("raw", "jpeg"):
            began = time.perf_counter()
            folder = ingest(table, root, Path(scratch) / "cache", StoreConfig(size=STORED, codec=codec))
            took = time.perf_counter() - began
            clips = open_clips(folder, "train")
            taken = sum(file.stat().st_size for file in folder.iterdir()) / rows / 1e6
            print(f"ingest {codec}: {rows / took:.1f} files/s; {taken:.1f} MB a clip", file=sys.stderr)
            results[f"{codec} cache, page cache cold (by the clock)"] = cold(
                lambda at=folder: open_clips(at, "train"), folder
            )
            results[f"{codec} cache, page cache warm"] = rate(with_cache(clips), arguments.seconds)
        try:
            results["ray.data.read_videos"] = with_ray(paths[:2], arguments.seconds)
        except Exception as error:  # what it needs is not a dependency of this project
            print(f"ray.data.read_videos: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        base = results["decord on the fly"]
        print("| source | clips/s a core | times decord |\n| --- | ---: | ---: |")
        for name, value in results.items():
            print(f"| {name} | {value:,.1f} | {value / base:,.0f} |")
        print("\n| training, raw cache | waits, by the clock | makes batches, of its CPU time |\n| --- | ---: | ---: |")
        for frames, width in ((4, 0.125), (8, 0.25), (8, 0.5), (8, 1.0)):
            waited, made = waiting(Path(scratch) / "motion", frames, width)
            print(f"| {frames} frames, width {width} | {waited:.1%} | {made:.1%} |")
        large = Path(scratch) / "million"
        large.mkdir()
        seconds, megabytes = million(large)
        print(f"\nA cache of a million clips opens in {seconds:.2f} s and {megabytes:.0f} MB.")
        print(f"Peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB.", file=sys.stderr)


if __name__ == "__main__":
    main()
