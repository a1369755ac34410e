"""The clip cache: decoded clips in Arrow IPC files, mapped into memory; raw frames are read without a copy.

A cache is one folder, complete from the moment it appears:

* ``shard-NNNNN.arrow``: one clip a record batch: the file that it is of, frames, height, width, and the frames one
  behind the other, as raw uint8 (height, width, 3), RGB, or as JPEG, with the place and the XXH3 hash of each;
* ``index.arrow``: a row a clip, in the manifest's order: the same without frames, its label, split, shard and batch;
  ``index.check``: the version of this layout, and the index's hash;
* ``failures.jsonl``: the files that could not be read; ``concealed.jsonl``: those of which a decoder made up damaged
  parts. Both give the reasons.

Every frame is held against its hash each time it is read, so that what is read is what was written, whatever became of
the file since this process last looked. Nothing in a cache ever changes: any number of processes read it, and no lock
is needed.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt8, UInt64
from simplejpeg import decode_jpeg, decode_jpeg_header, encode_jpeg
from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest

from vattn.files import replacing

INDEX = "index.arrow"
CHECK = "index.check"
FAILURES = "failures.jsonl"
CONCEALED = "concealed.jsonl"
#: Of the layout above; counted up when older caches cannot be read.
VERSION = 3
#: Of 95, as libjpeg counts.
QUALITY = 90

_ORIGIN = {
    "path": pa.string(), "first": pa.int64(), "last": pa.int64(), "size": pa.int64(), "modified": pa.int64(),
    "digest": pa.string(), "damage": pa.string(),
}  # fmt: skip
_SHAPE = {"frames": pa.int32(), "height": pa.int32(), "width": pa.int32()}
_FRAMES = {"ends": pa.list_(pa.int64()), "checks": pa.list_(pa.uint64()), "pixels": pa.large_binary()}
_SHARD_SCHEMA = pa.schema(_ORIGIN | _SHAPE | _FRAMES)
_PLACE = {"label": pa.int32(), "split": pa.string(), "shard": pa.string(), "batch": pa.int32()}
_INDEX_SCHEMA = pa.schema(_ORIGIN | _SHAPE | _PLACE)
#: Where the stream of record batches starts in an Arrow IPC file.
_STREAM = 8

Codec = Literal["raw", "jpeg"]
Frame = UInt8[np.ndarray, "h w 3"]
Video = UInt8[np.ndarray, "t h w 3"]


class Origin(NamedTuple):
    """What a clip is of: a file in one of its states, and the damage that its decoder concealed, or ""."""

    path: str
    first: int = -1
    last: int = -1
    size: int = -1
    modified: int = -1
    digest: str = ""
    damage: str = ""


class Stored(NamedTuple):
    """A clip as it stands in a shard: frame i is ``pixels[ends[i] : ends[i + 1]]``, and its hash is ``checks[i]``."""

    height: int
    width: int
    ends: Int64[np.ndarray, " ends"]
    checks: UInt64[np.ndarray, " t"]
    pixels: UInt8[np.ndarray, " bytes"]

    @classmethod
    def raw(cls, video: Video) -> Self:
        """Return a clip of raw frames."""
        frames, height, width = video.shape[:3]
        pixels = np.ascontiguousarray(video).reshape(-1)
        return cls._of(height, width, np.arange(frames + 1, dtype=np.int64) * (height * width * 3), pixels)

    @classmethod
    def jpeg(cls, frames: Iterable[Frame | bytes]) -> Self:
        """Return a clip of JPEG frames; those that are JPEG already are taken as they are."""
        coded = [frame if isinstance(frame, bytes) else _to_jpeg(frame) for frame in frames]
        height, width = map(int, decode_jpeg_header(coded[0])[:2])
        ends = np.cumsum([0, *map(len, coded)], dtype=np.int64)
        return cls._of(height, width, ends, np.frombuffer(b"".join(coded), np.uint8))

    @classmethod
    def _of(cls, height: int, width: int, ends: np.ndarray, pixels: np.ndarray) -> Self:
        bounds = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        checks = [xxh3_64_intdigest(pixels[start:end].data) for start, end in bounds]
        return cls(height, width, ends, np.array(checks, np.uint64), pixels)

    @property
    def whole(self) -> bool:
        """Whether every frame is as it was written."""
        return bool((self._of(self.height, self.width, self.ends, self.pixels).checks == self.checks).all())


#: Of a clip as of `Stored`: ends, pixels, checks.
_Frames = tuple[Int64[np.ndarray, " ends"], UInt8[np.ndarray, " bytes"], UInt64[np.ndarray, " t"]]


class Clips:
    """The clips of one split, in the manifest's order; each process opens its own."""

    def __init__(self, cache: Path, split: str, index: pa.Table, rows: Int64[np.ndarray, " clips"]) -> None:
        self.cache, self.split, self._index, self._rows = cache, split, index, rows
        self.codec = index.schema.metadata[b"codec"].decode()
        self._shards: dict[int, _Mapped] = {}
        #: Where in its shard each clip's ends, checks and pixels begin; 0 where that was not looked up yet.
        self._starts = np.zeros((len(rows), len(_FRAMES)), np.int64)

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
    def shapes(self) -> Int64[np.ndarray, "clips 3"]:
        """(frames, height, width) of each clip."""
        return np.stack([self._column(name) for name in ("frames", "height", "width")], axis=1)

    def clip(self, i: int) -> Video:
        """Return the i-th clip whole; raw, it is a read-only view of the file. Raises ValueError as `frames` does."""
        every = list(self.frames(i, range(self.shapes.item(i, 0))))
        if self.codec == "jpeg":
            return np.stack(every)
        _, pixels, _ = self._read(i)
        return pixels.reshape(*self.shapes[i], 3)

    def frames(self, i: int, wanted: Iterable[int]) -> Iterator[Frame]:
        """Yield these frames of the i-th clip; raw ones are read-only views, and only what is asked for is read.

        One by one, so that what is done with a frame finds it in the processor's cache, into which hashing brought it.
        Raises ValueError where the file is no longer as it was written.
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

    def _read(self, i: int) -> _Frames:
        num_frames = self.shapes.item(i, 0)
        try:
            shard = self._shard(self._shard_of.item(i))
            if not self._starts.item(i, 0):
                # Once a clip: it takes as long as reading two frames.
                self._starts[i] = shard.starts(self._batch_of.item(i), num_frames)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._altered(i, str(error)) from error
        ends_at, checks_at, pixels_at = self._starts[i].tolist()
        ends = shard.bytes[ends_at : ends_at + 8 * (num_frames + 1)].view(np.int64)
        checks = shard.bytes[checks_at : checks_at + 8 * num_frames].view(np.uint64)
        return ends, shard.bytes[pixels_at : pixels_at + ends.item(-1)], checks

    def _altered(self, i: int, found: str) -> ValueError:
        return ValueError(
            f"{self.cache / self._name('shard', i)}: was altered or cut off after it was written "
            f"({self._name('path', i)}: {found}); remove the folder, and it is written anew"
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
        # Names stay in the file: those of a million clips would take seconds and hundreds of megabytes.
        return self._index[column][int(self._rows[i])].as_py()

    def _shard(self, number: int) -> "_Mapped":
        if number not in self._shards:
            self._shards[number] = _Mapped(self.cache / self._shard_names.dictionary[number].as_py())
        return self._shards[number]


def open_clips(cache: Path, split: str) -> Clips:
    """Return the clips of ``split`` (train | val | test) in a cache; raises ValueError where there are none."""
    import pyarrow.compute as pc

    index = read_index(cache)
    rows = np.flatnonzero(pc.equal(index["split"], split).to_numpy())  # pyright: ignore[reportAttributeAccessIssue]
    if not len(rows):
        raise ValueError(f"{cache}: has no clips of the {split!r} split; {FAILURES} there lists what could not be read")
    return Clips(cache, split, index, rows)


def is_cache(folder: Path) -> bool:
    """Whether ``folder`` is a cache; it is then complete."""
    return (folder / INDEX).is_file()


def read_index(cache: Path) -> pa.Table:
    """Return the index; raises ValueError where ``cache`` is no cache or was altered."""
    if not is_cache(cache):
        raise ValueError(f"{cache}: is not a clip cache, which has a file {INDEX}")
    check = (cache / CHECK).read_text() if (cache / CHECK).is_file() else "2 or earlier "
    version, _, digest = check.rpartition(" ")
    if version != str(VERSION):
        raise ValueError(
            f"{cache}: is a cache of version {version}, and only those of version {VERSION} can be read; ingest again, "
            "and remove this one"
        )
    data = pa.memory_map(str(cache / INDEX)).read_buffer()
    if xxh3_64_hexdigest(data) != digest:
        raise ValueError(f"{cache / INDEX}: was altered or cut off; remove the folder, and it is written anew")
    return pa.ipc.open_file(data).read_all()


def write_index(cache: Path, rows: pa.Table, codec: Codec) -> None:
    """Write the index, a row a clip: now the folder is a cache."""
    with replacing(cache / INDEX) as part:
        with pa.ipc.new_file(str(part), rows.schema.with_metadata({"codec": codec})) as index:
            index.write_table(rows)
        (cache / CHECK).write_text(f"{VERSION} {xxh3_64_hexdigest(pa.memory_map(str(part)).read_buffer())}")


def read_failures(cache: Path, name: str = FAILURES) -> list[dict[str, Any]]:
    """Return (path, reason) of each file that is missing from the cache, or in `CONCEALED`, that is there in part."""
    with (cache / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


class _Mapped:
    """A shard, mapped into memory."""

    def __init__(self, path: Path) -> None:
        self._buffer = pa.memory_map(str(path)).read_buffer()
        self._file = pa.ipc.open_file(self._buffer)
        self.bytes = np.frombuffer(self._buffer, np.uint8)

    def starts(self, batch: int, num_frames: int) -> list[int]:
        """Return where the ends, the checks and the pixels of a clip begin; raises ValueError where it is another."""
        row = self._file.get_batch(batch)
        ends, checks, pixels = (row.column(name).buffers()[-1] for name in _FRAMES)
        lengths = (8 * (num_frames + 1), 8 * num_frames, np.frombuffer(ends, np.int64)[-1])
        if lengths != (ends.size, checks.size, pixels.size):
            raise ValueError("it does not have the frames that the index names")
        return [buffer.address - self._buffer.address for buffer in (ends, checks, pixels)]


class Place(NamedTuple):
    """Where a clip lies, and its frames, height and width."""

    shard: str
    batch: int
    shape: tuple[int, int, int]
    origin: Origin


class CacheWriter:
    """Writes clips, in any order, into a folder; it is a cache after `finish`.

    What an earlier writer left in the folder, even one that was killed, is in ``found``: it need not be written again.
    A shard is closed when it holds ``shard_bytes`` of pixels.
    """

    def __init__(self, folder: Path, shard_bytes: int = 1 << 30, codec: Codec = "raw") -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self.codec: Codec = codec
        self.found: dict[tuple[str, int, int], Place] = {}
        self._rows: dict[int, dict[str, Any]] = {}
        self._shard: _Shard | None = None
        left = sorted(folder.glob("shard-*.arrow"))
        self._next = int(left[-1].stem[6:]) + 1 if left else 0
        for shard in left:
            self._take_up(shard)

    def add(self, position: int, path: str, label: int, split: str, video: Video) -> None:
        """Append the clip that stands at ``position`` in the manifest."""
        stored = Stored.raw(video) if self.codec == "raw" else Stored.jpeg(list(video))
        self.index(position, label, split, self.store(stored, Origin(path)))

    def store(self, clip: Stored, origin: Origin) -> Place:
        """Append a clip to a shard; tell where it is."""
        if self._shard is None:
            self._shard = _Shard(self.folder, self._new_name())
        place = self._shard.add(clip, origin)
        if self._shard.bytes >= self.shard_bytes:
            self.close()
        return place

    def index(self, position: int, label: int, split: str, place: Place) -> None:
        """Note that the clip at ``position`` in the manifest lies at ``place``."""
        shape = dict(zip(_SHAPE, place.shape, strict=True))
        where = {"label": label, "split": split, "shard": place.shard, "batch": place.batch}
        self._rows[position] = place.origin._asdict() | shape | where

    def borrow(self, cache: Path, place: Place, taken: dict[Path, str]) -> Place:
        """Take a clip of another cache into this one, without copying: their shard gets a second name here.

        ``taken`` collects the names of the shards.
        """
        shard = cache / place.shard
        if shard not in taken:
            taken[shard] = self._new_name()
            (self.folder / taken[shard]).hardlink_to(shard)
        return place._replace(shard=taken[shard])

    def close(self) -> None:
        """Close the shard that is being written."""
        if self._shard:
            self._shard.writer.close()
        self._shard = None

    def finish(self, failures: Sequence[dict[str, Any]]) -> None:
        """Close the shard, remove those that are of no use, and write the lists and the index: now it is a cache."""
        self.close()
        rows = [row for _, row in sorted(self._rows.items())]
        used = {row["shard"] for row in rows}
        for shard in self.folder.glob("shard-*.arrow"):
            if shard.name not in used:
                shard.unlink()
        concealed = {row["path"]: row["damage"] for row in rows if row["damage"]}
        _write_lines(self.folder / FAILURES, failures)
        _write_lines(self.folder / CONCEALED, [{"path": path, "reason": why} for path, why in concealed.items()])
        write_index(self.folder, pa.Table.from_pylist(rows, schema=_INDEX_SCHEMA), self.codec)

    def _new_name(self) -> str:
        self._next += 1
        return f"shard-{self._next - 1:05}.arrow"

    def _take_up(self, shard: Path) -> None:
        """Find the clips of a shard; those of one that was not closed are moved to another."""
        if closed := _is_closed(shard):
            for batch, row in enumerate(_batches(shard)):
                place = _place(shard.name, batch, row)
                self.found[place.origin[:3]] = place
        else:
            for row in _batches(shard):
                stored, origin = _stored(row), _place(shard.name, 0, row).origin
                if stored.whole:
                    self.found[origin[:3]] = self.store(stored, origin)
        if not closed:
            self.close()
            shard.unlink()


class _Shard:
    """A shard that is being written."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.batches, self.bytes = name, 0, 0
        self.writer = pa.ipc.new_file(str(folder / name), _SHARD_SCHEMA)

    def add(self, clip: Stored, origin: Origin) -> Place:
        shape = (len(clip.checks), clip.height, clip.width)
        # The pixels go from the array to the file: a Python bytes object would be one more copy.
        ends = pa.py_buffer(np.array([0, clip.pixels.nbytes], np.int64))
        pixels = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(clip.pixels)])
        columns = [pa.array([value], type) for value, type in zip(origin, _ORIGIN.values(), strict=True)]
        columns += [pa.array([value], type) for value, type in zip(shape, _SHAPE.values(), strict=True)]
        columns += [pa.array([clip.ends], _FRAMES["ends"]), pa.array([clip.checks], _FRAMES["checks"]), pixels]
        self.writer.write_batch(pa.record_batch(columns, schema=_SHARD_SCHEMA))
        self.batches += 1
        self.bytes += clip.pixels.nbytes
        return Place(self.name, self.batches - 1, shape, origin)


def places(cache: Path) -> dict[tuple[str, int, int], Place]:
    """Return where each clip of a cache lies, by its path, first and last frame."""
    index = read_index(cache)
    columns = [index[name].to_pylist() for name in (*_ORIGIN, *_SHAPE, "shard", "batch")]
    found = (Place(row[10], row[11], (row[7], row[8], row[9]), Origin(*row[:7])) for row in zip(*columns, strict=True))
    return {place.origin[:3]: place for place in found}


def _place(shard: str, batch: int, row: pa.RecordBatch) -> Place:
    origin = Origin(*(row.column(name)[0].as_py() for name in _ORIGIN))
    frames, height, width = (row.column(name)[0].as_py() for name in _SHAPE)
    return Place(shard, batch, (frames, height, width), origin)


def _stored(row: pa.RecordBatch) -> Stored:
    height, width = (row.column(name)[0].as_py() for name in ("height", "width"))
    ends, checks, pixels = (row.column(name).buffers()[-1] for name in _FRAMES)
    return Stored(
        height, width, np.frombuffer(ends, np.int64), np.frombuffer(checks, np.uint64), np.frombuffer(pixels, np.uint8)
    )


def _is_closed(shard: Path) -> bool:
    try:
        pa.ipc.open_file(pa.memory_map(str(shard)))
    except (pa.ArrowException, OSError):
        return False
    return True


def _batches(shard: Path) -> Iterator[pa.RecordBatch]:
    """Yield the clips of a shard up to the point to which it was written."""
    try:
        file = pa.memory_map(str(shard))
        file.seek(_STREAM)
        yield from pa.ipc.open_stream(file)
    except (pa.ArrowException, OSError, ValueError):
        return


def _write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def _to_jpeg(frame: Frame) -> bytes:
    return encode_jpeg(np.ascontiguousarray(frame), QUALITY, colorsubsampling="420")
