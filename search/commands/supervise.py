"""Runs a search in a process of its own, and continues it when that process is lost."""

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from search.ledger.file import NAME as LEDGER

#: exit statuses with which a search has said all that it has to say: success, an error that stays, an interruption
FINAL = (0, 1, 2, 130)
#: seconds between the end of a process and the start of the next one, in which a cluster or a disk may come back
PAUSE = 5.0
#: number of prctl's option by which a process gets a signal when its parent ends (Linux)
_PR_SET_PDEATHSIG = 1


def supervise(words: Sequence[str], output: Path, restarts: int) -> int:
    """Run `vattn run` until it ends by itself, and return its exit status.

    A process that was killed, such as for want of memory, is followed by another one with ``--resume``. SIGINT and
    SIGTERM are passed on to it.

    Args:
        words: the words after `vattn`, with the command.
        output: the output folder of the search.
        restarts: how many processes may be lost one after the other without a new line of the ledger in between. After
            one more the search has failed: the status is 1.
    """
    words, left, lines = list(words), restarts, _size(output)
    while True:
        status = _run(words)
        if status in FINAL:
            return status
        before, lines = lines, _size(output)
        left = restarts if lines > before else left - 1
        what = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        if left < 0:
            print(f"the process of the search {what}, for the {restarts + 1}th time without progress", file=sys.stderr)
            return 1
        print(f"the process of the search {what}; another one continues", file=sys.stderr, flush=True)
        time.sleep(PAUSE)
        if lines and "--resume" not in words:
            words.append("--resume")


def _run(words: Sequence[str]) -> int:
    # In a session of its own: a signal to the group, as of Ctrl-C or `ray job stop`, comes once, from this process.
    process = subprocess.Popen(
        [sys.executable, "-m", "search", *words], start_new_session=True, preexec_fn=_end_with_parent
    )
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, _: process.send_signal(number))
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _size(output: Path) -> int:
    """Return the bytes of a search's ledger; 0 if there is none."""
    try:
        return (output / LEDGER).stat().st_size
    except OSError:
        return 0
