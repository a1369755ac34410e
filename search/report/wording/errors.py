"""The line of an error message that matters."""

import re


def first_line(error: str) -> str:
    """Return the first line of an error message, or the last line of a traceback, which names the error."""
    lines = [line for line in error.strip().splitlines() if line.strip()] or ["unknown"]
    return printable((lines[-1] if lines[0].startswith("Traceback") else lines[0]).strip())


def printable(text: str) -> str:
    """Return a text without control characters, with which a ledger from elsewhere could direct a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", text)
