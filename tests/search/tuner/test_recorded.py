"""A search that version 0.1.0 recorded goes on in this version: the same decisions, a resume, a warm start."""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.analysis.front import on_front
from search.ledger.events import Event, Finished, Proposed, Reported, SearchBegan, Started, Stopped, WarmStarted
from search.ledger.file import NAME, Ledger, history, read
from search.proposals.warm_start import read_sources
from search.spec.validation import parse
from search.tuner.results import EpochResult
from search.tuner.state import Search
from tests.vattn_command import vattn
from vattn.config import TrialConfig

RECORDED = Path(__file__).parents[1] / "ledger" / "recorded"


def recorded_events(name: str) -> list[Event]:
    return list(read(RECORDED / f"{name}.jsonl"))


def recorded_spec(name: str) -> dict[str, Any]:
    """Return the spec of a recorded search as plain values."""
    return json.loads((RECORDED / f"{name}.jsonl").read_text().splitlines()[0])["spec"]


def copy(name: str, folder: Path) -> None:
    """Make ``folder`` the output folder of a recorded search, of which only the ledger is left."""
    folder.mkdir(parents=True)
    shutil.copyfile(RECORDED / f"{name}.jsonl", folder / NAME)


def run(spec: dict[str, Any], folder: Path, first: Sequence[Event], result: Callable[[int, int], Any]) -> list[Event]:
    """Run a search without Ray, one trial at a time; return its events.

    ``first`` are its events before the first proposal, and ``result`` returns the metrics and seconds that a trial
    reports after an epoch.
    """
    with closing(Ledger(folder / NAME)) as ledger:
        search = Search(parse(spec, Path("spec.yaml")), folder, folder, ledger, [])
        for event in first:
            search.record(event)
        while task := search.next_task():
            number, epoch, ended = task["number"], 0, False
            search.folder(number).mkdir(parents=True, exist_ok=True)
            search.record(Started(trial=number, epoch=0, gpus=0.0))
            while not ended:
                epoch += 1
                metrics, seconds = result(number, epoch)
                ended = search.reported(number, EpochResult(epoch, metrics, seconds))
            (search.folder(number) / "model.pt").touch()
    return list(read(folder / NAME))


def decisions(events: list[Event]) -> list[dict[str, Any]]:
    """Return the events without those of processes and without times; configs with options that were added since."""
    lines = [event.line() | {"time": 0} for event in events if event.event not in ("ended", "resumed")]
    for line in lines:
        if line["event"] == "proposed":
            line["config"] = TrialConfig.parse(line["config"]).tree()
    # An interrupted process has started a trial, and the next process starts it again.
    return [line for n, line in enumerate(lines) if n == 0 or line != lines[n - 1]]


@pytest.mark.parametrize("name", ["earlier", "rich"])
def test_with_the_recorded_results_a_search_decides_as_recorded(name: str, tmp_path: Path) -> None:
    recorded = recorded_events(name)
    assert isinstance(recorded[0], SearchBegan)
    if recorded[0].versions["optuna"] != version("optuna"):
        pytest.skip("another version of Optuna may propose other configs")
    results = {(e.trial, e.epoch): (e.metrics, e.seconds) for e in recorded if isinstance(e, Reported)}
    first = [event for event in recorded if isinstance(event, SearchBegan | WarmStarted)]

    again = run(recorded_spec(name), tmp_path, first, lambda trial, epoch: results[trial, epoch])

    assert decisions(again) == decisions(recorded)


def test_an_earlier_search_is_read_for_a_warm_start_as_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy("earlier", tmp_path / "runs" / "earlier")
    monkeypatch.chdir(tmp_path)

    (source,) = read_sources(parse(recorded_spec("rich"), Path("spec.yaml")), {})

    (recorded,) = [event for event in recorded_events("rich") if isinstance(event, WarmStarted)]
    read_again = source.line() | {"time": recorded.time}
    assert json.dumps(read_again) == json.dumps(recorded.line())


def test_a_recorded_search_warm_starts_a_new_one(tmp_path: Path) -> None:
    copy("rich", tmp_path / "rich")
    spec = recorded_spec("rich")
    spec["search"] |= {"warm_start": [str(tmp_path / "rich")], "confirm": "none", "inherit": "none"}
    sources = read_sources(parse(spec, Path("spec.yaml")), {})
    first = [SearchBegan(id="new", name="new", spec=spec), *sources]
    earlier = history(RECORDED / "rich.jsonl")

    events = run(spec, tmp_path / "new", first, lambda trial, epoch: ({"top1": trial / 100}, 1.0))

    proposals = [event for event in events if isinstance(event, Proposed)]
    assert len(proposals) == spec["search"]["budget"]["trials"]
    # Trials of the front that the earlier search itself measured are trained again.
    front = {trial.identity for trial in on_front(earlier.in_state("finished"), earlier.objectives)}
    repeated = {event.identity for event in proposals if "earlier" in (event.why or {})}
    assert repeated
    assert repeated <= front


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_an_interrupted_search_is_resumed_to_its_end_from_its_ledger_alone(tmp_path: Path) -> None:
    output = tmp_path / "interrupted"
    copy("interrupted", output)
    before = recorded_events("interrupted")
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(recorded_spec("interrupted")))

    done = vattn("run", spec, "--set", f"output={output}", "--resume")

    assert done.returncode == 0, done.stderr
    after = list(read(output / NAME))
    assert [event.line() for event in after[: len(before)]] == [event.line() for event in before]
    ended = {event.trial for event in before if isinstance(event, Finished | Stopped)}
    later = {
        event.trial for event in after[len(before) :] if isinstance(event, Started | Reported | Finished | Stopped)
    }
    assert ended
    assert not later & ended
    search = history(output / NAME)
    assert sorted(search.trials) == list(range(10))
    assert {trial.state for trial in search.trials.values()} == {"finished", "stopped"}
    assert search.ended is not None
    assert search.ended.reason == "budget"
