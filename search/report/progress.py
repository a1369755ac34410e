"""What a user sees while a search runs: a live table in a terminal, plain lines elsewhere, and a summary at the end."""

import sys
import time

from search.report.words import clock

#: seconds between two lines of progress where there is no terminal
INTERVAL = 5.0


class _Progress:
    """Says on stderr how far a long preparation is: a bar in a terminal, a line every few seconds elsewhere."""

    def __init__(self) -> None:
        self._said: tuple[str, float] = ("", 0.0)
        self._began = (0.0, 0)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell that ``done`` of ``total`` parts of ``stage`` are done."""
        screen, now = sys.stderr, time.monotonic()
        terminal, ended = screen.isatty(), done >= total
        last_stage, last = self._said
        if stage == last_stage and not ended and now - last < (0.1 if terminal else INTERVAL):
            return
        self._said = ("" if ended else stage, now)
        if stage != last_stage:
            self._began = (now, done)
        pace = self._pace(now, done, total)
        if terminal:
            filled = 30 * done // max(total, 1)
            bar = f"\r{stage} [{'#' * filled}{' ' * (30 - filled)}] {done} of {total}{pace}\033[K"
            screen.write(bar + ("\n" if ended else ""))
        else:
            screen.write(f"{stage}: {done} of {total}{pace}\n")
        screen.flush()

    def _pace(self, now: float, done: int, total: int) -> str:
        """Return how many are done a second and the time left, once a second tells."""
        began, first = self._began
        if now - began < 1 or done == first:
            return ""
        rate = (done - first) / (now - began)
        return f", {rate:.3g}/s" + (f", {clock((total - done) / rate)} left" if done < total else "")


progress = _Progress()
