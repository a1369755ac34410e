"""The error of a file that cannot be decoded, and the messages that decoders write elsewhere."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from vattn.errors import UserError


class UnreadableFileError(UserError):
    """A video, an image or a folder of frames cannot be decoded. The message is the reason, without the path."""


@contextmanager
def ffmpeg_errors() -> Iterator[list[str]]:
    """Yield a list that collects the errors that PyAV's FFmpeg logs inside; it is complete after the ``with`` block."""
    import av.logging

    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    errors: list[str] = []
    try:
        with av.logging.Capture() as logged:
            yield errors
        # Logged errors go first: the first one is the cause of the others.
        errors[:0] = [text.strip() for level, _, text in logged if level <= av.logging.ERROR]
    finally:
        av.logging.set_level(before)


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Yield a list that collects what is written to standard error: decord reports damage nowhere else."""
    lines: list[str] = []
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(original, 2)
            os.close(original)
            file.seek(0)
            lines += file.read(1 << 16).decode(errors="replace").splitlines()
