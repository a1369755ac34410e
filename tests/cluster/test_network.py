"""Over which network interface the workers of a training are connected."""

import os

import psutil
import pytest
import ray.util

from cluster.network import INTERFACE, choose_interface

LOOPBACK = next(
    name for name, all_of in psutil.net_if_addrs().items() if any(each.address == "127.0.0.1" for each in all_of)
)


@pytest.mark.parametrize(
    ("node", "named", "chosen"),
    [("127.0.0.1", None, LOOPBACK), ("127.0.0.1", "ib0", "ib0"), ("203.0.113.7", None, None)],
)
def test_workers_use_the_interface_of_their_nodes_address_unless_the_user_names_one(
    node: str, named: str | None, chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: node)
    monkeypatch.setenv(INTERFACE, "")  # restored after the test
    del os.environ[INTERFACE]
    if named:
        os.environ[INTERFACE] = named

    choose_interface()

    assert os.environ.get(INTERFACE) == chosen
