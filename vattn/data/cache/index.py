"""Reads and writes the index of a clip cache, and the lists of files that could not be read."""

import json
from collections.abc import Iterable
from errno import EINVAL
from pathlib import Path
from typing import Any

import pyarrow as pa
from xxhash import xxh3_64_hexdigest

from vattn.base import identity
from vattn.data.cache.format import (
    CHECK,
    FAILURES,
    INDEX,
    ORIGIN_FIELDS,
    READ_OTHERWISE,
    READER,
    SHAPE_FIELDS,
    VERSION,
    Codec,
    Location,
    Origin,
)
from vattn.errors import StorageError, UserError
from vattn.files import replacing


def is_cache(folder: Path) -> bool:
    """Return whether ``folder`` is a clip cache; if so, it is complete."""
    return (folder / INDEX).is_file()


def read_index(cache: Path) -> pa.Table:
    """Return the index of a cache, one row for each clip (see `vattn.data.cache.format`).

    Raises UserError if the folder is no cache, has another version, or was altered, StorageError if it cannot be read.
    """
    if not is_cache(cache):
        raise UserError(f"is not a clip cache, which has a file {INDEX}", file=cache)
    check = (cache / CHECK).read_text(errors="replace") if (cache / CHECK).is_file() else "2 or earlier "
    version, _, digest = check.rpartition(" ")
    if version != str(VERSION):
        version = version[:20] if version[:20].isprintable() else "unknown"
        raise UserError(
            f"is a cache of version {version}, and only those of version {VERSION} can be read",
            file=cache,
            way_out="ingest again, and remove this one",
        )
    altered = UserError(
        "was altered or cut off", file=cache / INDEX, way_out="remove the folder, and it is written anew"
    )
    try:
        data = pa.memory_map(str(cache / INDEX)).read_buffer()
        if xxh3_64_hexdigest(data) != digest:
            raise altered
        index = pa.ipc.open_file(data).read_all()
        # The hash of an altered file can be right too, so its lengths and offsets are checked.
        index.validate(full=True)
    except OSError as error:
        if error.errno in (None, EINVAL):  # a damaged file; an empty one cannot be mapped
            raise altered from None
        raise StorageError(f"{cache / INDEX}: cannot be read: {error.strerror}; is its disk mounted?") from error
    except pa.ArrowException:
        raise altered from None
    return index


def write_index(cache: Path, rows: pa.Table, codec: Codec) -> None:
    """Write the index, one row for each clip; from now on the folder is a cache."""
    with replacing(cache / INDEX) as part:
        with pa.ipc.new_file(str(part), rows.schema.with_metadata({"codec": codec})) as index:
            index.write_table(rows)
        (cache / CHECK).write_text(f"{VERSION} {xxh3_64_hexdigest(pa.memory_map(str(part)).read_buffer())}")


def content_of(cache: Path) -> str:
    """Return the identity of the training and validation clips of a cache, by the content of their files.

    It does not depend on where the files lie, when they were changed, or how the cache stores their frames. "" for a
    cache of an earlier version that does not have it.
    """
    index = read_index(cache)
    if "digest" not in index.column_names:
        return ""
    columns = [index[name].to_pylist() for name in ("split", "path", "first", "last", "label", "digest")]
    return identity(sorted(map(list, {row for row in zip(*columns, strict=True) if row[0] in ("train", "val")})))


def locations(cache: Path) -> dict[tuple[str, int, int], Location]:
    """Return where each clip of a cache is stored, by its path, first and last frame."""
    index = read_index(cache)
    origins, shapes, places = (
        zip(*(index[name].to_pylist() for name in names if name in index.column_names), strict=True)
        for names in (ORIGIN_FIELDS, SHAPE_FIELDS, ("shard", "batch"))
    )
    clips = (
        Location(shard, batch, shape, Origin(*origin))
        for origin, shape, (shard, batch) in zip(origins, shapes, places, strict=True)
    )
    return {clip.origin[:3]: clip for clip in clips}


def read_otherwise(cache: Path) -> tuple[int, str]:
    """Return how many clips an earlier version decoded, and which files it read in another way than this one."""
    index = read_index(cache)
    if "reader" not in index.column_names:
        return len(index), "; ".join(READ_OTHERWISE)
    readers = index["reader"].to_numpy()
    earlier = int((readers < READER).sum())
    return earlier, "; ".join(READ_OTHERWISE[int(readers.min()) :]) if earlier else ""


def read_failures(cache: Path, name: str = FAILURES) -> list[dict[str, Any]]:
    """Return ``{"path": ..., "reason": ...}`` of each file that the cache lacks.

    With ``name`` = `CONCEALED`: of each file that is in the cache, but is damaged or incomplete.
    """
    with (cache / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_failures(cache: Path, name: str, lines: Iterable[dict[str, Any]]) -> None:
    """Write a list that `read_failures` reads."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (cache / name).write_text(text, encoding="utf-8")
