"""The two kinds of error that are written for a user. Any other exception is a bug and shows its traceback."""

import re
from pathlib import Path

#: characters of a place or a value that a message shows
MAX_SHOWN_LENGTH = 1_000


class UserError(ValueError):
    """The user's input is wrong. A command prints this error as one line and ends with status 2.

    The line reads ``file: path: rule; way out (got found)``. Empty parts are left out.

    Args:
        rule: the rule that is broken, with its reason where that is not obvious.
        file: the file that contains the mistake.
        path: the place in that file or on the command line, as the user wrote it, such as ``trial.model.frames``.
        way_out: what the user can do.
        found: the value that was found.
    """

    def __init__(
        self, rule: str, *, file: Path | str | None = None, path: str = "", way_out: str = "", found: object = ""
    ) -> None:
        # Pickle calls the class with these arguments and then restores the attributes.
        super().__init__(rule)
        self.rule, self.file, self.path, self.way_out, self.found = rule, file, path, way_out, found

    def __str__(self) -> str:
        places = "".join(f"{shortened(place)}: " for place in (self.file, self.path) if place)
        way_out = f"; {self.way_out}" if self.way_out else ""
        found = "" if self.found is None or self.found == "" else f" (got {shortened(self.found)})"
        return f"{places}{self.rule}{way_out}{found}"


class StorageError(OSError):
    """A file cannot be read or written for a reason outside the program, such as a full disk.

    A command prints this error as one line, with the file and the way out, and ends with status 1.
    """


def shortened(value: object) -> str:
    """Return the text of a value, cut off after `MAX_SHOWN_LENGTH`: a file from a stranger can hold very long ones."""
    text = str(value)
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[:MAX_SHOWN_LENGTH]}..."


def without_password(text: str) -> str:
    """Return a text in which each password of a URL is replaced by stars: ``https://me:***@host``."""
    text = re.sub(r"(://[^/?#\s:@]*:)(?!\d+(?:[/?#\s]|$))[^\s]*@", r"\1***@", text)
    return re.sub(r"([?&](?:\w*password|passwd|pwd|\w*token|\w*secret)=)[^&\s]*", r"\1***", text, flags=re.IGNORECASE)
