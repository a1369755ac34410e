"""What a user sees while a search runs: a live table in a terminal, plain lines elsewhere, and a summary at the end."""

import shutil
import sys
from pathlib import Path

from search.ledger.events import Event

STATE_WORDS = {"stopped": "stopped early", "proposed": "waiting"}


def told_source(event: Event) -> str:
    """Return what a ``warm_start`` event says: what of an earlier search is of use, and what is not."""
    taken, left_out = len(event["trials"]), event["left_out"]
    left = "".join(f"; {count} left out: {reason}" for reason, count in left_out.items())
    differs = ", ".join(event["differs"][:5]) + (" and more" if len(event["differs"]) > 5 else "")
    return f"{event['source']}: {taken} of {taken + sum(left_out.values())} finished trials are of use{left}" + (
        f"; not as here: {differs}" if differs else ""
    )


def told_verdict(event: Event) -> str:
    """Return what a ``guard`` event says: whether an earlier search is believed."""
    so = "agrees with" if event["trusted"] else "does not agree any more with"
    then = "its trials are used from now on" if event["trusted"] else "its trials are left out from now on"
    return f"{event['source']} {so} the {event['trials']} finished trials here ({_agreement(event)}): {then}"


def told_belief(source: str, verdict: Event | None) -> str:
    """Return what came of an earlier search, by the last ``guard`` event on it; None where there was none."""
    if verdict is None:
        return f"{source} was not believed: nothing showed in time that its ranks are those of the trials here"
    so = "was believed" if verdict["trusted"] else "was no more believed"
    return f"{source} {so} after {verdict['trials']} finished trials here ({_agreement(verdict)})"


def _agreement(verdict: Event) -> str:
    return f"rank correlation at equal cost {verdict['correlation']:.2f}"


def clock(seconds: float) -> str:
    """Return seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def first_line(error: str) -> str:
    """Return what of an error says most: of a traceback its last line, else its first."""
    lines = [line for line in error.strip().splitlines() if line.strip()] or ["unknown"]
    return (lines[-1] if lines[0].startswith("Traceback") else lines[0]).strip()


def program() -> str:
    """Return how this program is called from where the user stands."""
    if shutil.which("vattn"):
        return "vattn"
    script = Path(sys.executable).with_name("vattn")
    if not script.exists():
        return "python -m search"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)
