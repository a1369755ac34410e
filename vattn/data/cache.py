"""The clip cache: decoded clips in Arrow IPC files, mapped into memory and read without a copy.

A cache is one folder, complete from the moment it appears:

* ``SPLIT-NNNNN.arrow``: shards, one clip a record batch: path, label, frames, height, width, and the pixels as raw
  uint8 (frames, height, width, 3), RGB;
* ``index.arrow``: a row a clip, in the manifest's order: the same without pixels, its split, shard and batch number;
* ``failures.jsonl``: the files that could not be read, each with its reason.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt8

INDEX = "index.arrow"
FAILURES = "failures.jsonl"
#: Of the layout above; counted up when older caches cannot be read.
VERSION = 1

_CLIP = {"path": pa.string(), "label": pa.int32(), "frames": pa.int32(), "height": pa.int32(), "width": pa.int32()}
_SHARD_SCHEMA = pa.schema(_CLIP | {"pixels": pa.large_binary()})
_INDEX_SCHEMA = pa.schema(_CLIP | {"split": pa.string(), "shard": pa.string(), "batch": pa.int32()})

Video = UInt8[np.ndarray, "t h w 3"]


class Clips:
    """The clips of one split, in the manifest's order; each process opens its own."""

    def __init__(self, cache: Path, split: str, index: pa.Table) -> None:
        self.cache, self.split, self._index = cache, split, index
        self._shards: dict[str, pa.RecordBatchFileReader] = {}

    def __len__(self) -> int:
        return len(self._index)

    @cached_property
    def labels(self) -> Int64[np.ndarray, " clips"]:
        """Label of each clip."""
        return self._column("label")

    @property
    def paths(self) -> list[str]:
        """Path of each clip's file below the root of its data set."""
        return self._index["path"].to_pylist()

    @cached_property
    def shapes(self) -> Int64[np.ndarray, "clips 3"]:
        """(frames, height, width) of each clip."""
        return np.stack([self._column(name) for name in ("frames", "height", "width")], axis=1)

    def clip(self, i: int) -> Video:
        """Return the i-th clip, a read-only view of the file: only what is used of it is read."""
        batch = self._shard(self._places[0][i]).get_batch(int(self._places[1][i]))
        pixels = batch.column("pixels")[0].as_buffer()
        return np.frombuffer(pixels, np.uint8).reshape(*self.shapes[i], 3)

    @cached_property
    def _places(self) -> tuple[list[str], Int64[np.ndarray, " clips"]]:
        return self._index["shard"].to_pylist(), self._column("batch")

    def _column(self, name: str) -> Int64[np.ndarray, " clips"]:
        return self._index[name].to_numpy().astype(np.int64)

    def _shard(self, name: str) -> pa.RecordBatchFileReader:
        if name not in self._shards:
            self._shards[name] = pa.ipc.open_file(pa.memory_map(str(self.cache / name)))
        return self._shards[name]


def open_clips(cache: Path, split: str) -> Clips:
    """Return the clips of ``split`` (train | val | test) in a cache; raises ValueError where there are none."""
    if not is_cache(cache):
        raise ValueError(f"{cache}: is not a clip cache, which has a file {INDEX}")
    index = pa.ipc.open_file(pa.memory_map(str(cache / INDEX))).read_all()
    index = index.filter(pa.array(index["split"].to_numpy() == split))
    if not len(index):
        raise ValueError(f"{cache}: has no clips of the {split!r} split; {FAILURES} there lists what could not be read")
    return Clips(cache, split, index)


def is_cache(folder: Path) -> bool:
    """Whether ``folder`` is a cache; it is then complete."""
    return (folder / INDEX).is_file()


def read_failures(cache: Path) -> list[dict[str, str]]:
    """Return (path, reason) of each file of the manifest that is missing from the cache."""
    with (cache / FAILURES).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


class CacheWriter:
    """Writes clips, in any order, into an empty folder; it is a cache after `finish`.

    A shard is closed when it holds ``shard_bytes`` of pixels.
    """

    def __init__(self, folder: Path, shard_bytes: int = 1 << 30) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self._shards: dict[str, _Shard] = {}
        self._count: dict[str, int] = {}
        self._rows: dict[int, dict[str, str | int]] = {}

    def add(self, position: int, path: str, label: int, split: str, video: Video) -> None:
        """Append the clip that stands at ``position`` in the manifest."""
        shard = self._shards.get(split) or self._new_shard(split)
        frames, height, width = video.shape[:3]
        row = {"path": path, "label": label, "frames": frames, "height": height, "width": width}
        self._rows[position] = row | {"split": split, "shard": shard.name, "batch": shard.batches}
        shard.add(row, video)
        if shard.bytes >= self.shard_bytes:
            self._shards.pop(split).writer.close()

    def finish(self, failures: Sequence[dict[str, str]]) -> None:
        """Close the shards, and write the failures and the index, which makes it a cache."""
        for shard in self._shards.values():
            shard.writer.close()
        lines = [json.dumps(failure, ensure_ascii=False) + "\n" for failure in failures]
        (self.folder / FAILURES).write_text("".join(lines), encoding="utf-8")
        rows = [row for _, row in sorted(self._rows.items())]
        with pa.ipc.new_file(str(self.folder / INDEX), _INDEX_SCHEMA) as index:
            index.write_table(pa.Table.from_pylist(rows, schema=_INDEX_SCHEMA))

    def _new_shard(self, split: str) -> "_Shard":
        number = self._count[split] = self._count.get(split, -1) + 1
        shard = self._shards[split] = _Shard(self.folder, f"{split}-{number:05}.arrow")
        return shard


class _Shard:
    """A shard that is being written."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.batches, self.bytes = name, 0, 0
        self.writer = pa.ipc.new_file(str(folder / name), _SHARD_SCHEMA)

    def add(self, row: dict[str, str | int], video: Video) -> None:
        # The pixels go from the array to the file: a Python bytes object would be one more copy.
        ends = pa.py_buffer(np.array([0, video.nbytes], np.int64))
        data = pa.py_buffer(np.ascontiguousarray(video))
        pixels = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])
        columns = [pa.array([row[name]], type) for name, type in _CLIP.items()]
        self.writer.write_batch(pa.record_batch([*columns, pixels], schema=_SHARD_SCHEMA))
        self.batches += 1
        self.bytes += video.nbytes
