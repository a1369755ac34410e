"""The clip cache: decoded clips in memory-mapped Arrow files, written once and shared by all trials.

`vattn.data.cache.format` describes the files; `CacheWriter` writes them, and `open_clips` opens them for reading.
"""

from vattn.data.cache.clips import Clips, open_clips
from vattn.data.cache.format import CONCEALED, FAILURES, Codec, Frame, Location, Origin, StoredClip, Video
from vattn.data.cache.index import content_of, is_cache, locations, read_failures, read_index, write_index
from vattn.data.cache.local import local_copy
from vattn.data.cache.writer import CacheWriter

__all__ = [
    "CONCEALED",
    "FAILURES",
    "CacheWriter",
    "Clips",
    "Codec",
    "Frame",
    "Location",
    "Origin",
    "StoredClip",
    "Video",
    "content_of",
    "is_cache",
    "local_copy",
    "locations",
    "open_clips",
    "read_failures",
    "read_index",
    "write_index",
]
