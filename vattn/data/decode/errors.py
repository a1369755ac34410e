"""The error of a file that cannot be decoded, and the messages that FFmpeg logs."""

from collections.abc import Iterator
from contextlib import contextmanager

from vattn.errors import UserError


class UnreadableFileError(UserError):
    """A video, an image or a folder of frames cannot be decoded. The message is the reason, without the path."""


@contextmanager
def ffmpeg_errors() -> Iterator[list[str]]:
    """Yield a list that collects the errors that FFmpeg logs inside; it is complete after the ``with`` block."""
    import av.logging

    before, skipping = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # the number of repetitions would be logged while the next file is read
    errors: list[str] = []
    try:
        with av.logging.Capture() as logged:
            yield errors
        errors += [text.strip() for level, _, text in logged if level <= av.logging.ERROR]
    finally:
        av.logging.set_level(before)
        av.logging.set_skip_repeated(skipping)
