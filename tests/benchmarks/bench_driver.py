"""Time that the driver of a search needs for each decision and for a resume, by the number of trials so far.

    python tests/benchmarks/bench_driver.py --work FOLDER [--trials 100 500 2000] [--samplers ...] [--schedulers ...]

Nothing is trained. The space is that of the recorded learning curves, with the learning rate as an additional range. A
trial reports the recorded curve of its network, shifted by the effect of its learning rate, with the sampling noise of
`CLIPS` validation clips. FOLDER keeps one ledger of trials that all ran to the end, because the driver has most data
then. Each search resumes from the beginning of that ledger, as after a crash, and proposes `TIMED_TRIALS` more trials
with the calls that Ray Tune makes; these calls are timed.

Times are CPU milliseconds of the driver's thread, median and 95th percentile, so that other processes on the machine do
not change them; in addition, a driver waits some milliseconds for the disk at each event. MLflow is written by a thread
of its own: one time is for writing everything, the other for reading everything when nothing is missing.
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
from search.report.live.display import Display
from search.report.tracking.tracker import Tracker
from search.report.why.facts import why
from search.spec.schema import Spec
from search.spec.validation import load
from search.tuner.results import EpochResult
from search.tuner.state import Search
from tests.benchmarks.problems import CURVES

#: a range with infinitely many values, so that there are always new configs
LR_RANGE = "trial.train.lr={float: [0.03, 0.3], log: true}"
SAMPLERS = ("random", "tpe", "nsga2", "frontier")
SCHEDULERS = {
    "halving": "{kind: halving, min_epochs: 1, reduction: 3}",
    "frontier": "{kind: frontier, min_epochs: 1}",
}
#: trials that run at the same time
WORKERS = 4
#: proposals of each search that are timed
TIMED_TRIALS = 20
#: validation clips that a recorded top-1 is the mean of
CLIPS = 480
#: milliseconds of each call, by what was called
Times = dict[str, list[float]]


def spec_of(sampler: str, scheduler: str) -> Spec:
    """Return the spec of a search; its budget of hours is never spent, but each proposal checks it."""
    sets = [LR_RANGE, f"search.sampler={{kind: {sampler}}}", f"search.scheduler={scheduler}"]
    return load(CURVES / "small.yaml", [*sets, "search.budget={trials: 1000000, hours: 1000000}"])


class RecordedCurves:
    """Generates the reports of trials from the recorded learning curves."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in pq.read_table(CURVES / "small.parquet").to_pylist():
            self._rows[row["architecture"]].append(row)

    def result(self, trial: Any) -> EpochResult:
        """Return the report of a trial after its next epoch; a pure function of its config and epoch."""
        noise, epoch = np.random.default_rng([int(trial.identity, 16), trial.epoch]), trial.epoch
        rows = self._rows[trial.architecture]
        row = rows[int(trial.identity, 16) % len(rows)]
        # A learning rate that is 3 times too large or too small makes the error a third larger.
        error = (1 - row["top1"][epoch]) * (1 + abs(math.log10(trial.config["train"]["lr"] / 0.1)) * 2 / 3)
        metrics = {"top1": noise.binomial(CLIPS, max(0.0, 1 - error)) / CLIPS, "loss": row["loss"][epoch]}
        return EpochResult(epoch + 1, metrics, row["seconds"][epoch])


@contextmanager
def timed(times: list[float], clock: Callable[[], float] = time.thread_time) -> Iterator[None]:
    """Append the milliseconds of the code in this context to ``times``."""
    began = clock()
    yield
    times.append(1000 * (clock() - began))


def drive(search: Search, spec: Spec, recorded: RecordedCurves, trials: int) -> Times:
    """Call a search as Ray Tune does until it has proposed this number of trials, and return the times of its calls."""
    history, times, running = search.ledger.history, defaultdict[str, list[float]](list), list[int]()
    scheduler = spec.search.scheduler
    while len(history.trials) < trials:
        while len(running) < WORKERS:
            with timed(times["proposal"]):
                task = search.next_task()
            assert task is not None
            running.append(task["number"])
            with timed(times["start"]):
                search.record(Started(trial=task["number"], epoch=history.trial(task["number"]).epoch, gpus=0))
        number = running.pop(0)
        result = recorded.result(history.trials[number])
        epochs = history.trials[number].epochs
        has_verdict = scheduler.kind == "frontier" or result.epoch in scheduler.rungs(epochs)
        last = result.epoch == epochs
        name = "last report" if last else "report with verdict" if has_verdict else "report"
        with timed(times[name]):
            ended = search.reported(number, result)
        if not ended:
            running.append(number)
    return times


def full_ledger(work: Path, trials: int, recorded: RecordedCurves) -> list[Event]:
    """Return the events of this number of trials, all run to the end; those that ``work`` has are not run again."""
    work.mkdir(parents=True, exist_ok=True)
    spec = spec_of("random", "none")
    with closing(Ledger(work / NAME)) as ledger:
        search = Search(spec, work, work, ledger, [])
        if not ledger.history.search:
            search.record(SearchBegan(id="driver", name=spec.name, spec=spec.tree(), versions={}))
        drive(search, spec, recorded, trials)
    return list(read(work / NAME))


def write_beginning(events: Sequence[Event], trials: int, spec: Spec, path: Path) -> None:
    """Write the events up to the proposal of this number of trials, as the ledger of a search with ``spec``."""
    with path.open("w") as file:
        for event in events:
            if isinstance(event, Proposed) and event.trial == trials:
                return
            if isinstance(event, SearchBegan):
                event = event.model_copy(update={"spec": spec.tree()})
            file.write(json.dumps(event.line()) + "\n")


def resumed_search(spec: Spec, path: Path, recorded: RecordedCurves, trials: int) -> Times:
    """Return the times of a search that resumes from the ledger at ``path``, which has this number of trials."""
    times = defaultdict[str, list[float]](list)
    with closing(Display(io.StringIO())) as display:
        with timed(times["resume"]):
            ledger = Ledger(path)
            search = Search(spec, path.parent, path.parent, ledger, [display])
            search.record(Resumed())
        with closing(ledger):
            return times | drive(search, spec, recorded, trials + TIMED_TRIALS)


def views(spec: Spec, path: Path) -> Times:
    """Return the times of the code that reads a whole search: front, live display, why, MLflow."""
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
        why(events, len(display._history.trials) // 2)
    for name in ("MLflow, written from scratch", "MLflow, complete already"):
        with timed(times[name], time.process_time):
            tracker = Tracker(path.parent)
            for event in events:
                tracker.apply(event)
            tracker.close(timeout=threading.TIMEOUT_MAX)
    return times


def row(search_kind: str, times_by_size: Sequence[Times], call: str) -> str:
    """Return a line of the table: what was timed, and its median and 95th percentile for each number of trials."""
    cells = [f"{np.median(times[call]):.1f} / {np.quantile(times[call], 0.95):.1f}" for times in times_by_size]
    return f"| {search_kind} | {call} | {' | '.join(cells)} |"


def table(work: Path, trials: Sequence[int], samplers: Sequence[str], schedulers: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the table as Markdown."""
    recorded = RecordedCurves()
    events = full_ledger(work, max(trials) + WORKERS, recorded)
    yield f"| search | ms, median / 95 % | {' | '.join(f'{count:,} trials' for count in trials)} |"
    yield "| --- " * (2 + len(trials)) + "|"

    def by_size(spec: Spec, measure: Callable[[Path, int], Times]) -> list[Times]:
        times = []
        for count in trials:
            with tempfile.TemporaryDirectory(dir=work) as folder:
                write_beginning(events, count, spec, Path(folder) / NAME)
                times.append(measure(Path(folder) / NAME, count))
        return times

    searches = [(sampler, "none") for sampler in samplers] + [(samplers[0], scheduler) for scheduler in schedulers]
    for sampler, scheduler in searches:
        spec = spec_of(sampler, SCHEDULERS.get(scheduler, scheduler))
        times_by_size = by_size(spec, lambda path, count, spec=spec: resumed_search(spec, path, recorded, count))
        calls = (
            ("report", "report with verdict")
            if scheduler != "none"
            else ("resume", "proposal", "report", "last report")
        )
        for call in calls:
            if all(times[call] for times in times_by_size):
                yield row(scheduler if scheduler != "none" else sampler, times_by_size, call)
    spec = spec_of(samplers[0], "none")
    times_by_size = by_size(spec, lambda path, count: views(spec, path))
    for call in times_by_size[0]:
        yield row("any", times_by_size, call)


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
