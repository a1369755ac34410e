"""Client of a Ray cluster's job server, whose errors become one-line messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vattn.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


@contextmanager
def job_client(address: str, job: str = "") -> "Iterator[JobSubmissionClient]":
    """Yield a client of the cluster whose dashboard is at ``address``.

    A cluster with token authentication needs RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH in the environment of this
    process too. ``job`` is the id of the job that the caller uses, for the message if that job does not exist.

    Raises:
        UserError: the address is not that of a dashboard, no cluster answers there, or the cluster refuses.
    """
    if not address.startswith(("http://", "https://")):
        raise UserError(
            "must be that of the cluster's dashboard, such as http://HOST:8265", path="--address", found=address
        )
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        yield JobSubmissionClient(address)
    except ConnectionError as error:
        raise UserError(
            "no Ray cluster answers", file=address, way_out=f"start it, or correct the address ({_first_line(error)})"
        ) from None
    except AuthenticationError as error:
        way_out = f"set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the cluster's token ({_first_line(error)})"
        raise UserError("authentication failed", file=address, way_out=way_out) from None
    except RuntimeError as error:
        if job and "404" in str(error):
            raise UserError("no such job", file=job, way_out=f"see: vattn jobs --address {address}") from None
        raise UserError(_first_line(error), file=address) from None


def _first_line(error: Any) -> str:
    return str(error).strip().splitlines()[0]
