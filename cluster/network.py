"""The network over which the workers of a training exchange gradients.

Gloo listens at the address that the host's name has. On Debian and Ubuntu that is 127.0.1.1 (`/etc/hosts`), and in many
containers 127.0.0.1, which workers on other nodes cannot reach: they wait, and then fail. The address of the node in
the Ray cluster is one that all nodes reach.
"""

import os
import socket
from typing import Any

import psutil
import ray.util
from ray.train.torch import TorchConfig

#: the variable with the name of the network interface that Gloo uses
INTERFACE = "GLOO_SOCKET_IFNAME"


def choose_interface() -> None:
    """Let Gloo use the network interface of this node's address in the Ray cluster, unless the user has named one."""
    node = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == node and each.family in (socket.AF_INET, socket.AF_INET6) for each in addresses):
            os.environ.setdefault(INTERFACE, name)


class NodeAddressConfig(TorchConfig):
    """`TorchConfig` whose workers are connected over the address of their node in the Ray cluster."""

    @property
    def backend_cls(self) -> type[Any]:
        """The class that connects the workers."""

        class Backend(super().backend_cls):
            def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
                worker_group.execute(choose_interface)
                super().on_start(worker_group, backend_config)

        return Backend
