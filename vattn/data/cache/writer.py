"""Writes clips into the shards of a clip cache; an interrupted write can be continued."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vattn.data.cache.format import (
    CONCEALED,
    FAILURES,
    FRAME_FIELDS,
    INDEX_SCHEMA,
    ORIGIN_FIELDS,
    SHAPE_FIELDS,
    SHARD_SCHEMA,
    Codec,
    Location,
    Origin,
    StoredClip,
    Video,
)
from vattn.data.cache.index import write_failures, write_index

#: Offset of the stream of record batches in an Arrow IPC file, bytes.
_STREAM_OFFSET = 8
#: Pixels of one shard, bytes.
_SHARD_BYTES = 1 << 30


class CacheWriter:
    """Writes clips, in any order, into a folder, which becomes a cache with `finish`.

    ``existing`` has the clips that an earlier writer left in the folder, even if it was killed, by path, first and last
    frame. They need not be written again.

    Args:
        folder: an existing folder.
        shard_bytes: a shard is closed when it holds this many bytes of pixels.
        codec: how `add` stores frames.
    """

    def __init__(self, folder: Path, shard_bytes: int = _SHARD_BYTES, codec: Codec = "raw") -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self.codec: Codec = codec
        self.existing: dict[tuple[str, int, int], Location] = {}
        self._rows: dict[int, dict[str, Any]] = {}
        self._shard: _OpenShard | None = None
        shards = sorted(folder.glob("shard-*.arrow"))
        self._next = int(shards[-1].stem[6:]) + 1 if shards else 0
        for shard in shards:
            self._recover(shard)

    def add(self, position: int, path: str, label: int, split: str, video: Video) -> None:
        """Store the clip of row ``position`` of the manifest, and add it to the index."""
        stored = StoredClip.raw(video) if self.codec == "raw" else StoredClip.jpeg(list(video))
        self.index(position, label, split, self.store(stored, Origin(path)))

    def store(self, clip: StoredClip, origin: Origin) -> Location:
        """Append a clip to a shard, and return where it is stored."""
        if self._shard is None:
            self._shard = _OpenShard(self.folder, self._new_name())
        location = self._shard.add(clip, origin)
        if self._shard.bytes >= self.shard_bytes:
            self.close()
        return location

    def index(self, position: int, label: int, split: str, location: Location) -> None:
        """Add the clip of row ``position`` of the manifest to the index."""
        shape = dict(zip(SHAPE_FIELDS, location.shape, strict=True))
        row = {"label": label, "split": split, "shard": location.shard, "batch": location.batch}
        self._rows[position] = location.origin._asdict() | shape | row

    def link(self, cache: Path, location: Location, names: dict[Path, str]) -> Location:
        """Add a clip of another cache without copying it: its shard is hard-linked into this folder.

        ``names`` collects the names of linked shards here; pass the same mapping to all calls.
        """
        shard = cache / location.shard
        if shard not in names:
            names[shard] = self._new_name()
            (self.folder / names[shard]).hardlink_to(shard)
        return location._replace(shard=names[shard])

    def close(self) -> None:
        """Close the shard that is being written."""
        if self._shard:
            self._shard.writer.close()
        self._shard = None

    def finish(self, failures: Sequence[dict[str, Any]]) -> None:
        """Turn the folder into a cache: close the shard, remove unused shards, write the lists and the index."""
        self.close()
        rows = [row for _, row in sorted(self._rows.items())]
        used = {row["shard"] for row in rows}
        for shard in self.folder.glob("shard-*.arrow"):
            if shard.name not in used:
                shard.unlink()
        concealed = {row["path"]: row["damage"] for row in rows if row["damage"]}
        write_failures(self.folder, FAILURES, failures)
        write_failures(self.folder, CONCEALED, [{"path": path, "reason": why} for path, why in concealed.items()])
        write_index(self.folder, pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), self.codec)

    def _new_name(self) -> str:
        self._next += 1
        return f"shard-{self._next - 1:05}.arrow"

    def _recover(self, shard: Path) -> None:
        """Register the clips of an existing shard; a shard that was not closed is copied into a new one."""
        if closed := _is_closed(shard):
            for number, batch in enumerate(_batches(shard)):
                location = Location.from_batch(shard.name, number, batch)
                self.existing[location.origin[:3]] = location
        else:
            for batch in _batches(shard):
                clip, origin = StoredClip.from_batch(batch), Location.from_batch(shard.name, 0, batch).origin
                if clip.intact:
                    self.existing[origin[:3]] = self.store(clip, origin)
        if not closed:
            self.close()
            shard.unlink()


class _OpenShard:
    """A shard that is being written."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.batches, self.bytes = name, 0, 0
        self.writer = pa.ipc.new_file(str(folder / name), SHARD_SCHEMA)

    def add(self, clip: StoredClip, origin: Origin) -> Location:
        shape = (len(clip.checks), clip.height, clip.width)
        # The pixels are written straight from the array: a Python bytes object would be one more copy.
        ends = pa.py_buffer(np.array([0, clip.pixels.nbytes], np.int64))
        pixels = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(clip.pixels)])
        columns = [pa.array([value], type) for value, type in zip(origin, ORIGIN_FIELDS.values(), strict=True)]
        columns += [pa.array([value], type) for value, type in zip(shape, SHAPE_FIELDS.values(), strict=True)]
        columns += [pa.array([clip.ends], FRAME_FIELDS["ends"]), pa.array([clip.checks], FRAME_FIELDS["checks"])]
        self.writer.write_batch(pa.record_batch([*columns, pixels], schema=SHARD_SCHEMA))
        self.batches += 1
        self.bytes += clip.pixels.nbytes
        return Location(self.name, self.batches - 1, shape, origin)


def _is_closed(shard: Path) -> bool:
    try:
        pa.ipc.open_file(pa.memory_map(str(shard)))
    except (pa.ArrowException, OSError):
        return False
    return True


def _batches(shard: Path) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a shard, up to the point where its writer stopped."""
    try:
        file = pa.memory_map(str(shard))
        file.seek(_STREAM_OFFSET)
        yield from pa.ipc.open_stream(file)
    except (pa.ArrowException, OSError, ValueError):
        return
