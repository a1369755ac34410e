"""How long the driver of a search thinks, by how many trials there were before: each decision, and a resume.

    python tests/benchmarks/bench_driver.py --work FOLDER [--trials 100 500 2000] [--samplers ...] [--schedulers ...]

Nothing is trained. The space is that of the recorded learning curves with the rate as one more range; what a trial
reports is the curve of its network, moved by its rate, with the luck of so many validation clips. FOLDER keeps one
ledger of trials that all ran to their end, for then the driver knows most. Each search takes the beginning of it up, by
a resume as after a crash, and goes on for `AHEAD` trials by the calls that Ray Tune makes; these are timed.

Times are CPU milliseconds of the driver's thread, median and 95th percentile, so that what else runs on a machine does
not count; for the disk a driver waits some milliseconds more at each event. MLflow is written by a thread of its own:
its times are of all that it writes, and of all that it looks through where nothing is missing.
"""

import argparse
import io
import json
import math
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow.parquet as pq

from search.analysis.front import front_of
from search.ledger.events import Event, Proposed, Resumed, SearchBegan, Started
from search.ledger.file import NAME, Ledger, read
from search.report.display import Display
from search.report.tracking.tracker import Tracker
from search.report.why.facts import answer
from search.spec.schema import Spec
from search.spec.validation import load
from search.tuner.results import EpochResult
from search.tuner.state import Search
from tests.benchmarks.problems import CURVES

#: the rate is a range with no end of values, so that there are always new configs
RATE = "trial.train.lr={float: [0.03, 0.3], log: true}"
SAMPLERS = ("random", "tpe", "nsga2", "frontier")
SCHEDULERS = {
    "halving": "{kind: halving, min_epochs: 1, reduction: 3}",
    "frontier": "{kind: frontier, min_epochs: 1}",
}
#: trials at once, those of each search that are timed, and the clips that a recorded top-1 is the mean of
WORKERS, AHEAD, CLIPS = 4, 20, 480
Times = dict[str, list[float]]


def spec_of(sampler: str, scheduler: str) -> Spec:
    """Return the spec of a search; its budget of hours, which is never spent, has each proposal look at the clock."""
    sets = [RATE, f"search.sampler={{kind: {sampler}}}", f"search.scheduler={scheduler}"]
    return load(CURVES / "space.yaml", [*sets, "search.budget={trials: 1000000, hours: 1000000}"])


class Recorded:
    """The epochs of a trial, as they may have been."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in pq.read_table(CURVES / "curves.parquet").to_pylist():
            self._rows[row["architecture"]].append(row)

    def result(self, trial: Any) -> EpochResult:
        """Return what a trial reports after its next epoch; a pure function of its config."""
        luck, epoch = np.random.default_rng([int(trial.identity, 16), trial.epoch]), trial.epoch
        rows = self._rows[trial.architecture]
        row = rows[int(trial.identity, 16) % len(rows)]
        # A rate three times too large or too small costs a third of the error more.
        error = (1 - row["top1"][epoch]) * (1 + abs(math.log10(trial.config["train"]["lr"] / 0.1)) * 2 / 3)
        metrics = {"top1": luck.binomial(CLIPS, max(0.0, 1 - error)) / CLIPS, "loss": row["loss"][epoch]}
        return EpochResult(epoch + 1, metrics, row["seconds"][epoch])


@contextmanager
def timed(times: list[float], clock: Callable[[], float] = time.thread_time) -> Iterator[None]:
    """Add the milliseconds that something takes."""
    began = clock()
    yield
    times.append(1000 * (clock() - began))


def drive(search: Search, spec: Spec, recorded: Recorded, trials: int) -> Times:
    """Let a search run as Ray Tune does until so many were proposed; return how long it took to decide, by what."""
    history, times, running = search.ledger.history, defaultdict[str, list[float]](list), list[int]()
    scheduler = spec.search.scheduler
    while len(history.trials) < trials:
        while len(running) < WORKERS:
            with timed(times["proposal"]):
                task = search.next_task()
            assert task is not None
            running.append(task["number"])
            with timed(times["start"]):
                search.record(
                    Started(trial=task["number"], epoch=history.trial(task["number"]).epoch, gpus=0)
                )
        number = running.pop(0)
        result = recorded.result(history.trials[number])
        epochs = history.trials[number].epochs
        judged = scheduler.kind == "frontier" or result.epoch in scheduler.rungs(epochs)
        last = result.epoch == epochs
        name = "last report" if last else "report, judged" if judged else "report"
        with timed(times[name]):
            ended = search.reported(number, result)
        if not ended:
            running.append(number)
    return times


def grown(work: Path, trials: int, recorded: Recorded) -> list[Event]:
    """Return the events of so many trials that all ran to their end, from ``work`` where they are known already."""
    work.mkdir(parents=True, exist_ok=True)
    spec = spec_of("random", "none")
    with closing(Ledger(work / NAME)) as ledger:
        search = Search(spec, work, work, ledger, [])
        if not ledger.history.search:
            search.record(SearchBegan(id="driver", name=spec.name, spec=spec.tree(), versions={}))
        drive(search, spec, recorded, trials)
    return list(read(work / NAME))


def beginning(events: Sequence[Event], trials: int, spec: Spec, path: Path) -> None:
    """Write the ledger of a search that has proposed so many trials, as if it had always been by ``spec``."""
    with path.open("w") as file:
        for event in events:
            if isinstance(event, Proposed) and event.trial == trials:
                return
            changed = event.model_copy(update={"spec": spec.tree()}) if isinstance(event, SearchBegan) else event
            file.write(json.dumps(changed.line()) + "\n")


def measured(spec: Spec, path: Path, recorded: Recorded, trials: int) -> Times:
    """Return the times of a search that takes the ledger at ``path`` up."""
    times = defaultdict[str, list[float]](list)
    with closing(Display(io.StringIO())) as display:
        with timed(times["resume"]):
            ledger = Ledger(path)
            search = Search(spec, path.parent, path.parent, ledger, [display])
            search.record(Resumed())
        with closing(ledger):
            return times | drive(search, spec, recorded, trials + AHEAD)


def looks(spec: Spec, path: Path) -> Times:
    """Return the times of what looks at a whole search: pictures of it, and answers."""
    times = defaultdict[str, list[float]](list)
    events = list(read(path))
    with closing(Display(io.StringIO())) as display:
        for event in events:
            display.apply(event)
        for _ in range(5):
            with timed(times["front"]):
                front_of(display._history, spec.objectives)
            with timed(times["screen"]):
                display._screen()
    with timed(times["why"]):
        answer(events, len(display._history.trials) // 2)
    for what in ("MLflow, written anew", "MLflow, taken up"):
        with timed(times[what], time.process_time):
            tracker = Tracker(path.parent)
            for event in events:
                tracker.apply(event)
            tracker.close(timeout=threading.TIMEOUT_MAX)
    return times


def row(name: str, sizes: Sequence[Times], what: str) -> str:
    """Return a line of the table: what was timed, and for each size median and 95th percentile."""
    cells = [f"{np.median(times[what]):.1f} / {np.quantile(times[what], 0.95):.1f}" for times in sizes]
    return f"| {name} | {what} | {' | '.join(cells)} |"


def table(work: Path, trials: Sequence[int], samplers: Sequence[str], schedulers: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the table, Markdown."""
    recorded = Recorded()
    events = grown(work, max(trials) + WORKERS, recorded)
    yield f"| search | ms, median / 95 % | {' | '.join(f'{count:,} trials' for count in trials)} |"
    yield "| --- " * (2 + len(trials)) + "|"

    def each(spec: Spec, function: Callable[[Path, int], Times]) -> list[Times]:
        found = []
        for count in trials:
            with tempfile.TemporaryDirectory(dir=work) as folder:
                beginning(events, count, spec, Path(folder) / NAME)
                found.append(function(Path(folder) / NAME, count))
        return found

    searches = [(sampler, "none") for sampler in samplers] + [(samplers[0], scheduler) for scheduler in schedulers]
    for sampler, scheduler in searches:
        spec = spec_of(sampler, SCHEDULERS.get(scheduler, scheduler))
        sizes = each(spec, lambda path, count, spec=spec: measured(spec, path, recorded, count))
        names = ("report", "report, judged") if scheduler != "none" else ("resume", "proposal", "report", "last report")
        for what in names:
            if all(times[what] for times in sizes):
                yield row(scheduler if scheduler != "none" else sampler, sizes, what)
    spec = spec_of(samplers[0], "none")
    sizes = each(spec, lambda path, count: looks(spec, path))
    for what in sizes[0]:
        yield row("any", sizes, what)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--schedulers", nargs="*", choices=list(SCHEDULERS), default=list(SCHEDULERS))
    args = parser.parse_args()
    for line in table(args.work, args.trials, args.samplers, args.schedulers):
        print(line, flush=True)


if __name__ == "__main__":
    main()
