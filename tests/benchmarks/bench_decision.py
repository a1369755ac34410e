"""CPU time of a proposal of a sampler, by the number of trials so far, on spaces of several kinds.

    python tests/benchmarks/bench_decision.py --work FOLDER [--trials 100 500 2000 5000] [--cases NAME ...]
        [--sampler frontier] [--proposals 11] [--digest] [--profile FILE]

Nothing is trained. The ledger of each case has that number of random configs of its space with random accuracies, from
which nothing can be learned; the front of three objectives is long then. A search resumes from the ledger, as after a
crash, and proposes ``--proposals`` configs; before each proposal one trial ends, with a random accuracy. `WORKERS`
trials run all the time.

A row has the CPU seconds of the first proposal after the resume, which has to make all candidates, and the median and
the longest of the others: all that happens between the wish for a trial and its task, with the record in the ledger.
The next columns are the share of their time that `MANY` workers would wait for proposals of the median time, one after
the other, if trials took a minute or ten minutes: by a simulation in which the duration of a trial varies by a third.
``--digest`` adds a hash of the proposed configs, by which two versions of the code are compared.
"""

import argparse
import cProfile
import hashlib
import heapq
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml

from search.ledger.events import Event, Finished, Reported, SearchBegan, Started, Stopped
from search.ledger.file import NAME, Ledger
from search.proposals.trainings import proposed
from search.spec.schema import Spec
from search.spec.validation import parse
from search.tuner.results import EpochResult
from search.tuner.state import Search
from tests.benchmarks.tables import row, table

LIBRARY = Path(__file__).parents[2] / "spaces" / "library"
#: trials that run at the same time
WORKERS = 8
#: workers whose waiting is simulated, and trials of each
MANY = 64
ROUNDS = 50
#: share of the trials that were stopped early in the case with stopped trials
STOPPED = 0.6
#: draws of a config for each that is wanted, before a space counts as too small
DRAWS = 50
#: a range with infinitely many values, so that there are always new configs
LR: dict[str, Any] = {"float": [0.03, 0.3], "log": True}
STAGES: dict[str, Any] = {"subset": [2, 3, 4, 5]}
#: mechanisms with many ranges of their own
MECHANISMS: list[list[dict[str, Any]]] = [
    [],
    [{"kind": "tsm", "stages": STAGES, "div": {"choice": [4, 8]}}],
    [{"kind": "tam", "stages": STAGES, "alpha": {"choice": [1, 2, 4]}, "beta": {"choice": [2, 4, 8]},
      "kernel_size": {"choice": [3, 5]}}],
    [{"kind": "tea", "stages": STAGES, "reduction": {"choice": [2, 4, 8]}}],
    [{"kind": "action", "stages": STAGES, "reduction": {"choice": [2, 4, 8]}}],
    [{"kind": "m2a", "stages": STAGES, "reduction": {"choice": [2, 4, 8]}}],
    [{"kind": "tdn", "stages": {"subset": [3, 4, 5]}}],
    [{"kind": "se", "stages": STAGES, "reduction": {"choice": [2, 4, 8]}}],
    [{"kind": "c2d_tconv", "stages": STAGES}],
    [{"kind": "nonlocal", "stages": {"subset": [3, 4]}}],
    [{"kind": "tsm", "stages": STAGES}, {"kind": "se", "stages": STAGES, "reduction": 8}],
]  # fmt: skip


def library(name: str, **search: Any) -> dict[str, Any]:
    """Return a spec of the library, with a budget that is never spent and early stopping of none."""
    tree = yaml.safe_load((LIBRARY / f"{name}.yaml").read_text())
    tree["search"] = {"budget": {"trials": 1_000_000, "hours": 1_000_000}} | search
    return tree


def quickstart(**search: Any) -> dict[str, Any]:
    """Return the quickstart's spec with the learning rate as one more range."""
    tree = library("quickstart", **search)
    tree["trial"]["train"]["lr"] = LR
    return tree


def conditional() -> dict[str, Any]:
    """Return a space of eleven mechanisms with ranges of their own, several backbones and ranges of training."""
    tree = quickstart()
    model = tree["trial"]["model"] | {"attention": {"choice": MECHANISMS}}
    model["backbone"] = {
        "kind": "resnet",
        "depth": {"choice": [10, 18, 34]},
        "width": {"float": [0.125, 1.0], "step": 0.125},
    }
    train = {"weight_decay": {"float": [1e-5, 1e-3], "log": True}, "batch": {"choice": [16, 32, 64]}}
    tree["trial"] |= {"model": model, "train": tree["trial"]["train"] | train}
    return tree | {"constraints": {"gflops": {"max": 2.0}}}


def started() -> dict[str, Any]:
    """Return the quickstart with a prior and 40 start configs."""
    rng = random.Random(0)
    configs = [
        {"model.frames": frames, "train.lr": round(rng.uniform(0.03, 0.3), 6)} for frames in (4, 8) for _ in range(20)
    ]
    prior = {"model.attention": {"tsm": 4, "tam": 2}, "model.frames": {8: 2}, "train.lr": {"0.1..0.3": 3}}
    return quickstart(start=configs, prior=prior)


def three() -> dict[str, Any]:
    """Return the space of mechanisms with three objectives."""
    return conditional() | {"objectives": {"top1": "max", "gflops": "min", "params_m": "min"}}


def wide() -> dict[str, Any]:
    """Return that space without a limit, so that the costs differ more."""
    tree = three()
    del tree["constraints"]
    return tree


#: by name: the spec, and whether most of its trials were stopped early
CASES: dict[str, tuple[Callable[[], dict[str, Any]], bool]] = {
    "quickstart": (lambda: library("quickstart"), False),
    "quickstart, lr": (quickstart, False),
    "quickstart, lr, stopped": (quickstart, True),
    "prior, 40 starts": (started, False),
    "T-CNN": (lambda: library("tcnn"), False),
    "11 mechanisms": (conditional, False),
    "11 mechanisms, 3 objectives": (three, False),
    "11 mechanisms, 3 objectives, no limit": (wide, True),
}


def spec_of(case: str, sampler: str) -> Spec:
    """Return the spec of a case."""
    tree = CASES[case][0]()
    tree["search"]["sampler"] = {"kind": sampler, "seed": 0}
    if sampler != "frontier":
        tree["search"].pop("prior", None)
    tree["trial"]["train"]["epochs"] = 9
    tree["name"] = "decision"
    return parse(tree, Path("spec.yaml"))


def configs(spec: Spec, trials: int) -> Iterator[tuple[dict[str, Any], Any, dict[str, float]]]:
    """Yield that number of distinct configs within the limits, or those that there are: params, config, cost."""
    rng, seen = random.Random(0), set[str]()
    first = (spec.start(place) for place in range(len(spec.search.start)))
    draws = chain(first, (spec.space.sample(rng)[0] for _ in range(DRAWS * trials)))
    for params in draws:
        config = spec.trial_config(spec.space.replay(params))
        cost = spec.cost(config)
        key = json.dumps(config.tree(), sort_keys=True)
        if key in seen or spec.broken_limits(cost):
            continue
        seen.add(key)
        yield params, config, cost
        if len(seen) == trials:
            return


def events_of(spec: Spec, trials: int, has_stopped: bool) -> list[Event]:
    """Return the events of a search with that number of random trials; the last `WORKERS` are running."""
    rng = np.random.default_rng(0)
    events: list[Event] = [SearchBegan(id="decision", name=spec.name, spec=spec.tree(), versions={})]
    chosen = list(configs(spec, trials))
    for number, (params, config, cost) in enumerate(chosen):
        predicted = float(rng.uniform(0.2, 0.9))
        events.append(proposed(number, config, cost, params, why={"predicted_error": predicted}))
        events.append(Started(trial=number, epoch=0, gpus=0))
        epochs, last = config.train.epochs, float(rng.uniform())
        is_running = number >= len(chosen) - WORKERS
        ends = 3 if is_running or (has_stopped and rng.uniform() < STOPPED) else epochs
        for epoch in range(1, ends + 1):
            top1 = last * epoch / epochs
            metrics = {"top1": top1, "loss": 1 - top1}
            events.append(Reported(trial=number, epoch=epoch, metrics=metrics, seconds=1.0))
        if not is_running:
            end = Finished(trial=number, epoch=epochs, seconds=float(epochs))
            events.append(end if ends == epochs else Stopped(trial=number, epoch=ends, reason="drawn at random"))
    return events


def measured(spec: Spec, events: list[Event], folder: Path, proposals: int, profile: str | None) -> dict[str, Any]:
    """Return the CPU seconds of the resume and of each proposal, and the hash of what was proposed."""
    times, digest, rng = [], hashlib.sha256(), np.random.default_rng(1)
    with (folder / NAME).open("w") as file:
        for number, event in enumerate(events):
            file.write(json.dumps(event.model_copy(update={"time": 1e9 + number}).line()) + "\n")
    began = time.thread_time()
    with closing(Ledger(folder / NAME)) as ledger:
        search = Search(spec, folder, folder, ledger, [])
        resume = time.thread_time() - began
        running = [trial.number for trial in ledger.history.running()]
        search.slots = WORKERS
        search._waiting.clear()  # as if their processes went on
        for number in running:
            search.shares.reserve(number, 0)
        profiler = cProfile.Profile(time.thread_time) if profile else None
        for _ in range(proposals):
            number = running.pop(0)
            top1 = float(rng.uniform())
            for epoch in range(ledger.history.trial(number).epoch + 1, 10):
                search.reported(number, EpochResult(epoch, {"top1": top1 * epoch / 9, "loss": 1 - top1}, 1.0))
            began = time.thread_time()
            with profiler or nullcontext():
                task = search.next_task()
            times.append(time.thread_time() - began)
            if task is None:  # the space is exhausted
                times.pop()
                break
            running.append(task["number"])
            search.record(Started(trial=task["number"], epoch=0, gpus=0))
            digest.update(json.dumps(ledger.history.trial(task["number"]).params).encode())
        if profiler:
            profiler.dump_stats(profile or "")
        spent = {"trials": len(ledger.history.trials), "rejected": len(ledger.history.rejected)}
    return {"resume": resume, "times": times, "digest": digest.hexdigest()[:12]} | spent


def waiting(proposal: float, seconds: float) -> float:
    """Return the share of their time that `MANY` workers wait, where each proposal takes the driver ``proposal`` s."""
    rng = random.Random(0)
    free = [rng.uniform(0, seconds) for _ in range(MANY)]  # when each worker ends its trial
    heapq.heapify(free)
    driver = waited = trained = 0.0
    for _ in range(ROUNDS * MANY):
        asked = heapq.heappop(free)
        driver = max(driver, asked) + proposal
        duration = seconds * rng.uniform(2 / 3, 4 / 3)
        waited, trained = waited + driver - asked, trained + duration
        heapq.heappush(free, driver + duration)
    return waited / (waited + trained)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 500, 2000, 5000])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), metavar="NAME")
    parser.add_argument("--sampler", default="frontier")
    parser.add_argument("--proposals", type=int, default=11)
    parser.add_argument("--digest", action="store_true")
    parser.add_argument("--profile", metavar="FILE", help="of cProfile; it slows the proposals")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    table(
        "space", "trials", "first, s", "median, s", "longest, s", "resume, s", *(["digest"] if arguments.digest else [])
    )
    for case in arguments.cases:
        spec = spec_of(case, arguments.sampler)
        every = events_of(spec, max(arguments.trials), CASES[case][1])
        found = sum(event.event == "proposed" for event in every)
        for count in sorted({min(count, found) for count in arguments.trials}):
            events = every if count == found else events_of(spec, count, CASES[case][1])
            with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
                result = measured(spec, events, Path(folder), arguments.proposals, arguments.profile)
            times = result["times"]
            if len(times) > 1:
                median = float(np.median(times[1:]))
                row(case, f"{count:,}", f"{times[0]:.2f}", f"{median:.2f}", f"{max(times[1:]):.2f}",
                    f"{result['resume']:.1f}", f"{waiting(median, 60):.1%}", f"{waiting(median, 600):.2%}",
                    *([result["digest"]] if arguments.digest else []))  # fmt: skip
            else:
                row(case, f"{count:,}", "no config is left", "", "", f"{result['resume']:.1f}")


if __name__ == "__main__":
    sys.exit(main())
