"""Messages about a search to a URL (`notify`), sent by a thread, so that the search never waits for a server."""

import base64
import json
import logging
import queue
import re
import threading
import urllib.request
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit

_logger = logging.getLogger(__name__)

#: seconds to wait for an answer
_TIMEOUT = 5.0
#: how often a message is sent at most, until a server takes it
_TRIES = 2
#: characters of a text in a message
_LENGTH = 500


class Notifier:
    """Sends messages as JSON to ``url``. Where no server takes one, a warning is logged, without the whole URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
        self._thread.start()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; return at once."""
        self._messages.put(message)

    def close(self) -> None:
        """Wait until the messages are sent, for as long as a dead server can take for one."""
        self._messages.put(None)
        self._thread.join(_TRIES * _TIMEOUT + 1)

    def _work(self) -> None:
        while (message := self._messages.get()) is not None:
            for tries_left in reversed(range(_TRIES)):
                try:
                    _post(self._url, message)
                    break
                except Exception as error:  # no error of a server may end a search
                    if not tries_left:
                        host = urlsplit(self._url).hostname
                        _logger.warning("notify: %s takes no message (%s); the search continues", host, kind_of(error))


def kind_of(error: Exception) -> str:
    """Return why a message was not taken, without the URL, which may be a secret."""
    if isinstance(error, HTTPError):
        return f"status {error.code}"
    reason = error.reason if isinstance(error, URLError) else error
    return (reason.strerror if isinstance(reason, OSError) and reason.strerror else type(reason).__name__).lower()


def _post(url: str, message: dict[str, Any]) -> None:
    parts, headers = urlsplit(url), {"Content-Type": "application/json", "User-Agent": "vattn"}
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(words.encode()).decode()}"
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(url, json.dumps(message).encode(), headers, method="POST")
    urllib.request.urlopen(request, timeout=_TIMEOUT).close()


def safe(text: str) -> str:
    """Return the first line of a text, shortened, and without the passwords of URLs."""
    line = next(iter(text.strip().splitlines()), "")
    return re.sub(r"//[^/@\s]*@", "//***@", line)[:_LENGTH]
