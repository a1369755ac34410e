"""Where the videos of a data set are decoded: on this machine, or on a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vattn.data import workers


@contextmanager
def decoding_on(address: str | None, jobs: int | None) -> Iterator[dict[str, Any]]:
    """Yield how many videos are decoded at the same time (``jobs``) and, on a cluster, by what (``run``).

    Args:
        address: the Ray cluster to connect to; None: this machine.
        jobs: number of videos; None: one per core.
    """
    if address is None:
        yield {"jobs": jobs or workers.cores()}
        return
    from cluster.connect import connected
    from cluster.ingest import run

    with connected(address) as cluster:
        yield {"jobs": jobs or int(cluster.get("CPU", 1)), "run": run}
