"""What the script of faults concludes from ledgers; and a run of it."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.faults import DIVERGED, FAULTS, PER_SEARCH, _diverged, check, decisions, deck, is_good, table
from tests.search.tuner.test_outages import has_namespaces

GOOD: dict[str, Any] = {"status": 0, "whole": True, "again": 0, "leaked": 0.0}


def event(kind: str, trial: int, time: float = 0, **fields: Any) -> dict[str, Any]:
    return {"event": kind, "trial": trial, "time": time} | fields


def test_a_trial_that_trains_after_its_end_and_one_that_failed_are_counted() -> None:
    diverged = event("failed", 3, error="the training loss is nan in epoch 1", final=True)
    events = [
        *(event("started", number, epoch=0) for number in range(4)), event("report", 0, epoch=1),
        event("finished", 0, epoch=1), event("report", 0, epoch=1), event("failed", 1, error="it died", final=False),
        event("failed", 2, error="it died", final=True), diverged,
    ]  # fmt: skip

    assert check(events) == {"finished": 1, "lost": 1, "again": 1}


def test_the_times_of_a_diverged_trial_are_without_a_step_of_the_clock() -> None:
    events = [
        event("started", 0, 5.0, epoch=0), event("paused", -1, 3606.0, seconds=3600.0),
        event("failed", 0, 3607.0, error="the training loss is nan in epoch 1", final=True),
        event("report", 1, 3609.5, epoch=1),
    ]  # fmt: skip

    assert list(_diverged(events)) == [{"fault": DIVERGED, "noticed": 2.0, "recovered": 4.5, "repeated": 0}]


def test_decisions_are_without_times_and_without_what_was_repeated() -> None:
    def events(time: float) -> list[dict[str, Any]]:
        return [
            event("proposed", 0, time, params={"lr": 0.1}), event("started", 0, time, epoch=0),
            event("report", 0, time, epoch=1, metrics={"top1": 0.5}, seconds=time), event("finished", 0, time, epoch=1),
        ]  # fmt: skip

    disturbed = [*events(2.0)[:2], event("failed", 0, error="it died", final=False), *events(2.0)[1:]]

    assert decisions(disturbed) == decisions(events(1.0))
    assert decisions(events(1.0)[:-1]) != decisions(events(1.0))


def test_each_kind_of_fault_comes_as_often_as_any_other() -> None:
    names = list(FAULTS)
    rounds = list[str]()
    for faults in deck(names, random.Random(1)):
        rounds += faults
        assert 0 < len(faults) <= PER_SEARCH
        assert sum(FAULTS[name].hangs for name in faults) <= 1
        if len(rounds) == 30 * len(names):
            break

    assert sorted(rounds) == sorted(names * 30)


def test_the_table_has_medians_worst_values_and_broken_rules() -> None:
    killed, *_ = FAULTS
    lines = [
        {"fault": killed, "noticed": seconds, "recovered": 10 * seconds, "repeated": 1} | GOOD
        for seconds in (1.0, 3.0, 2.0)
    ]
    lines += [{"fault": DIVERGED, "noticed": 1.0, "recovered": 2.0, "repeated": 0} | GOOD | {"again": 1}]
    lines += [{"fault": killed, "problem": "it is not noticed within 300 s"}]

    rows = list(table(lines))

    assert rows[2:4] == [
        f"| {killed} | 3 | 2.0, 3.0 | 20.0, 30.0 | 3 |",
        f"| {DIVERGED} | 1 | 1.0, 1.0 | 2.0, 2.0 | 0 |",
    ]
    assert rows[5:7] == ["5 faults; 2 of them in a search that broke a rule.", "it is not noticed within 300 s"]
    assert not is_good(lines[0] | {"equal": False})
    assert not is_good(lines[0] | {"leaked": 1.0})


@pytest.mark.ray
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not has_namespaces(), reason="this machine makes no namespaces")
def test_ten_faults_lose_and_repeat_nothing(tmp_path: Path) -> None:
    results = tmp_path / "faults.jsonl"
    command = [sys.executable, "-m", "tests.cluster.faults", "--faults", "10", "--quick", "--results", str(results)]

    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=1700, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr + done.stdout
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert sum(line["fault"] != DIVERGED for line in lines) == 10
    assert [line for line in lines if not is_good(line)] == []
