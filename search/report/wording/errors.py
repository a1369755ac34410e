"""The line of an error message that matters."""


def first_line(error: str) -> str:
    """Return the first line of an error message, or the last line of a traceback, which names the error."""
    lines = [line for line in error.strip().splitlines() if line.strip()] or ["unknown"]
    return (lines[-1] if lines[0].startswith("Traceback") else lines[0]).strip()
