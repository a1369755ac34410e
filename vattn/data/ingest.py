"""From video files to the clip cache: each file is decoded once, and an interrupted ingest goes on where it stopped."""

import json
import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from vattn.base import identity
from vattn.data import workers
from vattn.data.cache.format import CONCEALED, COUNTED, INDEX, READER, VERSION, Location, Origin, StoredClip
from vattn.data.cache.index import is_cache, locations, read_failures, read_otherwise
from vattn.data.cache.writer import CacheWriter
from vattn.data.config import Progress, StoreConfig
from vattn.data.decode import ImageFolder, UnreadableFileError, decode_video, read_images
from vattn.data.decode.sequence import FrameFiles, Modality, is_litter
from vattn.errors import UserError
from vattn.files import digest, locked, writing

log = logging.getLogger(__name__)

#: File in a cache folder that is being written: the files that could not be read so far.
FAILED = "failed.jsonl"
#: Longest time for one file, seconds.
TIME_LIMIT = 600.0


class Job(NamedTuple):
    """One clip to read: a file or a folder of images, and its range of frames."""

    path: str
    first: int = -1
    """-1: the first that exists; `COUNTED`"""
    last: int = -1
    """inclusive; -1: the last that exists; with `COUNTED` the number of frames"""


#: The clips of one file, which is decoded once for all of them.
Jobs = tuple[Job, ...]
#: Rows of a manifest: (label, split) and the job of each.
Rows = Sequence[tuple[tuple[int, str], Job]]


class Plan(NamedTuple):
    """A clip cache that is to be made: what it holds, how, and where."""

    rows: Rows
    root: Path
    store: StoreConfig
    modality: Modality
    prefix: str
    states: Mapping[str, tuple[int, int]]
    """size in bytes and time of the last change of each file"""
    folder: Path
    """the complete cache"""
    part: Path
    """the cache while it is made"""


#: Yields each item of a sequence of jobs with its result or failure, as `vattn.data.workers.run` does.
Run = Callable[..., Iterator[tuple[Jobs, Any]]]


def ingest(
    manifest: pa.Table,
    root: Path,
    cache: Path,
    store: StoreConfig,
    jobs: int | Literal["auto"] = "auto",
    progress: Progress | None = None,
    time_limit: float = TIME_LIMIT,
    modality: Modality = "rgb",
    run: Run = workers.run,
    test: bool = True,
    prefix: str = "auto",
) -> Path:
    """Decode the files of a manifest into a clip cache, and return the folder for `open_clips`.

    The name of the folder is a hash of everything that it depends on: the manifest, the sizes and modification times of
    the files, ``store`` and ``modality``. If the folder exists, it is returned at once; otherwise it appears when it is
    complete. Clips that an earlier call has decoded, even one that was killed, are taken over if their files are still
    the same.

    A file that cannot be read is listed in ``failures.jsonl`` with the reason, a file with concealed damage in
    ``concealed.jsonl``, and the ingest goes on: `vattn.data.faults.check` says whether there are too many.

    Args:
        manifest: one row for each clip, see `DataConfig.manifest`.
        root: folder of the files.
        cache: folder in which the folder of this cache is made.
        store: size, number and codec of the stored frames.
        jobs: files that are read at the same time; auto: one for each processor core.
        progress: called after each clip.
        time_limit: longest time for one file, seconds.
        modality: whether folders hold RGB images or optical flow.
        run: runs a function over many jobs; `cluster.ingest.run` does so on a Ray cluster.
        test: whether to decode the test split. Without it, a cache that has all splits is still returned if it exists.
        prefix: of the images in folders, see `vattn.data.decode.ImageFolder`.

    Raises:
        UserError: no file can be read, or ``cache`` is a file.
        StorageError: the disk is full; the next call goes on with what was decoded.
    """
    return execute(planned(manifest, root, cache, store, modality, test, prefix), progress, jobs, time_limit, run)


def execute(
    plan: Plan,
    progress: Progress | None = None,
    jobs: int | Literal["auto"] = "auto",
    time_limit: float = TIME_LIMIT,
    run: Run = workers.run,
) -> Path:
    """Make the cache of a plan, and return its folder. Arguments and errors are those of `ingest`."""
    if not is_cache(plan.folder):
        with locked(plan.folder.parent):
            if not is_cache(plan.folder):
                plan.part.mkdir(exist_ok=True)
                (plan.part / INDEX).unlink(missing_ok=True)
                folders = partial(ImageFolder, modality=plan.modality, prefix=plan.prefix)
                read = partial(_read, plan.root, plan.store, plan.modality, folders)
                processes = workers.cores() if jobs == "auto" else jobs
                _write(plan, folders, progress, lambda clips: run(read, clips, processes, time_limit))
                plan.part.rename(plan.folder)
    if damaged := read_failures(plan.folder, CONCEALED):
        files = len({job.path for _, job in plan.rows})
        what = "are damaged or incomplete, and used as they are"
        log.warning("%d of %d files %s; %s says why", len(damaged), files, what, plan.folder / CONCEALED)
    earlier, which = read_otherwise(plan.folder)
    if earlier:
        log.warning(
            "%d clips of %s were decoded by an earlier version, which read some files in another way (%s); they are "
            "used; if there are such files, remove the folders %s-* beside it to decode all anew",
            earlier, plan.folder, which, plan.folder.name.partition("-")[0],
        )  # fmt: skip
    return plan.folder


def planned(
    manifest: pa.Table,
    root: Path,
    cache: Path,
    store: StoreConfig,
    modality: Modality = "rgb",
    test: bool = True,
    prefix: str = "auto",
) -> Plan:
    """Return what `ingest` makes, and where. The arguments are those of `ingest`."""
    rows = rows_of(manifest)
    states = {path: _state(os.path.join(root, path)) for path in {job.path for _, job in rows}}  # noqa: PTH118
    way = made_by(store, modality, prefix)

    def folder_of(rows: Rows) -> Path:
        return cache / f"{way}-{identity([[*row, *job, *states[job.path]] for row, job in rows])}"

    folder = part = folder_of(rows)
    if not is_cache(folder):
        # Named after the clips of all splits: calls with and without the test split continue each other's work.
        clips = sorted({job for _, job in rows})
        part = cache / f"{way}-{identity([str(root.resolve()), clips])}.part"
        if not test:
            rows = [row for row in rows if row[0][1] != "test"]
            folder = folder_of(rows)
    return Plan(rows, root, store, modality, prefix, states, folder, part)


def made_by(store: StoreConfig, modality: Modality, prefix: str = "auto") -> str:
    """Return the beginning of the names of all caches that are made in this way."""
    way = {"version": VERSION, "store": store.canonical().identity_tree(), "modality": modality}
    return identity(way if prefix == "auto" else way | {"prefix": prefix})[:8]


def rows_of(manifest: pa.Table) -> Rows:
    """Return the rows of a manifest, see `DataConfig.manifest`."""
    columns = {name: manifest[name].to_pylist() for name in manifest.column_names}
    nulls = [None] * len(manifest)
    clips = zip(columns["path"], *(columns.get(name, nulls) for name in ("first", "last", "frames")), strict=True)
    labels = zip(columns["label"], columns["split"], strict=True)
    return [(row, _job(*clip)) for row, clip in zip(labels, clips, strict=True)]


def _job(path: str, first: int | None, last: int | None, frames: int | None) -> Job:
    if frames is not None and last is not None:
        return Job(path, COUNTED, frames)
    return Job(path, -1 if first is None else first, -1 if last is None else last)


def _state(path: str | Path) -> tuple[int, int]:
    """Return (size in bytes, modification time in nanoseconds) of a file; (-1, -1) if there is none."""
    try:
        stat = os.stat(path)  # noqa: PTH116  # pathlib is slower, and there may be a million files
    except OSError:
        return (-1, -1)
    return stat.st_size, stat.st_mtime_ns


def _write(
    plan: Plan,
    folders: Callable[[Path], ImageFolder],
    progress: Progress | None,
    run: Callable[[Sequence[Jobs]], Iterator[tuple[Jobs, Any]]],
) -> None:
    """Fill the folder ``plan.part``: reuse what is decoded already, and decode the rest."""
    rows, states, root, folder, store = plan.rows, plan.states, plan.root, plan.part, plan.store
    clips = list(dict.fromkeys(job for _, job in rows))
    with writing(folder, "make room and call again: it goes on"):
        writer = CacheWriter(folder, codec=store.codec)
        done = _reused(clips, states, root, writer, folders)
        earlier = _earlier_failures(folder, states)
        failures = {job: earlier[job] for job in clips if job in earlier}
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
                    if progress is not None:
                        progress("ingest", len(done) + len(failures), len(clips))
        if clips and not done:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
            raise UserError(
                f"none of its {len(clips)} files could be read",
                file=root,
                way_out=f"the first, {clips[0].path}: {failures[clips[0]]}",
            )
        for position, ((label, split), job) in enumerate(rows):
            if job in done:
                writer.index(position, label, split, done[job])
        writer.finish([{"path": job.path, "reason": failures[job]} for job in clips if job in failures])
        (folder / FAILED).unlink()


def _reused(
    clips: Iterable[Job],
    states: Mapping[str, tuple[int, int]],
    root: Path,
    writer: CacheWriter,
    folders: Callable[[Path], ImageFolder],
) -> dict[Job, Location]:
    """Return the clips that need not be decoded: this folder, or a complete cache made in the same way, has them."""
    sources: list[tuple[Path | None, dict[tuple[str, int, int], Location]]] = [(None, writer.existing)]
    for folder in sorted(writer.folder.parent.glob(writer.folder.name[:8] + "-*")):
        if folder != writer.folder and is_cache(folder):
            try:
                sources.append((folder, locations(folder)))
            except UserError as error:
                log.warning("%s", error)
    done: dict[Job, Location] = {}
    names: dict[Path, str] = {}
    for job in clips:
        size, modified = states[job.path]
        for source, stored in sources:
            location = stored.get(job) or _numbered_from_1(job, stored, root, folders)
            if location is None or location.origin.size != size:
                continue
            if location.origin.modified != modified:
                if _digest(root / job.path) != location.origin.digest:
                    continue
                location = location._replace(origin=location.origin._replace(modified=modified))
            done[job] = writer.link(source, location, names) if source else location
            break
    return done


def _numbered_from_1(
    job: Job, stored: dict[tuple[str, int, int], Location], root: Path, folders: Callable[[Path], ImageFolder]
) -> Location | None:
    """Return where a cache has the first frames of a folder as those from 1 on, as earlier versions took them."""
    location = stored.get((job.path, 1, job.last)) if job.first == COUNTED else None
    if location is None:
        return None
    try:
        images = folders(root / job.path)
        files = images.clip(COUNTED, job.last)
        if images.clip(1, job.last) != files:
            return None
    except (OSError, UnreadableFileError):
        return None
    return location._replace(origin=location.origin._replace(first=COUNTED, length=_length(images, files, job)))


def _length(images: ImageFolder, files: Sequence[FrameFiles], job: Job) -> int:
    """Return the number of frames of a clip; if its list states it, all that the folder has in place of those."""
    return len(images) if job.first == COUNTED and len(files) == job.last else len(files)


def _earlier_failures(folder: Path, states: Mapping[str, tuple[int, int]]) -> dict[Job, str]:
    """Return the failures that an interrupted call recorded for files that are still the same, with the reasons."""
    if not (folder / FAILED).is_file():
        return {}
    failures = {}
    for line in (folder / FAILED).read_text(encoding="utf-8").splitlines():
        try:
            path, first, last, size, modified, reason = json.loads(line)
        except ValueError:
            continue  # the call was interrupted while it wrote this line
        if states.get(path) == (size, modified):
            failures[Job(path, first, last)] = reason
    return failures


def read_clip(path: Path, store: StoreConfig, modality: Modality = "rgb", prefix: str = "auto") -> StoredClip:
    """Return a video, or a folder of images, as a clip cache stores it. Raises UnreadableFileError."""
    folders = partial(ImageFolder, modality=modality, prefix=prefix)
    (clip,) = _read(path.parent, store, modality, folders, (Job(path.name),))
    if isinstance(clip, workers.Failure):
        raise UnreadableFileError(clip.reason)
    return clip[0]


def _read(
    root: Path,
    store: StoreConfig,
    modality: Modality,
    folders: Callable[[Path], ImageFolder],
    jobs: Jobs,
) -> list[tuple[StoredClip, Origin] | workers.Failure]:
    """Decode the clips of one file; return each clip with its origin, or the reason why it has none.

    Raises UnreadableFileError if the file as a whole cannot be decoded.
    """
    path = root / jobs[0].path
    state = _state(path)
    rate, times = 0.0, ()
    if path.is_dir():
        images = folders(path)

        def frames_of(job: Job) -> tuple[list[Any], int, str]:
            files, damaged = images.clip(job.first, job.last), list[str]()
            frames = read_images(files, store, damaged)
            notes = [f"{len(damaged)} damaged images, the first: {damaged[0]}"] if damaged else []
            # Where a list states the number of frames, it is compared with theirs.
            notes += [gaps] if job.last < 0 and (gaps := images.gaps(files)) else []
            return frames, _length(images, files, job), "; ".join(notes)
    elif modality == "flow":
        raise UnreadableFileError("has no optical flow: that is a folder of flow_x_NNNNN.jpg and flow_y_NNNNN.jpg")
    else:
        spans = [(max(job.first, 0), math.inf if job.last < 0 else job.last) for job in jobs]
        video, concealed, rate, times = decode_video(
            path, store.size, lambda t: any(first <= t <= last for first, last in spans)
        )

        def frames_of(job: Job) -> tuple[list[Any], int, str]:
            span = video[max(job.first, 0) : job.last + 1 if job.last >= 0 else None]
            frames = [frame for frame in span if frame is not None]
            if span and not frames:
                raise UnreadableFileError(f"all frames from {job.first} on to {job.last} are lost: {concealed}")
            if not frames:
                raise UnreadableFileError(f"has {len(video)} frames, and none from {max(job.first, 0)} on")
            return store.select(frames), len(frames), concealed

    content = _digest(path)
    clips: list[tuple[StoredClip, Origin] | workers.Failure] = []
    for job in jobs:
        try:
            frames, length, damage = frames_of(job)
        except UnreadableFileError as error:
            clips.append(workers.Failure(str(error)))
        else:
            stored = (
                StoredClip.jpeg(frames, store.quality) if store.codec == "jpeg" else StoredClip.raw(np.stack(frames))
            )
            seconds = length / rate if rate else -1.0
            known = times if len(times) == len(frames) + 1 and job == Job(job.path) else ()
            clips.append((stored, Origin(*job, *state, content, damage, length, seconds, READER, known)))
    return clips


def _digest(path: Path) -> str:
    """Return the hash of a file's content, or of all files in a folder."""
    files = [path]
    if path.is_dir():
        with os.scandir(path) as entries:  # without a system call for each file, as pathlib needs
            names = [entry.name for entry in entries if entry.is_file() and not is_litter(entry.name)]
        files = [path / name for name in sorted(names)]
    return digest(*files)
