"""The client of a Ray cluster's job server, with its errors as one line each."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vattn.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


@contextmanager
def job_client(address: str, job: str = "") -> "Iterator[JobSubmissionClient]":
    """Yield a client of the cluster whose dashboard is at ``address``; raises UserError where the cluster refuses.

    A cluster with token authentication wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH in our environment too.
    ``job`` is the id that the caller asks for, for the message where there is no such job.
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
            "no Ray cluster answers", file=address, way_out=f"start it, or correct the address ({_line(error)})"
        ) from None
    except AuthenticationError as error:
        way_out = f"set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the cluster's token ({_line(error)})"
        raise UserError("authentication failed", file=address, way_out=way_out) from None
    except RuntimeError as error:
        if job and "404" in str(error):
            raise UserError("no such job", file=job, way_out=f"see: vattn jobs --address {address}") from None
        raise UserError(_line(error), file=address) from None


def _line(error: Any) -> str:
    return str(error).strip().splitlines()[0]
