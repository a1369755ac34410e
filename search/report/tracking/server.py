"""`vattn ui`: MLflow's page for a search, served on this machine."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from contextlib import closing, suppress

from search.ledger.file import NAME, Ledger
from search.ledger.runs import open_folder
from search.report.tracking.store import ENVIRONMENT, store_of, tracking_uri
from search.report.tracking.tracker import catch_up
from search.report.tracking.view import link
from vattn.errors import UserError, without_password

#: environment variables of the server: only what goes wrong is printed
_QUIET = {"MLFLOW_LOGGING_LEVEL": "WARNING", "PYTHONWARNINGS": "ignore"}


def serve(search: str, port: int, uri: str | None = None) -> int:
    """Serve MLflow's page for a search on loopback until interrupted; return the exit status.

    It answers the user who started it (see `own_user`).

    The link to the search's runs is printed and opened when the page answers.

    What MLflow lacks is written first, unless another process runs the search and writes it. Results on a tracking
    server are shown by that server.

    Args:
        search: output folder or name of the search.
        port: port on loopback.
        uri: the MLflow store. None: the search's own database, the only one that a ledger can make this write to, as it
            can come from a stranger.

    Raises:
        UserError: there is no page to serve yet, the port is taken, or the search wrote to another store.
    """
    history, output = open_folder(search)
    tracking = {"uri": "auto", "experiment": "auto"} | (history.began.spec.get("tracking") or {})
    if uri is None and tracking["uri"] not in ("auto", tracking_uri("auto", output)):
        named = without_password(tracking["uri"])
        way_out = (
            f"name the store to write to: --tracking {shlex.quote(named)}, or --tracking auto for one in the folder"
        )
        raise UserError(f"its spec names another MLflow store, {named}", file=output / NAME, way_out=way_out)
    tracking["uri"] = uri or "auto"
    store = store_of(history, output, **tracking)
    store.refuse_links()
    try:
        with closing(Ledger(output / NAME)) as ledger:
            is_complete = catch_up(output, **tracking, events=ledger.replay())
    except (UserError, OSError):  # another process runs the search, or its folder is read-only
        is_complete = True
    if store.uri.startswith("http"):
        if not is_complete:
            return 1
        address = link(store.uri, store.experiment_of(history.began.id) or "0", history.began.id)
        print(f"the results are on the tracking server {without_password(store.uri)}: {address}")
        _open(address)
        return 0
    if not store.usable():
        raise UserError(
            "MLflow has no page to show there yet", file=without_password(store.uri), way_out="try again in a minute"
        )
    _must_be_free(port)
    base = f"http://127.0.0.1:{port}"
    print(f"starting MLflow for {output} ...", flush=True)
    experiment = store.experiment_of(history.began.id)
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "vattn", "--workers", "1"]
    # A header must not say where a request comes from.
    command += ["--uvicorn-opts", "--log-level warning --no-proxy-headers"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        # Each user of this machine sees the words of a command, and an address can hold a password.
        env=ENVIRONMENT | _QUIET | os.environ | {"MLFLOW_BACKEND_STORE_URI": store.uri},
        start_new_session=True,
    )
    try:
        while server.poll() is None and not _answers(port):
            time.sleep(0.1)
        if server.poll() is None:
            address = base if experiment is None else link(base, experiment, history.began.id)
            print(f"MLflow shows {output} at {address}\nstop it with Ctrl-C", flush=True)
            _open(address)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        # MLflow's server passes no signal on to the process that listens, so the whole process group is killed.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _open(address: str) -> None:
    """Open an address in the user's browser, where there is a screen; a browser in a terminal would hide the text."""
    if sys.platform == "darwin" or {"BROWSER", "DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        webbrowser.open(address)


def _must_be_free(port: int) -> None:
    """Raise UserError if the port cannot be listened on; MLflow would end without a message."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot be served on ({error})", path=f"--port {port}", way_out="name another") from None
