"""Names of clips, by which the clips of an RGB data set and those of its optical flow are matched."""

import os
from pathlib import PurePosixPath

#: Suffixes of video files, lower case.
VIDEOS = frozenset(
    (
        ".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp", ".gif",
        ".3g2", ".asf", ".divx", ".f4v", ".m2ts", ".m2v", ".mpe", ".mpv", ".mts", ".mxf", ".ogv", ".qt", ".vob",
    )
)  # fmt: skip


def is_video(name: str) -> bool:
    """Return whether a file has the name of a video."""
    return os.path.splitext(name)[1].lower() in VIDEOS  # noqa: PTH122


def clip_name(path: str) -> str:
    """Return a path below the root without the suffix of a video: a folder of frames has the same name."""
    return str(PurePosixPath(path).with_suffix("")) if is_video(path) else path
