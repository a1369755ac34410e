"""Failures in words, and the line of an error message that matters."""

import re

from search.ledger.events import Cause, Failed

#: what happened to a training, by the cause
_CAUSES: dict[Cause, str] = {"node": "lost its node", "memory": "was ended, as its machine ran out of memory"}


def describe_failure(event: Failed) -> str:
    """Return what happened to a training, such as "lost its node; retrying"."""
    verb = "could not read or write its files" if event.cause == "files" else "failed"
    what = _CAUSES.get(event.cause, f"{verb}: {first_line(event.error)}")
    return f"{what}{'' if event.final else '; retrying'}"


def first_line(error: str) -> str:
    """Return the first line of an error message, or the last line of a traceback, which names the error."""
    lines = [line for line in error.strip().splitlines() if line.strip()] or ["unknown"]
    return printable((lines[-1] if lines[0].startswith("Traceback") else lines[0]).strip())


def printable(text: str) -> str:
    """Return a text without control characters, with which a ledger from elsewhere could direct a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", text)
