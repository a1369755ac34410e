"""Client of a Ray cluster's job server, whose errors become one-line messages."""

import http.client
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from vattn.errors import UserError, without_password

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


#: seconds that a cluster may need after its start until its dashboard answers, and then until it takes jobs
START_TIMEOUT = 20.0
#: seconds until a dashboard must have answered
_ANSWER_TIMEOUT = 10.0
#: what Ray says while the part of a new cluster that runs jobs is not there yet
_NOT_READY = "No available agent"

_Result = TypeVar("_Result")


@contextmanager
def job_client(address: str, job: str = "", wait: float = 0.0) -> "Iterator[JobSubmissionClient]":
    """Yield a client of the cluster whose dashboard is at ``address``.

    A cluster with token authentication needs RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH in the environment of this
    process too. ``job`` is the id of the job that the caller uses, for the message if that job does not exist. ``wait``
    are the seconds during which it is tried again where nothing listens, as on a head that has just been started.

    Raises:
        UserError: the address is not that of a dashboard, no cluster answers there, or the cluster refuses.
    """
    if not address.startswith(("http://", "https://")):
        raise UserError(
            "must be that of the cluster's dashboard, such as http://HOST:8265",
            path="--address",
            found=without_password(address),
        )
    _must_answer(address, time.monotonic() + wait)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        yield JobSubmissionClient(address)
    except ConnectionError as error:
        raise UserError(
            "no Ray cluster answers",
            file=without_password(address),
            way_out=f"start it, or correct the address ({_first_line(error)})",
        ) from None
    except AuthenticationError as error:
        way_out = f"set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the cluster's token ({_first_line(error)})"
        raise UserError("authentication failed", file=without_password(address), way_out=way_out) from None
    except RuntimeError as error:
        if job and "404" in str(error):
            raise UserError(
                "no such job", file=job, way_out=f"see: vattn jobs --address {shlex.quote(without_password(address))}"
            ) from None
        raise UserError(_first_line(error), file=without_password(address)) from None


def _must_answer(address: str, end: float) -> None:
    """Raise UserError unless a web server answers at ``address``; until the time ``end`` it is tried again.

    Ray's client would wait for an answer without end.
    """
    while True:
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=_ANSWER_TIMEOUT).close()
        except urllib.error.HTTPError:
            return  # it answers: the client knows how to authenticate
        except (OSError, ValueError, http.client.HTTPException) as error:
            if time.monotonic() < end and isinstance(getattr(error, "reason", error), ConnectionRefusedError):
                time.sleep(1)
                continue
            raise UserError(
                "no Ray cluster answers",
                file=without_password(address),
                way_out=f"start it, or correct the address ({without_password(_first_line(error))})",
            ) from None
        else:
            return


def patiently(action: Callable[[], _Result]) -> _Result:
    """Return what ``action`` returns; try again while the cluster has just started and takes no jobs yet."""
    end = time.monotonic() + START_TIMEOUT
    while True:
        try:
            return action()
        except RuntimeError as error:
            if _NOT_READY not in str(error) or time.monotonic() > end:
                raise
        time.sleep(1)


def _first_line(error: Any) -> str:
    return str(error).strip().splitlines()[0]
