"""The address of a Ray cluster: which one is meant, and whether a cluster answers there."""

import os
import re
import socket
from dataclasses import dataclass

from cluster import local
from vattn.errors import UserError, without_password

#: seconds to wait for an answer at the address of a cluster
PROBE_TIMEOUT = 10.0
#: what a client of HTTP/2, and so of gRPC, sends first: its preface and an empty frame of settings
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_START_ONE = (
    "start one with: ray start --head, or, for one that asks for a token, set RAY_AUTH_MODE=token and "
    "RAY_AUTH_TOKEN_PATH"
)
_ITS_FORM = "name the port of the head, as in --address HOST:6379, or auto for a cluster on this machine"


@dataclass(frozen=True)
class ClusterAddress:
    """An address as `ray.init` takes it: ``local``, ``auto`` or ``HOST:PORT``.

    ``shown`` is the place where the user wrote it, and what they wrote, for messages.
    """

    text: str
    shown: str

    def error(self, rule: str, way_out: str = _START_ONE) -> UserError:
        """Return the error for this address."""
        return UserError(rule, path=self.shown, way_out=way_out)

    def probe(self) -> None:
        """Raise UserError unless a server of gRPC, as a cluster's head is, answers there within `PROBE_TIMEOUT`.

        `ray.init` would try for minutes, and would not listen to signals. Of a local cluster, it is checked whether it
        can be started.
        """
        if self.text == "local":
            local.check()
            return
        local.hide_token()
        host, port = _host_and_port(_of_this_machine(self) if self.text == "auto" else self.text) or (None, 0)
        if host is None:
            raise self.error("is not the address of a cluster's head", _ITS_FORM)
        try:
            with socket.create_connection((host, port), timeout=PROBE_TIMEOUT) as connection:
                if os.environ.get("RAY_USE_TLS", "0") in ("0", ""):
                    self._greet(connection)
        except TimeoutError:
            raise self.error(f"nothing answers there within {PROBE_TIMEOUT:g} seconds") from None
        except (OSError, OverflowError, UnicodeError) as error:
            raise self.error(f"no Ray cluster answers there ({error})") from None

    def _greet(self, connection: socket.socket) -> None:
        """Raise UserError unless the other side answers with a frame of settings, as each server of HTTP/2 must."""
        connection.sendall(_PREFACE)
        answer = b""
        while len(answer) < 9 and (more := connection.recv(9 - len(answer))):
            answer += more
        if len(answer) < 9 or answer[3] != 4:
            what = "a web server, such as the dashboard" if answer.startswith(b"HTTP/") else "no head of a cluster"
            raise self.error(f"what answers there is {what}", _ITS_FORM)


def resolve(address: str | None) -> ClusterAddress:
    """Return the address of the cluster that is meant.

    Args:
        address: what the user wrote. Without it, or with ``auto``: RAY_ADDRESS; without that, inside of a job the job's
            cluster, and otherwise a new local one.

    Raises:
        UserError: it is a URL.
    """
    from_environment = os.environ.get("RAY_ADDRESS", "")
    if address in (None, "", "auto") and from_environment:
        chosen = ClusterAddress(from_environment, f"RAY_ADDRESS={without_password(from_environment)}")
    elif address:
        chosen = ClusterAddress(address, f"--address {without_password(address)}")
    else:
        chosen = ClusterAddress("auto" if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") else "local", "--address auto")
    if "://" in chosen.text:
        raise chosen.error(
            "is a URL, and a search joins the cluster itself",
            f"{_ITS_FORM}; or send it as a job: vattn submit SPEC --address URL",
        )
    return chosen


def _of_this_machine(address: ClusterAddress) -> str:
    """Return HOST:PORT of the cluster that runs on this machine."""
    from ray._private import services

    try:
        return services.canonicalize_bootstrap_address("auto") or ""
    except ConnectionError:
        raise address.error("no Ray cluster runs on this machine") from None


def _host_and_port(text: str) -> tuple[str, int] | None:
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:/\s]+)):(\d{1,5})", text)
    return (found[1] or found[2], int(found[3])) if found else None
