"""Whether a cluster gets more nodes for trainings that wait, and how many should wait for them.

What waits for an autoscaler are trainings themselves: their placement groups are demand that it sees, and that ends
with their job. `ray.autoscaler.sdk.request_resources` keeps nodes after the job has died, and has one request for all
jobs of a cluster.
"""

import json
import time

#: seconds for which trainings wait for further nodes before the search takes it that there will be none
WAIT = 900.0
#: beginning of the types that Ray invents for nodes that no autoscaler started
_NO_TYPE = "node_"


def has_autoscaler() -> bool:
    """Return whether an autoscaler looks after the cluster that this process is connected to.

    Each head runs one. Without a config, it only reports the nodes, each as a type of its own.
    """
    return any(not name.startswith(_NO_TYPE) for name in _node_types())


def _node_types() -> set[str]:
    import ray
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.experimental import internal_kv

    if is_autoscaler_v2():
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        return {node.ray_node_type_name for node in [*status.active_nodes, *status.idle_nodes]}
    text = internal_kv._internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    report = json.loads(text).get("autoscaler_report") if text else None
    return {*(report or {}).get("active_nodes", {})}


class Asking:
    """How many trainings wait for nodes that an autoscaler adds: as many as run already, so that the cluster doubles.

    When the number of trainings that fit has not changed for `WAIT` seconds, there are no further nodes to ask for,
    until it changes.
    """

    def __init__(self) -> None:
        self._fitting, self._since = -1, 0.0

    def more(self, fitting: int) -> int:
        """Return how many trainings should wait beside the ``fitting`` ones that the cluster has room for."""
        if fitting != self._fitting:
            self._fitting, self._since = fitting, time.monotonic()
        return max(1, fitting) if time.monotonic() - self._since < WAIT else 0
