"""What a search does where its files cannot be read or written, and while its machine sleeps."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from search.ledger.events import Ended, Failed, Paused, Started
from search.ledger.file import NAME, Ledger, ReplacedError, read
from search.tuner import storage
from search.tuner.results import EpochResult, StorageResult
from search.tuner.storage import Storage
from tests.search.ledger.test_file import Events, written
from tests.search.tuner.test_state import TSM, end, searching, start


@contextmanager
def after(waiting: Storage, seconds: float, *steps: Callable[[], object]) -> Iterator[list[str]]:
    """Call the steps, in a thread, some time after ``waiting`` has said that it waits; yield what it says."""
    said: list[str] = []
    begins = threading.Event()

    def say(why: str, text: str) -> None:
        said.append(f"{why}: {text}")
        begins.set()

    def work() -> None:
        begins.wait()
        time.sleep(seconds)
        for step in steps:
            step()

    waiting.say = say
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield said
    thread.join()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "RETRY", 0.05)


def test_an_event_is_written_when_the_disk_is_back_and_the_wait_is_no_part_of_the_budget(
    tmp_path: Path, events: Events, quick: None
) -> None:
    folder, away = tmp_path / "disk", tmp_path / "away"
    folder.mkdir()
    ledger = Ledger(written(folder, events))
    waiting = Storage(ledger, tmp_path)
    active = ledger.history.active
    folder.rename(away)

    with after(waiting, 0.5, lambda: away.rename(folder)) as said:
        recorded = waiting.append(Started(trial=4, epoch=1))

    assert said[0] == f"files: {folder / NAME}: is not there; is its disk mounted?"
    assert [type(event) for event in recorded] == [Started, Paused]
    pause = recorded[1]
    assert isinstance(pause, Paused)
    assert 0.4 < pause.seconds < 5
    since = recorded[1].time - events[-1]["time"]
    assert ledger.history.active == pytest.approx(active + since - pause.seconds, abs=0.01)
    assert list(read(folder / NAME))[-2:] == recorded


@pytest.mark.parametrize(
    ("wall", "awake", "pause"), [(7200.0, 60.0, 7140.0), (60.0, 60.0, None), (-3600.0, 60.0, None)]
)
def test_time_in_which_the_machine_slept_is_left_out_of_the_budget_of_hours(
    wall: float, awake: float, pause: float | None, tmp_path: Path, events: Events
) -> None:
    ledger = Ledger(written(tmp_path, events))
    waiting = Storage(ledger, tmp_path)
    # The clock ran on by `wall` seconds, of which the machine was awake for `awake`.
    waiting._clocks = time.time() - wall, time.monotonic() - awake

    recorded = waiting.append(Ended(reason="budget"))

    pauses = [event for event in recorded if isinstance(event, Paused)]
    if pause is None:
        assert not pauses
    else:
        assert pauses[0].seconds == pytest.approx(pause, abs=1)
        assert pauses[0].reason == "the machine slept or its clock was set"
        assert len(waiting.append(Ended(reason="budget"))) == 1  # once


def test_an_interrupt_ends_the_wait_and_nothing_waits_again(tmp_path: Path, events: Events, quick: None) -> None:
    ledger = Ledger(written(tmp_path, events))
    (tmp_path / NAME).rename(tmp_path / "away")
    waiting = Storage(ledger, tmp_path)

    def interrupt() -> None:
        while not waiting.interrupted:  # one that arrives between two waits is Ray Tune's
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    before = signal.signal(signal.SIGINT, lambda *_: None)  # as Ray Tune's: it does not raise
    try:
        with after(waiting, 0.3, interrupt), pytest.raises(KeyboardInterrupt):
            waiting.append(Ended(reason="budget"))
    finally:
        signal.signal(signal.SIGINT, before)

    assert waiting.interrupted
    with pytest.raises(OSError, match="is not there"):
        waiting.append(Ended(reason="interrupted"))


def test_another_folder_in_the_place_of_the_output_ends_the_search(tmp_path: Path) -> None:
    with searching(tmp_path / "out", TSM) as search:
        number = start(search)
        assert number is not None
        (tmp_path / "out").rename(tmp_path / "away")
        with searching(tmp_path / "out", TSM):
            pass

        with pytest.raises(ReplacedError, match="is another ledger than the one that this search writes"):
            end(search, number)

        assert search.halt.startswith(f"{tmp_path / 'out' / NAME}: is another ledger")
        assert search.at_end()


def test_a_training_whose_files_cannot_be_read_is_started_again_when_they_can_be(tmp_path: Path, quick: None) -> None:
    with searching(tmp_path, TSM) as search:
        said: list[str] = []
        search.storage.say = lambda why, text: said.append(text)
        number = start(search)
        assert number is not None

        message = "checkpoint.pt: cannot be written: No space left on device; make room and go on with --resume"
        assert search.reported(number, StorageResult(message))

        assert said == ["checkpoint.pt: cannot be written: No space left on device; make room"]
        failed = list(read(tmp_path / NAME))[-1]
        assert isinstance(failed, Failed)
        assert not failed.final
        assert not search.at_end()
        # The clip cache is not there, so nothing starts until it is.
        cache = tmp_path / "cache"
        with after(search.storage, 0.5, cache.mkdir, (cache / "index.arrow").touch) as problems:
            assert start(search) == number
        assert problems[-1] == f"files: {cache}: is not there; is its disk mounted on this machine?"
        assert search.reported(number, EpochResult(epoch=1, metrics={"top1": 0.5}, seconds=1.0))
