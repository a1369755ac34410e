"""The file format of the clip cache.

A cache is one folder. It is complete from the moment it appears:

* ``shard-NNNNN.arrow``: an Arrow IPC file with one record batch for each clip: the clip's origin, number of frames,
  height, width, and its frames one after another, either raw uint8 RGB (height, width, 3) or JPEG, with the offset and
  the XXH3 hash of each frame;
* ``index.arrow``: one row for each clip in the order of the manifest: the same columns without the frames, and the
  clip's label, split, shard and batch; ``index.check``: the version of this format and the hash of the index;
* ``failures.jsonl``: the files that could not be read; ``concealed.jsonl``: the files that are damaged or
  incomplete, and are in the cache all the same. Both give the reasons.

The hash of a frame is checked each time the frame is read, so a change on disk after the file was opened is found too.
Nothing in a cache ever changes: any number of processes can read it, and no lock is needed.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt8, UInt64
from simplejpeg import decode_jpeg, decode_jpeg_header, encode_jpeg
from xxhash import xxh3_64_intdigest

INDEX = "index.arrow"
CHECK = "index.check"
FAILURES = "failures.jsonl"
CONCEALED = "concealed.jsonl"
#: Version of the format; increased when older caches can no longer be read.
VERSION = 3
#: Version of the code that reads files; increased when it reads some of them in another way. Caches are read all the
#: same, with a warning.
READER = 1
#: What each version before `READER` read in another way; earlier versions of a cache have no number, which counts as 0.
READ_OTHERWISE = ("images that EXIF turns, of 16 bits or damaged, mirrored videos, videos of several streams",)
#: Default JPEG quality, on libjpeg's scale of 0 to 100.
JPEG_QUALITY = 90

#: As `Origin.first`: the clip begins with the first frame that exists, and `Origin.last` is its number of frames.
COUNTED = -2

#: Caches of earlier versions lack the last one, the last two, or the last four.
ORIGIN_FIELDS = {
    "path": pa.string(), "first": pa.int64(), "last": pa.int64(), "size": pa.int64(), "modified": pa.int64(),
    "digest": pa.string(), "damage": pa.string(), "length": pa.int64(), "seconds": pa.float64(),
    "reader": pa.int32(), "times": pa.list_(pa.float64()),
}  # fmt: skip
SHAPE_FIELDS = {"frames": pa.int32(), "height": pa.int32(), "width": pa.int32()}
FRAME_FIELDS = {"ends": pa.list_(pa.int64()), "checks": pa.list_(pa.uint64()), "pixels": pa.large_binary()}
SHARD_SCHEMA = pa.schema(ORIGIN_FIELDS | SHAPE_FIELDS | FRAME_FIELDS)
_ROW_FIELDS = {"label": pa.int32(), "split": pa.string(), "shard": pa.string(), "batch": pa.int32()}
INDEX_SCHEMA = pa.schema(ORIGIN_FIELDS | SHAPE_FIELDS | _ROW_FIELDS)

Codec = Literal["raw", "jpeg"]
#: One RGB frame.
Frame = UInt8[np.ndarray, "h w 3"]
#: All RGB frames of a clip.
Video = UInt8[np.ndarray, "t h w 3"]


class Origin(NamedTuple):
    """Where a clip comes from: a file as it was when it was read."""

    path: str
    """below the root of the data set"""
    first: int = -1
    """number of the first frame; -1: the first of the file; `COUNTED`"""
    last: int = -1
    """number of the last frame, inclusive; -1: the last of the file"""
    size: int = -1
    """bytes"""
    modified: int = -1
    """time of the last change, nanoseconds since the epoch"""
    digest: str = ""
    """hash of the content"""
    damage: str = ""
    """what is damaged or missing in the file; empty where nothing is"""
    length: int = -1
    """number of frames before some were selected to be stored; -1: not known"""
    seconds: float = -1
    """length by the frame rate; -1: not known"""
    reader: int = 0
    """`READER` of the version that read the file"""
    times: Sequence[float] = ()
    """seconds from the first frame of a whole video to each frame and to the end of the last one; empty if the frame
    rate is constant, or not all frames are stored"""


class StoredClip(NamedTuple):
    """A clip as a shard stores it: frame i is ``pixels[ends[i] : ends[i + 1]]``, and ``checks[i]`` is its hash."""

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
        return cls._hashed(height, width, np.arange(frames + 1, dtype=np.int64) * (height * width * 3), pixels)

    @classmethod
    def jpeg(cls, frames: Iterable[Frame | bytes], quality: int = JPEG_QUALITY) -> Self:
        """Return a clip of JPEG frames; frames given as bytes are JPEG already and are stored unchanged."""
        encoded = [frame if isinstance(frame, bytes) else _to_jpeg(frame, quality) for frame in frames]
        height, width = map(int, decode_jpeg_header(encoded[0])[:2])
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return cls._hashed(height, width, ends, np.frombuffer(b"".join(encoded), np.uint8))

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> Self:
        """Return the clip of a shard's record batch, without copying it."""
        height, width = (batch.column(name)[0].as_py() for name in ("height", "width"))
        ends, checks, pixels = (batch.column(name).buffers()[-1] for name in FRAME_FIELDS)
        return cls(
            height,
            width,
            np.frombuffer(ends, np.int64),
            np.frombuffer(checks, np.uint64),
            np.frombuffer(pixels, np.uint8),
        )

    @classmethod
    def _hashed(cls, height: int, width: int, ends: np.ndarray, pixels: np.ndarray) -> Self:
        bounds = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        checks = [xxh3_64_intdigest(pixels[start:end].data) for start, end in bounds]
        return cls(height, width, ends, np.array(checks, np.uint64), pixels)

    def video(self, codec: Codec) -> Video:
        """Return the decoded frames."""
        pieces = [self.pixels[start:end] for start, end in pairwise(self.ends.tolist())]
        if codec == "jpeg":
            return np.stack([decode_jpeg(piece) for piece in pieces])
        return self.pixels.reshape(len(pieces), self.height, self.width, 3)

    @property
    def intact(self) -> bool:
        """Whether every frame has the hash with which it was written."""
        return bool((self._hashed(self.height, self.width, self.ends, self.pixels).checks == self.checks).all())


class Location(NamedTuple):
    """Where a cache stores a clip."""

    shard: str
    """name of the file"""
    batch: int
    """number of the record batch in that file"""
    shape: tuple[int, int, int]
    """(frames, height, width)"""
    origin: Origin

    @classmethod
    def from_batch(cls, shard: str, number: int, batch: pa.RecordBatch) -> Self:
        """Return the location of a shard's record batch, which is its ``number``-th."""
        names = [name for name in ORIGIN_FIELDS if name in batch.schema.names]
        origin = Origin(*(batch.column(name)[0].as_py() for name in names))
        frames, height, width = (batch.column(name)[0].as_py() for name in SHAPE_FIELDS)
        return cls(shard, number, (frames, height, width), origin)


def _to_jpeg(frame: Frame, quality: int) -> bytes:
    return encode_jpeg(np.ascontiguousarray(frame), quality, colorsubsampling="420")
