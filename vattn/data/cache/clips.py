"""Reads clips from a clip cache; raw frames are read without a copy."""

import ctypes
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from struct import unpack_from
from threading import Lock

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64, UInt8, UInt64
from simplejpeg import decode_jpeg
from xxhash import xxh3_64_intdigest

from vattn.data.cache.format import FAILURES, FRAME_FIELDS, Frame, Video
from vattn.data.cache.index import read_index
from vattn.data.names import clip_name
from vattn.errors import UserError

#: (ends, pixels, checks) of one clip, as in `StoredClip`.
_Buffers = tuple[Int64[np.ndarray, " ends"], UInt8[np.ndarray, " bytes"], UInt64[np.ndarray, " t"]]
#: Advice that reads a part of a file and waits, from Linux 5.14 on (MADV_POPULATE_READ).
_POPULATE = 22
#: A record batch in the footer of an Arrow file: where its metadata begins, and how long these and its data are, bytes.
_BLOCK = np.dtype([("start", "<i8"), ("metadata", "<i4"), ("padding", "<i4"), ("data", "<i8")])
#: Longest path, digest and reason of damage of a usual clip, which are stored before its frames, bytes.
_ORIGIN_BYTES = 1024
#: How many clips of a batch are looked at to find out whether a batch is in memory.
_PROBES = 8
#: Bytes of a request to read ahead. The system reads no more of a request than the read-ahead of the disk, whose usual
#: value this is, or than the disk reads at once.
_REQUEST = 128 * 2**10
#: Bytes that are read around a clip of which most frames are wanted.
_AROUND = 8 * 2**20
#: The C library: `mmap.madvise` needs an open file for each shard, and a process may have a thousand of these only.
_C = ctypes.CDLL(None)


def open_clips(cache: Path, split: str) -> "Clips":
    """Open one split of a clip cache for reading.

    The files are mapped into memory: opening reads the index only, and a clip is read when it is used.

    Args:
        cache: the folder that `vattn.data.prepare` or `vattn.data.ingest.ingest` returns.
        split: ``train``, ``val`` or ``test``.

    Returns:
        The clips of that split, in the order of the manifest.

    Raises:
        UserError: ``cache`` is no cache, has another version, was altered, or has no clips of that split.
    """
    import pyarrow.compute as pc

    index = read_index(cache)
    rows = np.flatnonzero(pc.equal(index["split"], split).to_numpy())  # pyright: ignore[reportAttributeAccessIssue]
    if not len(rows):
        raise UserError(
            f"has no clips of the {split!r} split", file=cache, way_out=f"{FAILURES} there lists what could not be read"
        )
    return Clips(cache, split, index, rows)


class Clips:
    """The clips of one split, in the order of the manifest. Each process must open its own; its threads share them."""

    def __init__(self, cache: Path, split: str, index: pa.Table, rows: Int64[np.ndarray, " clips"]) -> None:
        self.cache, self.split, self._index, self._rows = cache, split, index, rows
        self.codec = index.schema.metadata[b"codec"].decode()
        self._shards: dict[int, _MappedShard] = {}
        self._lock = Lock()
        #: Offsets of each clip's ends, checks and pixels in its shard; 0 until they are looked up.
        self._starts = np.zeros((len(rows), len(FRAME_FIELDS)), np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def labels(self) -> Int64[np.ndarray, " clips"]:
        """Label of each clip."""
        return self._column("label")

    @property
    def paths(self) -> list[str]:
        """Path of each clip's file below the root of its data set."""
        return self._index["path"].take(pa.array(self._rows)).to_pylist()

    @cached_property
    def seconds(self) -> Float64[np.ndarray, " clips"]:
        """Length of each clip by its frame rate, seconds; -1: not known."""
        if "seconds" not in self._index.schema.names:
            return np.full(len(self), -1.0)
        return self._index["seconds"].to_numpy()[self._rows].astype(np.float64)

    def times(self, i: int) -> Float64[np.ndarray, " frames"]:
        """When each frame of the i-th clip is shown, and when the last one ends, seconds; empty: at a constant rate."""
        if "times" not in self._index.schema.names:
            return np.empty(0)
        return np.array(self._index["times"][int(self._rows[i])].as_py() or (), np.float64)

    @property
    def spans(self) -> Int64[np.ndarray, "clips 2"]:
        """First and last frame of each clip in its file, as in `vattn.data.cache.format.Origin`."""
        return np.stack([self._column(name) for name in ("first", "last")], axis=1)

    @property
    def lengths(self) -> Int64[np.ndarray, " clips"]:
        """Number of frames of each clip before some were selected; of those stored where an old cache does not say."""
        stored = self.shapes[:, 0]
        if "length" not in self._index.column_names:
            return stored
        known = self._column("length")
        return np.where(known < 0, stored, known)

    @property
    def names(self) -> list[str]:
        """Name of each clip: its path without the suffix of a video. The clips of one file have the same name."""
        return [clip_name(path) for path in self.paths]

    @cached_property
    def shapes(self) -> Int64[np.ndarray, "clips 3"]:
        """(frames, height, width) of each clip."""
        return np.stack([self._column(name) for name in ("frames", "height", "width")], axis=1)

    def clip(self, i: int) -> Video:
        """Return all frames of the i-th clip, uint8 RGB (T, H, W, 3); a raw clip is a read-only view of the file.

        Raises UserError if the file was altered after it was written.
        """
        numbers = range(self.shapes.item(i, 0))
        self.read_ahead([(i, numbers)])
        every_frame = list(self.frames(i, numbers))
        if self.codec == "jpeg":
            return np.stack(every_frame)
        _, pixels, _ = self._read(i)
        return pixels.reshape(*self.shapes[i], 3)

    def frames(self, i: int, wanted: Iterable[int]) -> Iterator[Frame]:
        """Yield the ``wanted`` frames of the i-th clip; raw frames are read-only views, and no others are read.

        Frames come one by one so that the caller finds each in the processor's cache, where hashing has put it. Raises
        UserError if the file was altered after it was written.
        """
        ends, pixels, checks = self._read(i)
        shape = (*self.shapes[i, 1:].tolist(), 3)
        frames: dict[int, Frame] = {}
        for t in wanted:
            if t not in frames:
                data = pixels[ends.item(t) : ends.item(t + 1)]
                if xxh3_64_intdigest(data.data) != checks.item(t):
                    raise self._altered(i, f"frame {t} has another hash")
                frames[t] = data.reshape(shape) if self.codec == "raw" else decode_jpeg(data)
            yield frames[t]

    def read_ahead(self, wanted: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Ask the system to read frames (number of the clip, numbers of its frames) from the disk, and do not wait.

        A disk reads scattered frames many times faster if it knows all of them than one after another. Most of the
        cost is avoided where the frames are in memory already: if a few of them are, nothing is asked. Raises UserError
        if a file was altered after it was written.
        """
        if sys.platform != "linux":
            return
        for i, _ in wanted:
            if not self._starts.item(i, 0):
                self._shard(i).advise_head(self._batch_of.item(i), self.shapes.item(i, 0))
        # The beginning of the first frame may be in memory, because it is in the page of what is stored before it.
        probes = [self._place(i, max(frames)) for i, frames in wanted[:: max(len(wanted) // _PROBES, 1)]]
        if all(shard.in_memory(end - 1) for shard, _, end in probes):
            return
        for i, frames in wanted:
            places = [self._place(i, t) for t in sorted(set(frames))]
            shard, start, end = places[0]
            if self._fits_memory and 2 * len(places) > self.shapes.item(i, 0):
                # Its neighbours are soon wanted too, and a disk reads one large piece faster than several small ones.
                shard.read(start // _AROUND * _AROUND, min(-(-places[-1][2] // _AROUND) * _AROUND, len(shard.bytes)))
                continue
            for _, first, last in places[1:]:
                if first != end:  # frames that follow each other are read as one piece
                    shard.read(start, end)
                    start = first
                end = last
            shard.read(start, end)

    @cached_property
    def _fits_memory(self) -> bool:
        """Whether the shards of these clips fit into half of the memory that is available now."""
        names = self._shard_names.dictionary.take(pa.array(np.unique(self._shard_of))).to_pylist()
        return sum((self.cache / name).stat().st_size for name in names) < _available_memory() / 2

    def _place(self, i: int, t: int) -> tuple["_MappedShard", int, int]:
        """Return where frame ``t`` of the i-th clip is: the shard, its first byte there, and the one after the last."""
        ends, _, _ = self._read(i)
        pixels_at = self._starts.item(i, 2)
        return self._shard(i), pixels_at + ends.item(t), pixels_at + ends.item(t + 1)

    def _read(self, i: int) -> _Buffers:
        num_frames, shard = self.shapes.item(i, 0), self._shard(i)
        if not self._starts.item(i, 0):
            try:
                # Looked up once for each clip: it takes as long as reading two frames.
                with self._lock:  # Arrow's readers are not made for several threads
                    self._starts[i] = shard.starts(self._batch_of.item(i), num_frames)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self._altered(i, str(error)) from error
        ends_at, checks_at, pixels_at = self._starts[i].tolist()
        ends = shard.bytes[ends_at : ends_at + 8 * (num_frames + 1)].view(np.int64)
        checks = shard.bytes[checks_at : checks_at + 8 * num_frames].view(np.uint64)
        return ends, shard.bytes[pixels_at : pixels_at + ends.item(-1)], checks

    def _altered(self, i: int, reason: str) -> UserError:
        return UserError(
            f"was altered or cut off after it was written ({self._name('path', i)}: {reason})",
            file=self.cache / self._name("shard", i),
            way_out="remove the folder, and it is written anew",
        )

    @cached_property
    def _shard_names(self) -> pa.DictionaryArray:
        return self._index["shard"].combine_chunks().dictionary_encode()

    @cached_property
    def _shard_of(self) -> Int64[np.ndarray, " clips"]:
        return self._shard_names.indices.to_numpy()[self._rows].astype(np.int64)

    @cached_property
    def _batch_of(self) -> Int64[np.ndarray, " clips"]:
        return self._column("batch")

    def _column(self, name: str) -> Int64[np.ndarray, " clips"]:
        return self._index[name].to_numpy()[self._rows].astype(np.int64)

    def _name(self, column: str, i: int) -> str:
        # Read one at a time: a Python list of a million names would take seconds and hundreds of megabytes.
        return self._index[column][int(self._rows[i])].as_py()

    def _shard(self, i: int) -> "_MappedShard":
        """Return the shard of the i-th clip."""
        number = self._shard_of.item(i)
        if number not in self._shards:
            try:
                self._shards[number] = _MappedShard(self.cache / self._shard_names.dictionary[number].as_py())
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self._altered(i, str(error)) from error
        return self._shards[number]


class _MappedShard:
    """A shard mapped into memory."""

    def __init__(self, path: Path) -> None:
        self._may_see_memory = os.access(path, os.W_OK) or path.stat().st_uid == os.geteuid()
        self._buffer = pa.memory_map(str(path)).read_buffer()
        # Otherwise an access to a page that is not in memory, as to the footer now, may read megabytes around it.
        self.advise(mmap.MADV_RANDOM, 0, self._buffer.size)
        self._file = pa.ipc.open_file(self._buffer)
        self.bytes = np.frombuffer(self._buffer, np.uint8)
        self._blocks = _blocks(self.bytes)

    def advise(self, advice: int, start: int, end: int) -> None:
        """Tell the system how the bytes from ``start`` to ``end`` are going to be used."""
        first = (self._buffer.address + start) // mmap.PAGESIZE * mmap.PAGESIZE
        length = self._buffer.address + end - first
        _C.madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), advice)  # an error would change nothing

    def read(self, start: int, end: int) -> None:
        """Ask the system to read the bytes from ``start`` to ``end`` from the disk, and do not wait."""
        for first in range(start, end, _REQUEST):
            self.advise(mmap.MADV_WILLNEED, first, min(first + _REQUEST, end))

    def advise_head(self, batch: int, num_frames: int) -> None:
        """Ask the system to read what is stored of a clip before its pixels."""
        for block in self._blocks[batch : batch + 1]:  # there is none if the index means another shard
            start = int(block["start"])
            self.advise(mmap.MADV_WILLNEED, start, start + int(block["metadata"]) + _ORIGIN_BYTES + 16 * num_frames)

    def in_memory(self, offset: int) -> bool:
        """Return whether the byte at ``offset`` is in memory; False if the system does not say so.

        Linux says so to the owner of a file and to whoever may write it. It would tell the others by a read that must
        not wait (RWF_NOWAIT), but begins to read the page then, and a quick disk ends it before the answer.
        """
        if not self._may_see_memory:
            return False
        first = (self._buffer.address + offset) // mmap.PAGESIZE * mmap.PAGESIZE
        page = ctypes.c_ubyte()
        return not _C.mincore(ctypes.c_void_p(first), ctypes.c_size_t(1), ctypes.byref(page)) and bool(page.value & 1)

    def starts(self, batch: int, num_frames: int) -> list[int]:
        """Return the offsets of a clip's ends, checks and pixels; raise ValueError if the index means another clip."""
        row = self._file.get_batch(batch)
        ends, checks, pixels = (row.column(name).buffers()[-1] for name in FRAME_FIELDS)
        # Both lie before the pixels. Other threads can run while they are read, as they could not while numpy reads.
        at = ends.address - self._buffer.address, pixels.address - self._buffer.address
        self.advise(mmap.MADV_WILLNEED, *at)
        self.advise(_POPULATE, *at)
        lengths = (8 * (num_frames + 1), 8 * num_frames, np.frombuffer(ends, np.int64)[-1])
        if lengths != (ends.size, checks.size, pixels.size):
            raise ValueError("it does not have the frames that the index names")
        return [buffer.address - self._buffer.address for buffer in (ends, checks, pixels)]


def _available_memory() -> int:
    """Return the bytes of memory that Linux can use for files: of the machine, or of this container if it has less."""
    text = Path("/proc/meminfo").read_text("ascii")
    machine = next(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable:"))
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text("ascii")))
    except (OSError, ValueError):  # there is no such file outside of a container, and it can say "max"
        return machine


def _blocks(file: UInt8[np.ndarray, " bytes"]) -> np.ndarray:
    """Return the record batches in the footer of an Arrow file: a `_BLOCK` for each.

    pyarrow reads the footer too, but does not return it. The format is Arrow's ("Arrow Columnar Format: IPC File
    Format"): the footer, its length in 4 bytes, and ARROW1. The footer is a flatbuffer, whose fourth field is the list.
    """
    length = int.from_bytes(file[-10:-6].tobytes(), "little")
    footer = file[-10 - length : -10].tobytes()
    (table,) = unpack_from("<I", footer)
    (back,) = unpack_from("<i", footer, table)
    (field,) = unpack_from("<H", footer, table - back + 4 + 2 * 3)
    (list_at,) = unpack_from("<I", footer, table + field)
    at = table + field + list_at
    (count,) = unpack_from("<I", footer, at)
    return np.frombuffer(footer, _BLOCK, count, at + 4)
