"""Names of clips, by which the clips of an RGB data set and those of its optical flow are matched."""

from pathlib import PurePosixPath

#: Suffixes of video files, lower case.
VIDEOS = frozenset(
    (
        ".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp", ".gif",
        ".3g2", ".asf", ".divx", ".f4v", ".m2ts", ".m2v", ".mpe", ".mpv", ".mts", ".mxf", ".ogv", ".qt", ".vob",
    )
)  # fmt: skip


def clip_name(path: str) -> str:
    """Return a path below the root without the suffix of a video: a folder of frames has the same name."""
    pure = PurePosixPath(path)
    return str(pure.with_suffix("")) if pure.suffix.lower() in VIDEOS else path
