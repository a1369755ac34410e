"""Nodes, a disk, MLflow and a search on this machine, for `tests.cluster.faults`.

All of it runs in namespaces of its own where this machine permits that: each node has its own network, and the output
of the search is on a file system of its own.
"""

import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import psutil
import yaml

from search.ledger.file import NAME as LEDGER
from tests.processes import free_port, wait_for
from tests.search.report.tracking.databases import programs
from tests.search.tuner.outages import mount, mount_read_only

#: environment variable: 1 if this process has namespaces of its own, 0 if none can be made
ISOLATED = "VATTN_FAULTS_ISOLATED"
#: words that give a command namespaces of its own; the shell that follows is their first process
NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
#: bytes of the file system of the output
DISK = 256 * 2**20
#: seconds in which a cluster or a server must have started
START = 300.0
#: beginnings of the titles that Ray gives to the processes of trials, while they train and between two results
TRIALS = ("ray::ResourceTrainable", "ray::InlineTrial")
#: a module that Python imports when it starts. libfaketime is of no use here: short sleeps fail with it.
CLOCK = """
import pathlib, time
_real, _ahead = time.time, pathlib.Path(__file__).with_name("ahead")
time.time = lambda: _real() + float(_ahead.read_text())
"""

Events = list[dict[str, Any]]


def isolated(words: Sequence[str]) -> list[str]:
    """Return a command that runs Python with ``words`` in namespaces of its own, or without where none can be made."""
    command = [sys.executable, *words]
    without = ["env", f"{ISOLATED}=0", *command]
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    shell = [NAMESPACES[0], *user, *NAMESPACES[1:], "sh", "-c"]
    probe = "mount -t tmpfs tmpfs /mnt && ip link set lo up && ip link add veth0 type veth peer name veth1"
    try:
        if subprocess.run([*shell, probe], capture_output=True, check=False).returncode:
            return without
    except FileNotFoundError:
        return without
    # The shell reaps the processes that lose their parent.
    return [*shell, f'export {ISOLATED}=1; ip link set lo up; "$@"; exit $?', "sh", *command]


def is_isolated() -> bool:
    return os.environ.get(ISOLATED) == "1"


def answers(address: str) -> bool:
    """Return whether something listens at HOST:PORT."""
    host, _, port = address.partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def cpus(address: str) -> tuple[float, float]:
    """Return the free CPUs and all CPUs of a cluster; no CPUs while it does not answer."""
    import ray  # it takes seconds

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        return ray.available_resources().get("CPU", 0.0), ray.cluster_resources().get("CPU", 0.0)
    except ConnectionError:  # its node is not ready yet
        return 0.0, 0.0
    finally:
        ray.shutdown()


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all of its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()


class Node:
    """A node of a Ray cluster, with a temp folder of its own, and where possible with a network of its own.

    Args:
        folder: an empty folder.
        number: 0 for the head, which has no CPU; the others have one.
        head: HOST:PORT of the head.
    """

    def __init__(self, folder: Path, number: int, head: str) -> None:
        folder.mkdir(parents=True)
        self.folder, self.number, host = folder, number, head.partition(":")[0]
        self._network: subprocess.Popen[bytes] | None = None
        words = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--block",
            "--disable-usage-stats",
            "--include-log-monitor=false",
            f"--temp-dir={folder}",
        ]
        if number == 0:
            words += ["--head", f"--port={head.partition(':')[2]}", "--num-cpus=0", "--include-dashboard=false"]
        else:
            words += [f"--address={head}", "--num-cpus=1"]
            if is_isolated():
                host = self._connect()
                words = ["nsenter", f"--net=/proc/{self._network_of}/ns/net", *words]
        # Ray deletes folders of others that share its own.
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*words, f"--node-ip-address={host}"], stdout=log, stderr=log, start_new_session=True
            )

    @property
    def _network_of(self) -> int:
        assert self._network
        return self._network.pid

    def _connect(self) -> str:
        """Make a network for the node, and return its address there."""
        self._network = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = Path("/proc/self/ns/net").readlink()
        wait_for(lambda: Path(f"/proc/{self._network_of}/ns/net").readlink() != own, START)
        host = f"10.77.0.{self.number + 1}"
        inside = ["nsenter", f"--net=/proc/{self._network_of}/ns/net"]
        for command in (
            ["ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(self._network_of)],
            ["ip", "link", "set", self.link, "master", "lab", "up"],
            [*inside, "ip", "address", "add", f"{host}/24", "dev", "eth0"],
            [*inside, "ip", "link", "set", "eth0", "up"],
            [*inside, "ip", "link", "set", "lo", "up"],
        ):
            subprocess.run(command, check=True)
        return host

    @property
    def link(self) -> str:
        """The name of its end of the cable."""
        return f"node{self.number}"

    def kill(self) -> None:
        kill(self.process)
        if self._network:
            kill(self._network)


class Server:
    """An MLflow server, with PostgreSQL or SQLite as its database.

    Args:
        folder: an empty folder.
        on_postgresql: whether its database is PostgreSQL.
    """

    def __init__(self, folder: Path, on_postgresql: bool) -> None:
        self._folder, self._port, self._database_port = folder, free_port(), free_port()
        self._on_postgresql, self._data, self._user = on_postgresql, folder, None
        self.process: subprocess.Popen[bytes] | None = None
        self.database: subprocess.Popen[bytes] | None = None
        self._store = f"sqlite:///{folder}/mlflow.db"

    def begin(self) -> None:
        """Make the database, and start."""
        self._folder.mkdir()
        if self._on_postgresql:
            # PostgreSQL refuses to run as root.
            self._user = "nobody" if os.geteuid() == 0 else None
            self._data = Path(tempfile.mkdtemp(prefix="faults-postgresql-"))
            if self._user:
                shutil.chown(self._data, self._user)
            words = [self._program("initdb"), "--auth=trust", "--username=mlflow", "--no-sync", "-D", self._data / "db"]
            subprocess.run(words, user=self._user, check=True, stdout=subprocess.DEVNULL)
            self._store = f"postgresql://mlflow@127.0.0.1:{self._database_port}/postgres"
            self.start_database()
        self.start()

    @staticmethod
    def _program(name: str) -> Path:
        binaries = programs()
        assert binaries
        return binaries / name

    def start_database(self) -> None:
        words = ["-D", self._data / "db", "-h", "127.0.0.1", "-p", str(self._database_port), "-k", self._data]
        with (self._folder / "postgresql.log").open("ab") as log:
            self.database = subprocess.Popen(
                [self._program("postgres"), *words], user=self._user, stdout=log, stderr=log, start_new_session=True
            )
        probe = [self._program("psql"), "-h", "127.0.0.1", "-p", str(self._database_port), "-U", "mlflow", "postgres"]
        wait_for(lambda: not subprocess.run([*probe, "-c", "SELECT 1"], capture_output=True).returncode, START)

    def start(self) -> None:
        words = ["server", "--workers", "1", "--host", "127.0.0.1", "--port", str(self._port)]
        with (self._folder / "mlflow.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words, "--backend-store-uri", self._store],
                cwd=self._folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: self.finished() is not None, START, "MLflow does not answer")

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def finished(self) -> int | None:
        """Return the number of finished runs of trials; None if the server does not answer."""
        with contextlib.suppress(Exception):
            _, runs = self._runs("attributes.status = 'FINISHED'")
            return sum("mlflow.parentRunId" in run.data.tags for run in runs)
        return None

    def epochs(self) -> int:
        """Return the number of epochs in all runs of trials; 0 if the server does not answer."""
        with contextlib.suppress(Exception):
            client, runs = self._runs()
            return sum(len(client.get_metric_history(run.info.run_id, "loss")) for run in runs)
        return 0

    def _runs(self, condition: str = "") -> tuple[Any, list[Any]]:
        from mlflow import MlflowClient  # it takes seconds

        client = MlflowClient(self.uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return client, client.search_runs(experiments, condition) if experiments else []

    def kill(self) -> None:
        if self.process:
            kill(self.process)

    def kill_database(self) -> None:
        if self.database:
            kill(self.database)

    def close(self) -> None:
        for process in (self.process, self.database):
            if process:
                kill(process)
        if self._on_postgresql:
            shutil.rmtree(self._data, ignore_errors=True)


class Lab:
    """A cluster and a search on it.

    Args:
        folder: an empty folder.
        spec: the search, without its output.
        nodes: number of nodes beside the head.
        server: ``mlflow`` or ``postgresql``: an MLflow server, and its database; "": the search's own database.
    """

    def __init__(self, folder: Path, spec: dict[str, Any], nodes: int, server: str = "") -> None:
        self.folder, self.output, self.disk = folder, folder / "out", folder / "disk"
        self.log = folder / "search.log"
        self._count, self._tree, self._wanted, self._server = 0, spec, nodes, server
        self.address = f"{'10.77.0.1' if is_isolated() else '127.0.0.1'}:{free_port()}"
        self.head: Node | None = None
        self.nodes: list[Node] = []
        self.server: Server | None = None
        self.search: subprocess.Popen[bytes] | None = None
        #: seconds by which the clock of the search is ahead
        self.ahead = 0.0
        #: the node whose network is cut
        self.cut: Node | None = None

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        if is_isolated():
            self._make_places()
        self._start_cluster(self._wanted)
        tree = self._tree | {"output": str(self.output)}
        if self._server:
            self.server = Server(self.folder / "mlflow", self._server == "postgresql")
            self.server.begin()
            tree |= {"tracking": {"uri": self.server.uri}}
        spec = self.folder / "spec.yaml"
        spec.write_text(yaml.safe_dump(tree))
        (self.folder / "clock").mkdir()
        (self.folder / "clock" / "sitecustomize.py").write_text(CLOCK)
        self.advance_clock(0)
        words = ["run", str(spec), "--address", self.address, "--restarts", "3"]
        paths = [str(self.folder / "clock"), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "search", *words]
            self.search = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    @property
    def has_ended(self) -> bool:
        """Whether the search has ended."""
        return self.search is None or self.search.poll() is not None

    def status(self, seconds: float) -> int:
        """Wait for the end of the search, and return its status."""
        assert self.search
        return self.search.wait(seconds)

    def said(self) -> str:
        """Return what the search has printed, in one line."""
        return self.log.read_text(errors="replace").replace("\n", " ")

    def _make_places(self) -> None:
        """Make the network that the nodes share, and the disk of the output."""
        subprocess.run(["ip", "link", "delete", "lab"], capture_output=True, check=False)
        for words in (
            "link add lab type bridge",
            "address add 10.77.0.1/24 dev lab",
            "link set lab up",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        self.disk.mkdir()
        self.output.mkdir()
        mount("-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", self.disk)
        (self.disk / "out").mkdir()
        self.attach()

    def attach(self) -> None:
        mount("--bind", self.disk / "out", self.output)

    def make_read_only(self) -> None:
        self.detach()
        mount_read_only(self.disk / "out", self.output)

    def detach(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.output)], check=True)

    def advance_clock(self, seconds: float) -> None:
        """Set the clock of the search forward, as Python sees it."""
        self.ahead += seconds
        part = self.folder / "part"
        part.write_text(str(self.ahead))
        part.replace(self.folder / "clock" / "ahead")

    def _node(self, is_head: bool = False) -> Node:
        self._count += 1
        return Node(self.folder / f"n{self._count}", 0 if is_head else self._count, self.address)

    def add_node(self) -> None:
        self.nodes.append(self._node())

    def _start_cluster(self, nodes: int) -> None:
        self.head = self._node(is_head=True)
        wait_for(lambda: answers(self.address), START, "the head does not answer")
        for _ in range(nodes):
            self.add_node()
        wait_for(lambda: self.cpus()[1] == nodes, START, "the nodes do not join")

    def restart_head(self) -> None:
        """Lose the head and with it the cluster; another one starts at its address, with as many nodes."""
        nodes = len(self.nodes)
        self._kill_nodes()
        self._start_cluster(nodes)

    def _kill_nodes(self) -> None:
        for node in [*([self.head] if self.head else []), *self.nodes]:
            node.kill()
        self.head, self.nodes = None, []

    def cpus(self) -> tuple[float, float]:
        """Return the free CPUs and all CPUs of the cluster; see `cpus`."""
        return cpus(self.address)

    def events(self) -> Events:
        ledger = (self.disk / "out" if is_isolated() else self.output) / LEDGER
        if not ledger.exists():
            return []
        text = ledger.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def checkpoint(self, number: int) -> Path:
        place = self.disk / "out" if is_isolated() else self.output
        return place / "trials" / f"{number:04d}" / "checkpoint.pt"

    def driver(self) -> psutil.Process:
        """Return the process that runs the search, a child of the one that watches it."""
        assert self.search
        return psutil.Process(self.search.pid).children()[0]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that train now."""
        found = []
        for node in self.nodes:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in psutil.Process(node.process.pid).children(recursive=True):
                    if (process.cmdline() or [""])[0].startswith(TRIALS):
                        found.append(process)
        return found

    def close(self) -> None:
        if self.search and self.search.poll() is None:
            self.search.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.search.wait(60)
            kill(self.search)
        self._kill_nodes()
        if self.server:
            self.server.close()
        if is_isolated():
            for place in (self.output, self.disk):
                subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)
