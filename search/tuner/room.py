"""How many trainings of a search may run at once, as nodes join and leave and as other jobs want the cluster too."""

import time

from cluster.autoscaling import Asking, has_autoscaler
from cluster.placement import Resources, node_resources, nodes_and_leaving_hosts
from cluster.sharing import Sharing, Wants
from search.tuner.state import Search

#: seconds between two looks at the cluster
INTERVAL = 2.0
#: seconds for which more trainings must run than may, before one of them is suspended: a node may come back; and
#: seconds after which a process without a training gives its resources back
GRACE = 10.0


class Room:
    """Sets `Search.slots`, and says when a training has to give its resources back.

    Args:
        search: the search.
        resources: the least that one of its trainings reserves.

    Raises:
        UserError: not even one training fits the cluster, and no autoscaler adds nodes to it.
    """

    def __init__(self, search: Search, resources: Resources) -> None:
        self._search, self._resources = search, resources
        self._sharing = Sharing()
        self._looked = self._fitted = self._started = time.monotonic()
        #: hosts of the nodes that are about to leave
        self._leaving: frozenset[str] = frozenset()
        self._asking = Asking() if has_autoscaler() else None
        nodes = node_resources()
        self._update(nodes, self._fitting(nodes) if self._asking else resources.concurrency(nodes))

    def _fitting(self, nodes: list[dict[str, float]]) -> int:
        return self._resources.places(nodes) // self._resources.workers

    def look(self, is_starting: bool) -> None:
        """Follow the cluster; what cannot be seen now stays as it was.

        Args:
            is_starting: whether a training waits for its process.
        """
        now = time.monotonic()
        if is_starting:
            self._started = now
        if now - self._looked >= INTERVAL:
            self._looked = now
            try:
                nodes, self._leaving = nodes_and_leaving_hosts()
                self._update(nodes, self._fitting(nodes))
            except Exception:  # the head does not answer; Ray ends this process if it never does again
                return
        if not self.is_exceeded:
            self._fitted = now

    def _update(self, nodes: list[dict[str, float]], fitting: int) -> None:
        wanted = self._search.spec.resources.concurrent
        more = self._asking.more(fitting) if self._asking else 0
        possible = fitting + more
        most = possible if wanted == "auto" else min(possible, wanted)
        share = self._sharing.share(Wants.of(self._resources, self._search.wanted(most)), nodes)
        self._search.slots = max(1, most if share is None else min(most, share))
        # What is left where fewer trainings run than could is for the workers of each.
        at_once = max(1, min(self._search.slots, self._search.wanted(self._search.slots)))
        self._search.workers = max(self._resources.workers, self._resources.places(nodes) // at_once)
        # Those that wait for further nodes bring GPUs of their own.
        gpus = sum(node.get("GPU", 0) for node in nodes) + more * self._resources.workers * self._resources.gpus
        self._search.shares.limit(gpus, None if share is None else self._search.slots)

    @property
    def is_exceeded(self) -> bool:
        """Whether more trainings run than may. Those that wait for a node hold nothing."""
        return len(self._search.ledger.history.running()) > self._search.slots

    @property
    def is_idle(self) -> bool:
        """Whether a process that has no training is not needed soon."""
        is_full = self._search.shares.count >= self._search.slots
        return self._started < self._looked and (is_full or time.monotonic() - self._started >= GRACE)

    def must_leave(self, host: str) -> str:
        """Return why a training on ``host`` has to give its resources back now; "" if it need not."""
        if host in self._leaving:
            return "its node is about to leave"
        if not self._leaving and self.is_exceeded and time.monotonic() - self._fitted >= GRACE:
            return "the cluster has become smaller, or another job wants its share of it"
        return ""

    def close(self) -> None:
        """Want nothing any more."""
        self._sharing.leave()
