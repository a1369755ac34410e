"""The number of workers of a training that follows the cluster.

Ray Train has elastic trainings too, but with any number of workers between two bounds, and it ends them within an
epoch. Here the workers share each batch evenly, so that the global batch and with it the training stay the same.
"""

import time
from typing import Any

import torch.distributed as dist

from cluster.failures import living_nodes, lost_nodes
from cluster.placement import Resources
from vattn.config import TrainConfig

#: seconds between two looks at the room for more workers; a training grows after two of them that agree: what another
#: training has just given back is usually taken again
LOOK = 30.0
#: seconds that a training waits for the number of workers that it wants, before it begins with fewer
SETTLING = 10.0


def free_nodes() -> list[dict[str, float]]:
    """Return what is free on each node that is alive and answers."""
    from ray._private import state

    nodes, available = living_nodes(), state.available_resources_per_node()
    lost = {*lost_nodes(nodes)}
    return [available[node] for node in nodes if node in available and node not in lost]


def as_many_as_fit(resources: Resources, train: TrainConfig, wanted: int = 0) -> Resources:
    """Wait for room, and return the resources with the number of workers that there is room for.

    Args:
        resources: bounds of the number of workers.
        train: the training, whose batch they share evenly.
        wanted: more than these are not used; 0: the most.
    """
    numbers = [n for n in resources.numbers(train) if n <= max(wanted or resources.most, resources.workers)]
    until = time.monotonic() + SETTLING
    while True:
        room = resources.places(free_nodes())
        fitting = [n for n in numbers if n <= room]
        if fitting and (fitting == numbers or time.monotonic() >= until):
            return resources.model_copy(update={"workers": fitting[-1]})
        time.sleep(1)


class Growth:
    """Says after an epoch whether a training should go on with more workers; for use by all of them.

    Args:
        resources: the workers that it has now, and the most that it may have.
        train: the training.
        world: number of its workers.
    """

    def __init__(self, resources: Resources, train: TrainConfig, world: int) -> None:
        self._resources, self._world = resources, world
        #: the numbers of workers that it may have; empty if it always has the same
        self.numbers = resources.numbers(train) if resources.most else []
        self._looked, self._seen = time.monotonic(), 0

    def is_due(self, rank: int) -> bool:
        """Return whether there has been room for more; the same on all workers."""
        if self._world >= max(self.numbers, default=0):
            return False
        decision: list[Any] = [self._look() if rank == 0 else None]
        if self._world > 1:
            dist.broadcast_object_list(decision)
        return decision[0]

    def _look(self) -> bool:
        if time.monotonic() - self._looked < LOOK:
            return False
        self._looked = time.monotonic()
        try:
            room = self._world + self._resources.places(free_nodes())
        except Exception:  # the head does not answer
            return False
        self._seen = self._seen + 1 if any(self._world < n <= room for n in self.numbers) else 0
        return self._seen >= 2
