"""Show the page of a search on loopback, with what the ledger has at that moment."""

import signal
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from typing_extensions import override

from search.ledger.file import NAME
from search.report.page.build import page
from search.report.page.content import Content
from vattn.errors import UserError

#: A new page is made at most once in so many times the seconds that one takes.
_REST = 5
#: names of this machine by which a browser may ask; another name may be that of a foreign page
_HOSTS = ("127.0.0.1", "localhost")


class LivePage:
    """The page of the search in a folder, made anew when its ledger has grown.

    Args:
        folder: the output folder of the search.
        read: returns what the page shows now.
    """

    def __init__(self, folder: Path, read: Callable[[], Content]) -> None:
        self._ledger, self._read = folder / NAME, read
        self._lock = threading.Lock()
        self._version, self._text = "", ""
        self._until = 0.0

    def get(self) -> tuple[str, str]:
        """Return the version of the page and the page."""
        with self._lock:
            now = time.monotonic()
            status = self._ledger.stat()
            version = f"{status.st_size}-{status.st_mtime_ns}"
            if version != self._version and now >= self._until:
                self._text, self._version = page(self._read(), version), version
                self._until = time.monotonic() + _REST * (time.monotonic() - now)
            return self._version, self._text


def server_of(live: LivePage, port: int) -> ThreadingHTTPServer:
    """Return a server of a page on loopback. Raises UserError where the port cannot be listened on."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
            if host not in _HOSTS:
                return self._answer(403, "text/plain", "ask for 127.0.0.1")
            if self.path == "/version":
                return self._answer(200, "text/plain", live.get()[0])
            if self.path in ("/", "/index.html"):
                return self._answer(200, "text/html", live.get()[1])
            return self._answer(404, "text/plain", "there is one page, /")

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Print nothing for each request."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot be served on ({error})", path=f"--port {port}", way_out="name another") from None


def serve(live: LivePage, port: int, name: str) -> None:
    """Serve a page until Ctrl-C or SIGTERM."""
    live.get()
    with server_of(live, port) as server:
        print(f"{name} is at http://127.0.0.1:{server.server_port}; stop it with Ctrl-C", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return
