"""How many trainings wait for an autoscaler, and that Ray's autoscaler adds nodes for them."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._private.services import get_node_ip_address
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

import cluster.autoscaling
from cluster.autoscaling import WAIT, Asking
from search.ledger.events import Failed, Finished, Started
from search.ledger.file import NAME, history, read
from tests.cluster.lab import kill
from tests.processes import free_port, wait_for
from tests.search.tuner.test_search import changed, check_complete

#: two nodes of one CPU at most, beside a head without any
CONFIG: dict[str, Any] = {
    "cluster_name": "fake",
    "max_workers": 2,
    "provider": {
        # Not "fake_multinode": its defaults are missing in Ray's wheel.
        "type": "external", "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "use_node_id_as_ip": True, "disable_node_updaters": True,
        "disable_launch_config_check": True, "launch_multiple": True, "head_node_id": FAKE_HEAD_NODE_ID,
    },
    "available_node_types": {
        "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1, "object_store_memory": 10**9}, "node_config": {}, "min_workers": 0,
                   "max_workers": 2},
    },
    "head_node_type": "ray.head.default",
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5,
    "auth": {}, "docker": {}, "file_mounts": {}, "file_mounts_sync_continuously": False, "cluster_synced_files": [],
    "rsync_exclude": [], "rsync_filter": [], "initialization_commands": [], "setup_commands": [],
    "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}  # fmt: skip
#: environment variables of the head with the second version of the autoscaler; Ray's launcher sets the type of the node
V2 = {
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    "RAY_NODE_TYPE_NAME": "ray.head.default",
}


def test_as_many_wait_as_run_until_no_node_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(cluster.autoscaling.time, "monotonic", lambda: now)
    asking = Asking()

    assert asking.more(0) == 1
    assert asking.more(2) == 2
    now += WAIT - 1
    assert asking.more(2) == 2
    now += 1
    assert asking.more(2) == 0
    # A node was lost: another one may come for it.
    assert asking.more(1) == 1
    now += WAIT
    assert asking.more(1) == 0
    assert asking.more(8) == 8


@pytest.fixture
def head(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a head with an autoscaler, whose nodes are processes of this machine."""
    folder, port = Path(tempfile.mkdtemp(prefix="scale-")), free_port()
    config = folder / "config.yaml"
    # Without its address, nodes would look for a head at the default port.
    at = {"gcs_address": f"{get_node_ip_address()}:{port}"}
    config.write_text(json.dumps(CONFIG | {"provider": CONFIG["provider"] | at}))
    words = ["start", "--head", "--block", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"]
    words += [f"--autoscaling-config={config}", f"--temp-dir={folder / 'ray'}"]
    environment = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_worker_niceness": "0"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), *words], stdout=log, stderr=log,
            env=os.environ | environment | request.param | {"RAY_AUTH_MODE": "disabled"},
        )  # fmt: skip
    address = re.compile(rf"--address='([^']+:{port})'")
    wait_for(lambda: address.search((folder / "log").read_text()), 300, "the head does not start")
    # Ray takes the address of this machine, whatever it is given.
    yield address.findall((folder / "log").read_text())[0]
    kill(process)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("head", [{}, V2], ids=["v1", "v2"], indirect=True)
def test_trials_that_wait_make_an_autoscaler_add_nodes(head: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    spec = changed({"output": str(output), "search": {"budget": {"trials": 4}}})
    spec["trial"]["train"] |= {"epochs": 120, "lr": {"float": [0.01, 0.1]}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    command = [sys.executable, "-m", "search", "run", str(tmp_path / "spec.yaml"), "--address", head, "--restarts", "3"]

    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
    )

    assert done.returncode == 0, done.stderr + done.stdout
    check_complete(history(output / NAME), trials=4, epochs=120)
    running, most = set[int](), 0
    for event in read(output / NAME):
        if isinstance(event, Started):
            running.add(event.trial)
        elif isinstance(event, Finished | Failed):
            running.discard(event.trial)
        most = max(most, len(running))
    assert most == 2
