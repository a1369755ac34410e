"""From video files to the clip cache: every file is decoded once, in order, as a whole. The one place of decord.

Random access is not to be trusted: in some AVI and edit-list MP4 files decord returns frames it was not asked for.
"""

import logging
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from vattn.base import identity
from vattn.data import workers
from vattn.data._base import Progress, StoreConfig
from vattn.data.cache import FAILURES, VERSION, CacheWriter, Video, is_cache, read_failures
from vattn.data.files import locked

log = logging.getLogger(__name__)

#: A file with fewer of the frames that it announces was cut off. Some lack one or two as their writers left them.
WHOLE = 0.9

Frame = UInt8[np.ndarray, "h w 3"]


def ingest(
    manifest: pa.Table,
    root: Path,
    cache: Path,
    store: StoreConfig,
    jobs: int | Literal["auto"] = "auto",
    progress: Progress | None = None,
    time_limit: float = 600.0,
) -> Path:
    """Decode the files of ``manifest`` (path below ``root``, label, split) below ``cache``; return the folder to open.

    The folder is named after all that it depends on: the manifest, the files' sizes and times of change, and ``store``.
    Where it exists it is returned at once; else it appears when it is complete. A file that cannot be read within
    ``time_limit`` seconds is listed in its failures.jsonl, and the rest goes on. Raises ValueError where none can be.
    """
    folder = cache / _key(manifest, root, store)
    if not is_cache(folder):
        with locked(cache):
            if not is_cache(folder):
                processes = workers.cores() if jobs == "auto" else jobs
                part = folder.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
                part.mkdir()
                try:
                    _write(manifest, root, part, store.size, processes, progress, time_limit)
                    part.rename(folder)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    if failures := read_failures(folder):
        log.warning(
            "%d of %d files could not be read; %s says why; remove the folder to try them again",
            len(failures), len(manifest), folder / FAILURES,
        )  # fmt: skip
    return folder


def _key(manifest: pa.Table, root: Path, store: StoreConfig) -> str:
    """Return the name of the cache of these files in their present state."""
    columns = [manifest[name].to_pylist() for name in ("path", "label", "split")]
    files = [[*row, *_state(root / row[0])] for row in zip(*columns, strict=True)]
    return identity({"version": VERSION, "store": store.tree(), "files": files})


def _state(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (-1, -1)
    return stat.st_size, stat.st_mtime_ns


def _write(
    manifest: pa.Table,
    root: Path,
    folder: Path,
    size: int,
    processes: int,
    progress: Progress | None,
    time_limit: float,
) -> None:
    rows = manifest.select(["path", "label", "split"]).to_pylist()
    writer, failures = CacheWriter(folder), {}
    # Jobs are positions in the manifest: a file may stand there twice.
    jobs = [(position, root / row["path"]) for position, row in enumerate(rows)]
    decoded = workers.run(partial(_read, size), jobs, processes, time_limit)
    for done, ((position, _), outcome) in enumerate(decoded, start=1):
        row = rows[position]
        if isinstance(outcome, workers.Failure):
            failures[position] = {"path": row["path"], "reason": outcome.reason}
        else:
            writer.add(position, row["path"], row["label"], row["split"], outcome)
        if progress:
            progress("ingest", done, len(rows))
    listed = [failure for _, failure in sorted(failures.items())]
    if len(listed) == len(rows):
        first = f"; the first, {listed[0]['path']}: {listed[0]['reason']}" if listed else ""
        raise ValueError(f"{root}: none of its {len(rows)} files could be read{first}")
    writer.finish(listed)


def _read(size: int, job: tuple[int, Path]) -> Video:
    return read_video(job[1], size)


def read_video(path: Path, size: int) -> Video:
    """Return all frames of a file, RGB, the shorter side scaled to ``size`` pixels.

    decord decodes; PyAV does where decord is not installed or fails, and its word is final: raises ValueError with the
    reason why the file cannot be read.
    """
    from av.error import FFmpegError

    try:
        _check_whole(path)
        try:
            return _scaled(_decord_frames(path), size)
        except Exception as error:  # decord reports one fault as any of several types, and has no common one
            log.debug("%s: decord: %s", path, error)
            return _scaled(_pyav_frames(path), size)
    except FFmpegError as error:
        raise ValueError(error.strerror) from error


def _check_whole(path: Path) -> None:
    """Raise ValueError if the file lacks frames that it announces: decoders take the end of the file for the end."""
    import av

    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("has no video stream")
        stream = container.streams.video[0]
        there = sum(packet.size > 0 for packet in container.demux(stream))
        if there < WHOLE * stream.frames:  # 0 where the format does not announce any
            raise ValueError(f"is cut off: has {there} of {stream.frames} frames")


def _decord_frames(path: Path) -> Iterator[Frame]:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    reader = decord.VideoReader(str(path), num_threads=1)
    for _ in range(len(reader)):
        frame = reader.next().asnumpy()
        # In pictures 16, 24, 48 or 72 pixels wide decord takes the padding of its rows for a fourth colour.
        if frame.shape[2] != 3:
            raise ValueError(f"pixels of {frame.shape[2]} colours")
        yield frame


def _pyav_frames(path: Path) -> Iterator[Frame]:
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for frame in container.decode(stream):
            yield frame.to_ndarray(format="rgb24")


def _scaled(frames: Iterator[Frame], size: int) -> Video:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

    scaler, kept = VideoReformatter(), []
    for frame in frames:
        height, width = frame.shape[:2]
        if min(height, width) != size:
            height, width = (round(side * size / min(frame.shape[:2])) for side in (height, width))
            whole = VideoFrame.from_ndarray(frame, format="rgb24")
            # Swscale widens its kernel where it scales down, so that fine texture does not turn into flicker.
            frame = scaler.reformat(whole, width, height, "rgb24", interpolation="BICUBIC").to_ndarray()
        kept.append(frame)
    if not kept:
        raise ValueError("has no frames")
    return np.stack(kept)
