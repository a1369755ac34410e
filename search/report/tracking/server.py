"""MLflow: a search as one run with a child run a trial, rebuilt from the ledger wherever something is missing.

The only file that knows MLflow. It is a projection: nothing reads back what it writes, except to see what is there.
"""

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress

from search.ledger.file import NAME, Ledger
from search.ledger.runs import open_run, resolve_run
from search.report.tracking.store import ENVIRONMENT, store_of
from search.report.tracking.tracker import catch_up


def serve(search: str, port: int) -> int:
    """Serve MLflow's page for a search on loopback until interrupted; return the exit status.

    What is missing is written first, unless a process is at work on the search, which does so itself. Results on a
    tracking server are shown by that. Raises ValueError where there is no page to serve yet.
    """
    history, output = open_run(search), resolve_run(search)
    tracking = {"uri": "auto", "experiment": "auto"} | (history.began.spec.get("tracking") or {})
    store = store_of(history, output, **tracking)
    try:
        with closing(Ledger(output / NAME)) as ledger:
            caught_up = catch_up(output, **tracking, events=ledger.replay())
    except (ValueError, OSError):  # a process holds it, or it is in a folder that is only to be read
        caught_up = True
    if store.uri.startswith("http"):
        if caught_up:
            print(f"the results are on the tracking server {store.uri}")
        return 0 if caught_up else 1
    if not store.usable():
        raise ValueError(f"{store.uri}: MLflow has no page to show there yet; try again in a minute")
    _must_be_free(port)
    print(f"MLflow shows {output} at http://127.0.0.1:{port}; stop it by Ctrl-C", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri, "--workers", "1"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], env=ENVIRONMENT | os.environ, start_new_session=True
    )
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        # MLflow's server passes no signal on to the process that listens: the whole group must go.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def _must_be_free(port: int) -> None:
    """Raise ValueError where nothing can be served on a port of this machine; MLflow would end without a word."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise ValueError(f"--port {port}: cannot be served on ({error}); name another") from None
