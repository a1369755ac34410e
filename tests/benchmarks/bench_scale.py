"""How a search scales with its number of trials: trials per second, CPU, memory and bytes of its driver.

    python tests/benchmarks/bench_scale.py --work FOLDER [--trials 2000] [--cpus 64] [--nodes 4] [--sleep 4]

A real driver runs a search by Ray Tune on ``--nodes`` raylets of this machine, which together count ``--cpus`` CPUs. A
trial trains nothing: it sleeps for ``--sleep`` seconds, in ``--epochs`` epochs, and reports an accuracy drawn by its
identity. Everything else is that of `vattn run`: ledger, study, MLflow, display, signs of life. The space is that of
the recorded learning curves with the learning rate as an additional range.

Each row of the table is about the trials between the number of the row before and its own. Then MLflow's database is
removed and written anew, as `vattn ui` does. Sleeping processes need CPU too: on few real cores the rate is limited by
them, so the table has the CPU of the driver beside it. ``--profile FILE`` writes where the driver's main thread spends
its CPU time.
"""

import argparse
import cProfile
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import numpy as np

import search.tuner.tune as tuner
from search.ledger.events import Event, Finished, SearchBegan
from search.ledger.file import NAME, Ledger
from search.report.live.display import Display
from search.report.outside.monitor import Monitor
from search.report.tracking.tracker import Tracker, catch_up
from search.spec.schema import Spec
from search.tuner.state import Search
from tests.benchmarks.bench_driver import spec_of
from tests.benchmarks.tables import row, table


def sleeping(seconds: float, epochs: int) -> Any:
    """Return what Ray Tune runs for a trial: a process that sleeps, and is used again."""
    from ray import tune
    from ray.tune import PlacementGroupFactory

    class Sleeper(tune.Trainable):
        """Sleeps for an epoch."""

        def setup(self, config: dict[str, Any]) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.epoch, self.number = 0, new_config["number"]
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(seconds / epochs)
            self.epoch += 1
            top1 = float(np.random.default_rng([self.number, self.epoch]).uniform())
            metrics = {"top1": top1, "loss": 1 - top1, "top5": top1, "mean_class": top1}
            return {"epoch": self.epoch, "metrics": metrics, "seconds": seconds / epochs}

    return tune.with_resources(Sleeper, PlacementGroupFactory([{"CPU": 1}]))


@contextmanager
def cluster(nodes: int, cpus: int) -> Iterator[Callable[[], dict[str, float]]]:
    """Start raylets on this machine that count ``cpus`` CPUs together, and connect to them."""
    import logging

    import ray
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus // nodes, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            started.add_node(num_cpus=cpus // nodes)
        ray.init(address=started.address, log_to_driver=False, logging_level=logging.ERROR)
        yield lambda: {kind: float(amount) for kind, amount in ray.cluster_resources().items()}
    finally:
        ray.shutdown()
        started.shutdown()


class Meter:
    """Notes time, CPU and memory of this process whenever a trial finishes."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float, int]] = []

    def apply(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.rows.append((time.monotonic(), time.process_time(), time.thread_time(), memory()))


def memory() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def search_of(spec: Spec, output: Path, arguments: argparse.Namespace) -> None:
    """Run the search; print the table."""
    meter, size = Meter(), []
    tuner.trainable = lambda resources: sleeping(arguments.sleep, arguments.epochs)
    with (
        cluster(arguments.nodes, arguments.cpus) as joined,
        Monitor(output, spec) as monitor,
        closing(Ledger(output / NAME)) as ledger,
        closing(Tracker(output)) as tracker,
        (output / "screen.txt").open("w") as screen,
        closing(Display(screen)) as display,
    ):
        monitor.phase = "searches"
        search = Search(spec, output, output / "cache", ledger, [tracker, display, monitor, meter])
        search.record(SearchBegan(id=uuid.uuid4().hex, name=spec.name, spec=spec.tree(), versions={}))
        began = (time.monotonic(), time.process_time(), time.thread_time(), memory())
        profiler = cProfile.Profile(time.thread_time) if arguments.profile else None
        with profiler or nullcontext():
            tuner.tune_search(search, joined)
        if profiler:
            profiler.dump_stats(arguments.profile)
        size = [len(line) for line in (output / NAME).read_bytes().splitlines(keepends=True)]
        closing_began = time.monotonic()
    # The first trials wait for the start of all processes.
    marks = [arguments.cpus, *(n for n in (250, 500, 1000, 1500, 2000) if n < len(meter.rows)), len(meter.rows)]
    table(
        "trials", "trials/s", "CPU ms of the driver for a trial", "of its main thread", "memory of the driver (MB)",
        "ledger (kB)",
    )  # fmt: skip
    last, last_count = began, 0
    per_trial = sum(size) / len(meter.rows) / 1e3
    for count in marks:
        now = meter.rows[count - 1]
        trials = count - last_count
        row(
            f"{last_count + 1}-{count}", f"{trials / (now[0] - last[0]):.1f}",
            f"{1e3 * (now[1] - last[1]) / trials:.1f}", f"{1e3 * (now[2] - last[2]) / trials:.1f}",
            f"{now[3] / 1e6:.0f}", f"{count * per_trial:.0f}",
        )  # fmt: skip
        last, last_count = now, count
    first, end = meter.rows[arguments.cpus - 1], meter.rows[-1]
    rate = (len(meter.rows) - arguments.cpus) / (end[0] - first[0])
    print(f"\nafter the first {arguments.cpus}: {rate:.1f} trials/s; the end, mostly MLflow, took "
          f"{time.monotonic() - closing_began:.1f} s")  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="an empty or new folder")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--cpus", type=int, default=64)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--sleep", type=float, default=4.0, help="seconds of a trial")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--profile", metavar="FILE", help="of cProfile; it slows the driver")
    arguments = parser.parse_args()
    output = (arguments.work / "search").resolve()
    output.mkdir(parents=True)
    (output / NAME).touch()
    tree = spec_of(arguments.sampler, "none").tree()
    space = tree["trial"] | {"train": tree["trial"]["train"] | {"epochs": arguments.epochs}}
    spec = Spec.parse(tree | {
        "trial": space, "search": tree["search"] | {"budget": {"trials": arguments.trials}},
        "resources": {"cpus": 1},
    })  # fmt: skip
    print(f"{arguments.trials} trials of {arguments.sleep:g} s on {arguments.cpus} CPUs of {arguments.nodes} nodes, "
          f"sampler {arguments.sampler}; {os.cpu_count()} real cores, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    search_of(spec, output, arguments)
    for path in output.glob("mlflow.db*"):
        path.unlink()
    from search.ledger.file import read

    began, cpu = time.monotonic(), time.process_time()
    assert catch_up(output, "auto", "auto", read(output / NAME))
    print(f"MLflow written anew: {time.monotonic() - began:.1f} s, CPU {time.process_time() - cpu:.1f} s; "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
