"""Hostile inputs end with status 2 and plain lines, or are accepted; they never end in a traceback, and run no code.

The fast tier tries some of each kind. All of them: ``pytest -m slow tests/search/hostile -s``, which prints how many.
"""

import contextlib
import io
import os
import pickle
import random
import resource
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from search.cli import main
from tests.search.hostile import inputs
from vattn.data import open_clips, prepare
from vattn.data.layouts.motion import MotionDataConfig
from vattn.errors import UserError
from vattn.training.state_file import read_state_file
from vattn.weights import read_state

GOOD = [path.read_bytes() for path in sorted((Path(__file__).parents[1] / "ledger" / "recorded").glob("*.jsonl"))]
#: CPU seconds of one input, after which it counts as a hang
LIMIT = 60


class HangsError(BaseException):
    pass


def report(kind: str, results: Counter[Any], wrong: list[str]) -> None:
    """Print how the inputs of a kind ended, and fail if any ended wrongly."""
    print(f"\n{kind}: {dict(results)}")
    assert not wrong, f"{len(wrong)} {kind}:\n" + "\n".join(text[-600:] for text in wrong[:12])


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise HangsError, which no command catches, after `LIMIT` CPU seconds."""

    def stop(*_: object) -> None:
        raise HangsError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def command(*words: object) -> tuple[int, str, str]:
    """Run a command in this process; return its status (-1: it hangs), standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with limited(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(map(str, words)))
    except HangsError:
        status = -1
    return status, out.getvalue(), err.getvalue()


def is_plain(text: str) -> bool:
    """Whether a message has neither a traceback, nor characters that direct a terminal, nor a line without end."""
    controls = any(ord(letter) < 32 and letter != "\n" for letter in text)
    return bool(text) and "Traceback" not in text and not controls and max(map(len, text.splitlines())) < 3_000


def check_specs(seeds: range, folder: Path) -> Counter[int]:
    statuses: Counter[int] = Counter()
    wrong, slowest, file = [], (0.0, 0), folder / "spec.yaml"
    for seed in seeds:
        file.write_bytes(inputs.spec(seed))
        began = time.process_time()
        status, _, err = command("check", file)
        slowest = max(slowest, (time.process_time() - began, seed))
        if not (status == 0 or (status == 2 and is_plain(err))):
            wrong.append(f"spec {seed}: status {status}\n{err}")
        statuses[status] += 1
    print(f"\nslowest spec: {slowest[0]:.1f} CPU s, seed {slowest[1]}")
    report("specs", statuses, wrong)
    return statuses


def check_ledgers(seeds: range, folder: Path) -> Counter[int]:
    statuses: Counter[int] = Counter()
    wrong, ledger = [], folder / "ledger.jsonl"
    for seed in seeds:
        ledger.write_bytes(inputs.ledger(seed, GOOD))
        for words in (["why", folder, "1"], ["pareto", folder]):
            status, _, err = command(*words)
            if not (status == 0 or (status == 2 and is_plain(err))):
                wrong.append(f"ledger {seed}: {words[0]}: status {status}\n{err}")
        statuses[status] += 1
        repaired, _, err = command("repair", folder, "--yes")
        if repaired == 0:
            status, _, err = command("pareto", folder)
            if status and "has not begun" not in err:
                wrong.append(f"ledger {seed} after its repair: status {status}\n{err}")
        elif repaired != 2 or "line 1" not in err:
            wrong.append(f"ledger {seed}: repair: status {repaired}\n{err}")
        for kept in folder.glob("ledger.jsonl.cut*"):
            kept.unlink()
    report("ledgers", statuses, wrong)
    return statuses


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.trace}'",)


def check_checkpoints(seeds: range, folder: Path) -> int:
    trace, file, refused = folder / "trace", folder / "model.pt", 0
    state = io.BytesIO()
    torch.save({"weight": torch.arange(6.0), "epoch": 3}, state)
    attack = io.BytesIO()
    torch.save({"weight": Attack(trace)}, attack)
    attacks = [attack.getvalue(), pickle.dumps(Attack(trace)), pickle.dumps({"state_dict": Attack(trace)}, protocol=0)]
    for seed in seeds:
        rng = random.Random(f"checkpoint {seed}")
        data = rng.choice([*attacks, state.getvalue()])
        file.write_bytes(data if seed < len(attacks) else inputs.damaged(data, rng))
        for read in (read_state, read_state_file):
            try:
                with limited():
                    read(file)
            except UserError:
                refused += 1
            except OSError:
                refused += 1
            assert not trace.exists(), f"checkpoint {seed} ran code"
    print(f"\ncheckpoints: {refused} of {2 * len(seeds)} readings refused")
    return refused


def check_caches(seeds: range, folder: Path) -> Counter[str]:
    config = MotionDataConfig(train_clips=1, val_clips=1, test_clips=1, frames=4, size=32)
    good = prepare(config, folder / "good", test=False)
    results: Counter[str] = Counter()
    wrong: list[str] = []
    cache = folder / "cache"
    for seed in seeds:
        rng = random.Random(f"cache {seed}")
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(good, cache)
        file = rng.choice(sorted(file for file in cache.rglob("*") if file.is_file() and file.stat().st_size))
        file.write_bytes(inputs.damaged(file.read_bytes(), rng))
        try:
            with limited():
                clips = open_clips(cache, "train")
                for number in range(len(clips)):
                    list(clips.frames(number, range(1)))
            results["read"] += 1
        except UserError as error:
            results["refused"] += 1
            if not is_plain(str(error)):
                wrong.append(f"cache {seed}: {error}")
        except BaseException:
            wrong.append(f"cache {seed}: {file.name}: {traceback.format_exc()}")
    report("caches", results, wrong)
    return results


@pytest.mark.medium
def test_some_hostile_specs(tmp_path: Path) -> None:
    statuses = check_specs(range(12), tmp_path)
    assert statuses[2]


@pytest.mark.medium
def test_some_hostile_ledgers(tmp_path: Path) -> None:
    statuses = check_ledgers(range(12), tmp_path)
    assert statuses[2]


def test_some_hostile_checkpoints(tmp_path: Path) -> None:
    assert check_checkpoints(range(20), tmp_path) >= 6


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_1500_hostile_specs(tmp_path: Path) -> None:
    assert check_specs(range(1_500), tmp_path)[2] > 500


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_1000_hostile_ledgers(tmp_path: Path) -> None:
    assert check_ledgers(range(1_000), tmp_path)[2] > 300


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_300_hostile_checkpoints(tmp_path: Path) -> None:
    assert check_checkpoints(range(300), tmp_path) > 100


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_200_hostile_caches(tmp_path: Path) -> None:
    results = check_caches(range(200), tmp_path)
    assert results["refused"] > 10
    # Memory (kB) is not allocated by a size that a file states.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 8_000_000
