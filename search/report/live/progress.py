"""The progress of a long preparation, such as decoding videos, on stderr."""

import sys
import time

from search.report.wording.values import format_duration

#: seconds between two lines where stderr is no terminal
INTERVAL = 5.0

#: seconds between two updates of the bar in a terminal
_REFRESH = 0.1


class _Progress:
    """Shows a bar in a terminal; elsewhere prints a line every `INTERVAL` seconds."""

    def __init__(self) -> None:
        self._stage = ""
        self._shown = 0.0
        self._began = (0.0, 0)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` parts of ``stage`` are done."""
        screen, now = sys.stderr, time.monotonic()
        is_terminal, ended = screen.isatty(), done >= total
        is_new = stage != self._stage
        if not is_new and not ended and now - self._shown < (_REFRESH if is_terminal else INTERVAL):
            return
        if is_new:
            self._began = (now, done)
        self._stage, self._shown = "" if ended else stage, now
        speed = self._speed(now, done, total)
        if is_terminal:
            filled = 30 * done // max(total, 1)
            bar = f"\r{stage} [{'#' * filled}{' ' * (30 - filled)}] {done} of {total}{speed}\033[K"
            screen.write(bar + ("\n" if ended else ""))
        else:
            screen.write(f"{stage}: {done} of {total}{speed}\n")
        screen.flush()

    def _speed(self, now: float, done: int, total: int) -> str:
        """Return the parts done per second and the time left; empty in the first second of a stage."""
        began, first = self._began
        if now - began < 1 or done == first:
            return ""
        rate = (done - first) / (now - began)
        return f", {rate:.3g}/s" + (f", {format_duration((total - done) / rate)} left" if done < total else "")


progress = _Progress()
