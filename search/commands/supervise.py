"""Runs a search in a process of its own, and continues it when that process is lost."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from search.ledger.file import NAME as LEDGER

#: environment variable: what is added to the exit status of `python -m search` where the command ended by itself. Ray
#: ends a process that has lost its head with status 1, from C++.
OFFSET = "VATTN_STATUS_OFFSET"
ENDED = 100
#: exit statuses of Python itself after which nothing is tried again: success, unknown options, an interruption
FINAL = (0, 2, 130)
#: the exit status where no cluster answers
REFUSED = 2
#: seconds between the end of a process and the start of the next one, in which a cluster or a disk may come back;
#: doubled with each that is lost without progress
PAUSE = 5.0
#: number of prctl's option by which a process gets a signal when its parent ends (Linux)
_PR_SET_PDEATHSIG = 1


def supervise(words: Sequence[str], output: Path, restarts: int) -> int:
    """Run `vattn run` until it ends by itself, and return its exit status.

    A process that was killed, such as for want of memory, or that has lost the head of its cluster, is followed by
    another one with ``--resume``. SIGINT and SIGTERM are passed on to it.

    Args:
        words: the words after `vattn`, with the command.
        output: the output folder of the search.
        restarts: how many processes may be lost one after the other without a finished epoch in between. One that finds
            no cluster after such a loss counts too. After one more the search has failed: the status is 1.
    """
    words, lost, epochs, is_again = list(words), 0, _epochs(output), False
    while True:
        status = _run(words)
        ended = status - ENDED if status >= ENDED and status not in FINAL else None
        if status in FINAL or (ended is not None and not (ended == REFUSED and is_again)):
            return status if ended is None else ended
        before, epochs = epochs, _epochs(output)
        lost = 0 if epochs > before else lost + 1
        if status < 0:
            what = f"was ended by signal {-status}"
        else:
            what = "found no cluster" if ended else f"ended with status {status}, as by the loss of its cluster"
        if lost > restarts:
            print(f"the process of the search {what}, for the {lost}th time without progress", file=sys.stderr)
            return 1
        print(f"the process of the search {what}; another one continues", file=sys.stderr, flush=True)
        time.sleep(PAUSE * 2**lost)
        is_again = True
        if (output / LEDGER).exists() and "--resume" not in words:
            words.append("--resume")


def _run(words: Sequence[str]) -> int:
    # In a session of its own: a signal to the group, as of Ctrl-C or `ray job stop`, comes once, from this process.
    process = subprocess.Popen(
        [sys.executable, "-m", "search", *words], start_new_session=True, preexec_fn=_end_with_parent,
        env=os.environ | {OFFSET: str(ENDED)},
    )  # fmt: skip
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


def _epochs(output: Path) -> int:
    """Return the number of epochs in a search's ledger; 0 if there is none."""
    try:
        return (output / LEDGER).read_bytes().count(b'{"event":"report"')
    except OSError:
        return 0
