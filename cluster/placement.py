"""The CPUs and GPUs of trainings: how many fit a cluster, and how they are freed after a crash."""

from pathlib import Path

import ray.util

from vattn.base import Config
from vattn.errors import UserError

#: file in a training's folder with the id, in hexadecimal, of the placement group of its workers
GROUP_FILE = "placement_group"


class Resources(Config):
    """The resources of one training: its number of workers, and the CPUs (torch threads) and GPUs of each worker."""

    workers: int
    cpus: int
    gpus: float

    def concurrency(self, cluster: dict[str, float]) -> int:
        """Return how many trainings fit at once on a cluster with these resources, such as ``{"CPU": 8.0}``.

        Raises:
            UserError: the cluster is too small for one training.
        """
        need = {"CPU": self.workers * self.cpus, "GPU": self.workers * self.gpus}
        fits = min(int(cluster.get(kind, 0) // amount) for kind, amount in need.items() if amount)
        if fits < 1:
            takes = ", ".join(f"{amount:g} {kind}s" for kind, amount in need.items() if amount)
            has = ", ".join(f"{cluster.get(kind, 0):g} {kind}s" for kind in need)
            raise UserError(
                f"one training takes {takes}, more than the whole cluster has ({has})",
                path="resources",
                way_out="lower workers, cpus or gpus",
            )
        return fits


def record_group(folder: Path) -> None:
    """Write the id of this worker's placement group into ``folder``, for `release`."""
    group = ray.util.get_current_placement_group()
    if group:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GROUP_FILE).write_text(group.id.hex())


def release(folder: Path) -> None:
    """Free the CPUs and GPUs of the workers that trained into ``folder``, whose driver was stopped or has died.

    Ray itself removes a placement group only at the end of the job that created it.
    """
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    file = folder / GROUP_FILE
    if file.exists():
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(file.read_text()))))
        file.unlink()
