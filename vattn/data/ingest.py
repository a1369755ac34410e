"""From video files to the clip cache: every file is decoded once, in order, as a whole. The one place of decord.

Random access is not to be trusted: in some AVI and edit-list MP4 files decord returns frames it was not asked for.
Where it says anything about a file, or finds another number of frames than the file has, PyAV decodes it instead.
"""

import hashlib
import json
import logging
import math
import os
import random
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from vattn.base import identity
from vattn.data import workers
from vattn.data._base import Progress, StoreConfig
from vattn.data.cache import (
    CONCEALED,
    FAILURES,
    INDEX,
    VERSION,
    CacheWriter,
    Frame,
    Origin,
    Place,
    Stored,
    Video,
    is_cache,
    places,
    read_failures,
)
from vattn.files import locked, writing

log = logging.getLogger(__name__)

#: A file with fewer of the frames that it announces was cut off. Some lack one or two as their writers left them.
WHOLE = 0.9
#: Of the formats that decord can open, those in which it neither stalls nor skips.
DECORD = ("mov", "avi", "matroska")
#: Raw frames take so many times what JPEG takes: on real footage 7 times at 80 pixels, 9.5 at 128, 15 at 240.
JPEG_SHARE = 9
#: So many files are looked at to predict the size of a cache.
SAMPLE = 32
#: In a folder that is being written: the files that could not be read so far.
FAILED = "failed.jsonl"

Modality = Literal["rgb", "flow"]


class Job(NamedTuple):
    """One clip to read: a file or a folder of frames, and the frames of it (-1: the first, the last there is)."""

    path: str
    first: int = -1
    last: int = -1


#: Clips of one file, which is decoded once for all of them.
Jobs = tuple[Job, ...]
#: Of a manifest: (label, split) of each row, and its job.
Rows = Sequence[tuple[tuple[int, str], Job]]
#: Yields each of many jobs with its result or failure, as `vattn.data.workers.run` does.
Run = Callable[..., Iterator[tuple[Jobs, Any]]]


def ingest(
    manifest: pa.Table,
    root: Path,
    cache: Path,
    store: StoreConfig,
    jobs: int | Literal["auto"] = "auto",
    progress: Progress | None = None,
    time_limit: float = 600.0,
    modality: Modality = "rgb",
    run: Run = workers.run,
    test: bool = True,
) -> Path:
    """Decode the files of ``manifest`` (see `DataConfig.manifest`) below ``cache``; return the folder to open.

    The folder is named after all that it depends on: the manifest, the files' sizes and times of change, and ``store``.
    Where it exists it is returned at once; else it appears when it is complete. Without ``test`` that split is left
    out, unless there is a folder with all. What an earlier call, even a killed one, has decoded of files that are still
    the same is taken over. A file that cannot be read within ``time_limit`` seconds is listed in failures.jsonl, one
    with concealed damage in concealed.jsonl, and the rest goes on. ``run`` works on ``jobs`` files at a time. Raises
    ValueError where none can be read, OSError where the disk is full; what was decoded then waits for the next call.
    """
    rows = _rows(manifest)
    states = {path: _state(os.path.join(root, path)) for path in {job.path for _, job in rows}}  # noqa: PTH118
    made_by = identity({"version": VERSION, "store": store.tree(), "modality": modality})[:8]

    def folder_of(rows: Rows) -> Path:
        return cache / f"{made_by}-{identity([[*row, *job, *states[job.path]] for row, job in rows])}"

    every, folder = rows, folder_of(rows)
    if not test and not is_cache(folder):
        rows = [row for row in rows if row[0][1] != "test"]
        folder = folder_of(rows)
    if not is_cache(folder):
        with locked(cache):
            if not is_cache(folder):
                clips = sorted({job for _, job in every})  # of all, so that either goes on with what the other began
                part = cache / f"{made_by}-{identity([str(root.resolve()), clips])}.part"
                part.mkdir(exist_ok=True)
                (part / INDEX).unlink(missing_ok=True)
                read = partial(_read, root, store, modality)
                processes = workers.cores() if jobs == "auto" else jobs
                _write(rows, states, root, part, store, progress, lambda clips: run(read, clips, processes, time_limit))
                part.rename(folder)
    for name, what in ((FAILURES, "could not be read"), (CONCEALED, "are damaged, which their decoder concealed")):
        if listed := read_failures(folder, name):
            files = len({job.path for _, job in rows})
            log.warning("%d of %d files %s; %s says why", len(listed), files, what, folder / name)
    return folder


def predicted_bytes(manifest: pa.Table, root: Path, store: StoreConfig) -> int:
    """Return about how large the cache of ``manifest`` will be, from the headers of some of its files."""
    jobs = sorted({job for _, job in _rows(manifest)})
    sizes = []
    for job in random.Random(0).sample(jobs, min(SAMPLE, len(jobs))):
        try:
            frames, height, width = _header(root / job.path)
        except (OSError, ValueError):
            continue  # the ingest says what is wrong with it
        if job.last >= 0:
            frames = job.last - max(job.first, 0) + 1
        if store.frames != "all":
            frames = min(frames, store.frames)
        sizes.append(frames * height * width * 3 * (store.size / min(height, width)) ** 2)
    share = JPEG_SHARE if store.codec == "jpeg" else 1
    return round(sum(sizes) / max(len(sizes), 1) * len(jobs) / share)


def read_video(path: Path, size: int) -> Video:
    """Return all frames of a file, RGB, upright, the shorter side scaled to ``size`` pixels.

    decord decodes; PyAV does where decord is not installed or not to be trusted, and its word is final: raises
    ValueError with the reason why the file cannot be read.
    """
    return np.stack(_video(path, size, lambda t: True)[0])


def _rows(manifest: pa.Table) -> Rows:
    columns = {name: manifest[name].to_pylist() for name in manifest.column_names}
    whole = [None] * len(manifest)
    jobs = zip(columns["path"], columns.get("first", whole), columns.get("last", whole), strict=True)
    labels = zip(columns["label"], columns["split"], strict=True)
    return [
        (row, Job(path, -1 if first is None else first, -1 if last is None else last))
        for row, (path, first, last) in zip(labels, jobs, strict=True)
    ]


def _state(path: str | Path) -> tuple[int, int]:
    try:
        stat = os.stat(path)  # noqa: PTH116  # a million times
    except OSError:
        return (-1, -1)
    return stat.st_size, stat.st_mtime_ns


def _write(
    rows: Rows,
    states: dict[str, tuple[int, int]],
    root: Path,
    folder: Path,
    store: StoreConfig,
    progress: Progress | None,
    run: Callable[[Sequence[Jobs]], Iterator[tuple[Jobs, Any]]],
) -> None:
    clips = list(dict.fromkeys(job for _, job in rows))
    with writing(folder, "make room and call again: it goes on"):
        writer = CacheWriter(folder, codec=store.codec)
        done = _taken_over(clips, states, root, writer)
        before = _failed_before(folder, states)
        failures = {job: before[job] for job in clips if job in before}
        files: dict[str, list[Job]] = defaultdict(list)
        for job in clips:
            if job not in done and job not in failures:
                files[job.path].append(job)
        with (folder / FAILED).open("a", encoding="utf-8") as failed:
            for jobs, outcome in run([tuple(jobs) for jobs in files.values()]):
                each: Sequence[Any] = [outcome] * len(jobs) if isinstance(outcome, workers.Failure) else outcome
                for job, clip in zip(jobs, each, strict=True):
                    if isinstance(clip, workers.Failure):
                        failures[job] = clip.reason
                        failed.write(json.dumps([*job, *states[job.path], clip.reason]) + "\n")
                        failed.flush()
                    else:
                        done[job] = writer.store(*clip)
                    if progress:
                        progress("ingest", len(done) + len(failures), len(clips))
        if clips and not done:
            first = f"; the first, {clips[0].path}: {failures[clips[0]]}"
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
            raise ValueError(f"{root}: none of its {len(clips)} files could be read{first}")
        for position, ((label, split), job) in enumerate(rows):
            if job in done:
                writer.index(position, label, split, done[job])
        writer.finish([{"path": job.path, "reason": failures[job]} for job in clips if job in failures])
        (folder / FAILED).unlink()


def _taken_over(
    clips: Iterable[Job], states: dict[str, tuple[int, int]], root: Path, writer: CacheWriter
) -> dict[Job, Place]:
    """Return what need not be decoded: what this folder has, and complete caches with frames made in the same way."""
    sources: list[tuple[Path | None, dict[tuple[str, int, int], Place]]] = [(None, writer.found)]
    for other in sorted(writer.folder.parent.glob(writer.folder.name[:8] + "-*")):
        if other != writer.folder and is_cache(other):
            try:
                sources.append((other, places(other)))
            except ValueError as error:
                log.warning("%s", error)
    done: dict[Job, Place] = {}
    names: dict[Path, str] = {}
    for job in clips:
        size, modified = states[job.path]
        for source, found in sources:
            place = found.get(job)
            if place is None or place.origin.size != size:
                continue
            if place.origin.modified != modified:
                if _digest(root / job.path) != place.origin.digest:
                    continue
                place = place._replace(origin=place.origin._replace(modified=modified))
            done[job] = writer.borrow(source, place, names) if source else place
            break
    return done


def _failed_before(folder: Path, states: dict[str, tuple[int, int]]) -> dict[Job, str]:
    """Return why files that are still the same could not be read by the call that was interrupted."""
    if not (folder / FAILED).is_file():
        return {}
    failures = {}
    for line in (folder / FAILED).read_text(encoding="utf-8").splitlines():
        try:
            path, first, last, size, modified, reason = json.loads(line)
        except ValueError:
            continue  # it was being written
        if states.get(path) == (size, modified):
            failures[Job(path, first, last)] = reason
    return failures


def _read(
    root: Path, store: StoreConfig, modality: Modality, jobs: Jobs
) -> list[tuple[Stored, Origin] | workers.Failure]:
    """Return the clips of one file, each with what it is of, or why there is none."""
    path = root / jobs[0].path
    state = _state(path)
    damage = ""
    if path.is_dir():
        chosen = partial(_folder, path, store, modality)
    elif modality == "flow":
        raise ValueError("has no optical flow: that is a folder of flow_x_NNNNN.jpg and flow_y_NNNNN.jpg")
    else:
        spans = [(max(job.first, 0), math.inf if job.last < 0 else job.last) for job in jobs]
        video, damage = _video(path, store.size, lambda t: any(first <= t <= last for first, last in spans))

        def chosen(job: Job) -> list[Any]:
            frames = _kept(video[max(job.first, 0) : job.last + 1 if job.last >= 0 else None], store)
            if not frames:
                raise ValueError(f"has no frames from {max(job.first, 0)} on")
            return frames

    digest = _digest(path)
    read: list[tuple[Stored, Origin] | workers.Failure] = []
    for job in jobs:
        try:
            frames = chosen(job)
        except ValueError as error:
            read.append(workers.Failure(str(error)))
        else:
            stored = Stored.jpeg(frames) if store.codec == "jpeg" else Stored.raw(np.stack(frames))
            read.append((stored, Origin(*job, *state, digest, damage)))
    return read


def _kept(frames: Sequence[Any], store: StoreConfig) -> list[Any]:
    """Return the frames that a cache keeps: all, or those in the middle of as many equal parts."""
    if store.frames == "all" or len(frames) <= store.frames:
        return list(frames)
    return [frames[(2 * i + 1) * len(frames) // (2 * store.frames)] for i in range(store.frames)]


def _digest(path: Path) -> str:
    """Return the hash of what is in a file, or in all files of a folder."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with file.open("rb") as data:
            while chunk := data.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:32]


# --- videos


def _video(path: Path, size: int, wanted: Callable[[int], bool]) -> tuple[list[Any], str]:
    """Return the frames of a file, None for each that is not wanted, and what is wrong with them."""
    from av.error import FFmpegError

    try:
        stream = _look_through(path)
        if stream.plain:
            try:
                with _silenced() as said:
                    frames = _scaled(_decord_frames(path), size, wanted)
                if len(frames) == stream.frames and not said and not stream.damage:
                    return frames, ""
                log.debug("%s: decord: %d of %d frames; %s", path, len(frames), stream.frames, said)
            except Exception as error:  # decord reports one fault as any of several types, and has no common one
                log.debug("%s: decord: %s", path, error)
        faults = [stream.damage] if stream.damage else []
        frames = _scaled(_pyav_frames(path, faults), size, wanted)
    except FFmpegError as error:
        raise ValueError(error.strerror) from error
    if faults and len(frames) < WHOLE * stream.frames:
        raise ValueError(f"only {len(frames)} of {stream.frames} frames can be decoded: {faults[0]}")
    return frames, f"{len(faults)} faults, the first: {faults[0]}" if faults else ""


class _Stream(NamedTuple):
    """What the packets of a file tell."""

    frames: int
    plain: bool
    """whether decord may try"""
    damage: str


def _look_through(path: Path) -> _Stream:
    """Raise ValueError if the file lacks frames that it announces: decoders take the end of the file for the end."""
    import av

    with _faults() as faults, av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("has no video stream")
        stream = container.streams.video[0]
        name = container.format.name
        # 0 where the format does not announce any. An edit list leaves frames out.
        announced = min(stream.frames, len(stream.index_entries)) if name.startswith("mov") else stream.frames
        packets = shown = 0
        end = 0.0
        for packet in container.demux(stream):
            packets += packet.size > 0
            shown += packet.size > 0 and not packet.is_discard
            if packet.pts is not None and packet.time_base is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packets < WHOLE * announced:
            raise ValueError(f"is cut off: has {packets} of {announced} frames")
        # Sound may be longer than the pictures.
        length = (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0
        if not announced and end - (container.start_time or 0) / av.time_base < WHOLE * length:
            raise ValueError(f"is cut off: has {end:.1f} of {length:.1f} seconds")
        plain = name.startswith(DECORD) and stream.codec_context.name not in ("libdav1d", "av1", "libaom-av1")
    return _Stream(shown, plain, faults[0] if faults else "")


def _decord_frames(path: Path) -> Iterator[Frame]:
    import decord

    decord.logging.set_level(decord.logging.ERROR)
    reader = decord.VideoReader(str(path), num_threads=1)
    for _ in range(len(reader)):
        frame = reader.next().asnumpy()
        # In pictures 16, 24, 48 or 72 pixels wide decord takes the padding of its rows for a fourth colour.
        if frame.shape[2] != 3:
            raise ValueError(f"pixels of {frame.shape[2]} colours")
        yield frame


def _pyav_frames(path: Path, faults: list[str]) -> Iterator[Frame]:
    """Yield all frames that can be decoded; what the decoder says of them goes to ``faults``."""
    import av

    with _faults() as said, av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for frame in container.decode(stream):
            if frame.is_corrupt:
                said.append("a frame is damaged")
            # Phones note how they were held; decord turns the frames by itself.
            yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
    faults += said


@contextmanager
def _faults() -> Iterator[list[str]]:
    """Collect what FFmpeg, as PyAV has it, reports as errors."""
    import av.logging

    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    faults: list[str] = []
    try:
        with av.logging.Capture() as said:
            yield faults
        # From the front: the first is what the rest follows from.
        faults[:0] = [text.strip() for level, _, text in said if level <= av.logging.ERROR]
    finally:
        av.logging.set_level(before)


@contextmanager
def _silenced() -> Iterator[list[str]]:
    """Collect what is written to standard error: it is the only place where decord tells of damage."""
    said: list[str] = []
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said += file.read(1 << 16).decode(errors="replace").splitlines()


def _scaled(frames: Iterable[Frame], size: int, wanted: Callable[[int], bool] = lambda t: True) -> list[Any]:
    """Return the frames with their shorter side scaled to ``size``, None for each that is not wanted."""
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

    scaler, kept, shape = VideoReformatter(), [], None
    for t, frame in enumerate(frames):
        if not wanted(t):
            kept.append(None)
            continue
        height, width = frame.shape[:2]
        if min(height, width) != size:
            height, width = (round(side * size / min(frame.shape[:2])) for side in (height, width))
            whole = VideoFrame.from_ndarray(frame, format="rgb24")
            # Swscale widens its kernel where it scales down, so that fine texture does not turn into flicker.
            frame = scaler.reformat(whole, width, height, "rgb24", interpolation="BICUBIC").to_ndarray()
        shape = shape or frame.shape
        if shape != frame.shape:
            raise ValueError(f"changes its size from {shape[1::-1]} to {frame.shape[1::-1]} pixels")
        kept.append(frame)
    if not kept:
        raise ValueError("has no frames")
    return kept


def _header(path: Path) -> tuple[int, int, int]:
    """Return about how many frames a file has, and their height and width."""
    import av

    if path.is_dir():
        files = list(_numbered(path, ""))
        if not files:
            raise ValueError("has no frames")
        width, height = _image(files[0][1]).size
        return len(files), height, width
    with _opened(path) as (container, stream, rate):
        frames = stream.frames or round((container.duration or 0) / av.time_base * rate)
        return frames, max(stream.height, 1), max(stream.width, 1)


def frame_rate(path: Path) -> float:
    """Return the mean number of frames a second of a video; raises ValueError where its header does not tell."""
    with _opened(path) as (_, _, rate):
        if not rate:
            raise ValueError("tells no frame rate")
        return rate


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any, float]]:
    """Give a file, its video stream, and the frames a second that its header tells, or 0."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError("has no video stream")
            stream = container.streams.video[0]
            yield container, stream, float(stream.average_rate or stream.guessed_rate or 0)
    except FFmpegError as error:
        raise ValueError(error.strerror) from error


# --- folders of frames


def _folder(folder: Path, store: StoreConfig, modality: Modality, job: Job) -> list[Frame | bytes]:
    """Return the frames of a folder: pixels, or JPEG files as they are where the cache keeps such."""

    def chosen(prefix: str) -> list[Path]:
        files = [
            file
            for number, file in _numbered(folder, prefix)
            if number >= job.first and (job.last < 0 or number <= job.last)
        ]
        return _kept(files, store)

    if modality == "rgb":
        frames = [_frame(file, store) for file in chosen("")]
    else:
        frames = [_flow(*pair, store) for pair in zip(chosen("flow_x"), chosen("flow_y"), strict=True)]
    if not frames:
        raise ValueError(f"has no {'' if modality == 'rgb' else 'flow '}frames from {max(job.first, 0)} on")
    if len({shape for shape, _ in frames}) > 1:
        raise ValueError("has frames of different sizes")
    return [frame for _, frame in frames]


def _numbered(folder: Path, prefix: str) -> list[tuple[int, Path]]:
    """Return the images of a folder behind the numbers in their names, in the numbers' order."""
    files = []
    for file in folder.iterdir():
        number = re.search(r"(\d+)$", file.stem)
        flow = file.stem.startswith(("flow_x", "flow_y"))
        image = file.suffix.lower() in (".jpg", ".jpeg", ".png")
        if number and image and flow == bool(prefix) and file.stem.startswith(prefix):
            files.append((int(number[1]), file))
    return sorted(files)


def _image(file: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{file.name}: {error}") from error


def _frame(file: Path, store: StoreConfig) -> tuple[tuple[int, int], Frame | bytes]:
    """Return height and width of an image, and its pixels, or the file as it is where that is what a cache keeps."""
    image, pixels = _decoded(file, "RGB")
    if store.codec == "jpeg" and image.format == "JPEG" and image.mode == "RGB" and min(image.size) == store.size:
        return pixels.shape[:2], file.read_bytes()  # coding it a second time would only lose
    scaled = _scaled([pixels], store.size)[0]
    return scaled.shape[:2], scaled


def _flow(x: Path, y: Path, store: StoreConfig) -> tuple[tuple[int, int], Frame]:
    """Return height and width of a frame of flow, and its two directions as the first two colours."""
    across, down = (_decoded(file, "L")[1] for file in (x, y))
    if across.shape != down.shape:
        raise ValueError(f"{x.name} and {y.name} are of different sizes")
    scaled = _scaled([np.stack([across, down, np.full_like(down, 128)], axis=-1)], store.size)[0]
    return scaled.shape[:2], scaled


def _decoded(file: Path, mode: str) -> tuple[Any, np.ndarray]:
    image = _image(file)
    try:
        return image, np.asarray(image.convert(mode))
    except OSError as error:
        raise ValueError(f"{file.name}: {error}") from error
