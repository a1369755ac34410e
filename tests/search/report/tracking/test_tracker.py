"""MLflow holds what the ledger says, however often and from wherever it is replayed."""

import json
import logging
import shutil
import time
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from search.ledger.history import History
from search.report.tracking import tracker as tracker_module
from search.report.tracking.runs import RunWriter
from search.report.tracking.store import LATER, store_of, tracking_uri
from search.report.tracking.tracker import Tracker, catch_up
from tests.search.events import event
from tests.search.report.ledgers import Trees, trial
from tests.search.report.tracking.stores import content, process, replay, write

LOGGER = "search.report.tracking.store"
TRIAL_1 = "75.0 % · 0.4 G · tam a2 K3 res2-5 b, T8 · trial 1"
TRIAL_2 = "stopped 12.5 % · 0.8 G · tam a2 K3 res2-5 b, T8 · trial 2"


@pytest.mark.medium
def test_a_replayed_ledger_is_a_run_with_a_child_run_for_each_trial(output: Path, events: Trees) -> None:
    replay(output, events)

    runs = content(output)
    assert {name: (run["status"], run["tags"].get("state")) for name, run in runs.items()} == {
        "by-hand": ("SCHEDULED", "interrupted"),
        "50.0 % · 0.2 G · no attention, T8 · trial 0": ("FINISHED", "finished"),
        TRIAL_1: ("FINISHED", "finished"),
        TRIAL_2: ("FINISHED", "stopped"),
        "failed · 0.5 G · sta a2 K3 res2-5 b, T8 · trial 3": ("FAILED", "failed"),
        "interrupted · 0.5 G · sta a2 K3 res2-5 b, T8 · trial 4": ("SCHEDULED", "interrupted"),
    }
    trial = runs[TRIAL_1]
    assert trial["child"]
    assert trial["params"] == {"frames": "8", "attention": "tam"}
    assert {key: trial["tags"][key] for key in ("kind", "mechanism", "stages", "front", "rank")} == {
        "kind": "trial", "mechanism": "tam", "stages": "res2-5", "front": "yes", "rank": "1",
    }  # fmt: skip
    assert [(step, value) for step, _, value in trial["metrics"]["top1"]] == [(1, 0.5), (2, 0.75)]
    assert [(step, value) for step, _, value in trial["metrics"]["seconds"]] == [(1, 3.0), (2, 6.0)]
    assert [(step, value) for step, _, value in trial["metrics"]["gflops"]] == [(0, 0.4)]
    assert runs[TRIAL_2]["tags"]["reason"] == "below the front"
    metrics = {
        key: [(step, pytest.approx(value)) for step, _, value in points]
        for key, points in runs["by-hand"]["metrics"].items()
    }
    assert metrics == {
        "hypervolume": [(1, 0.4), (2, 0.55)],
        "top1": [(1, 0.5), (2, 0.75)],
        "gflops": [(1, 0.2), (2, 0.4)],
        "best/top1 at 0.2 gflops": [(1, 0.5)],
        "best/top1 at 0.5 gflops": [(2, 0.75)],
    }


def test_the_parent_holds_spec_front_and_pictures(output: Path, events: Trees) -> None:
    replay(output, events)

    client = MlflowClient(tracking_uri("auto", output))
    experiment = client.get_experiment_by_name("by-hand")
    assert experiment
    parent = client.search_runs([experiment.experiment_id], "attributes.run_name = 'by-hand'")[0].info.run_id
    folder = output / "artifacts" / parent / "artifacts"
    assert sorted(path.name for path in folder.iterdir()) == [
        "front.json",
        "front.png",
        "pareto.html",
        "pareto.png",
        "report.html",
        "spec.yaml",
    ]
    assert yaml.safe_load((folder / "spec.yaml").read_text()) == events[0]["spec"]
    assert [row["trial"] for row in json.loads((folder / "front.json").read_text())["front"]] == [0, 1]


@pytest.mark.medium
def test_a_second_replay_changes_nothing(output: Path, events: Trees) -> None:
    replay(output, events)
    before = content(output)

    replay(output, events)

    assert content(output) == before


@pytest.mark.medium
def test_a_resume_writes_only_what_is_new(output: Path, events: Trees, database: Path) -> None:
    replay(output, events[:14])
    replay(output, events)
    in_two_parts = content(output)
    shutil.copy(database, output)

    replay(output, events)

    assert content(output) == in_two_parts


@pytest.mark.medium
def test_a_search_that_ended_is_finished(output: Path, events: Trees) -> None:
    end = [{"event": "finished", "trial": 4, "epoch": 1, "seconds": 1.0}, {"event": "ended", "reason": "budget"}]

    replay(output, events + [{"time": 1.8e9} | tree for tree in end], experiment="elsewhere")

    assert content(output)["by-hand"]["status"] == "FINISHED"
    assert content(output)["37.5 % · 0.5 G · sta a2 K3 res2-5 b, T8 · trial 4"]["status"] == "FINISHED"


def runs_of(output: Path) -> tuple[MlflowClient, Run, dict[str, Run]]:
    """Return a client, the run of the search and those of its trials, by trial."""
    client = MlflowClient(tracking_uri("auto", output))
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    trials = {run.data.tags["trial"]: run for run in runs if "trial" in run.data.tags}
    (parent,) = [run for run in runs if run.data.tags["kind"] == "search"]
    return client, parent, trials


@pytest.mark.medium
def test_a_run_that_was_deleted_is_written_again_with_its_links(output: Path, events: Trees) -> None:
    replay(output, events)
    before = content(output)
    for delete in (lambda parent, _: parent, lambda _, trials: trials["1"]):
        client, parent, trials = runs_of(output)
        client.delete_run(delete(parent, trials).info.run_id)

        assert catch_up(output, "auto", "auto", map(event, events))

        assert content(output) == before
        client, parent, trials = runs_of(output)
        assert {run.data.tags["mlflow.parentRunId"] for run in trials.values()} == {parent.info.run_id}
        assert f"get-artifact?path=front.png&run_uuid={parent.info.run_id}" in parent.data.tags["mlflow.note.content"]
        assert len(client.list_artifacts(parent.info.run_id)) == 6


@pytest.mark.medium
def test_an_experiment_that_was_renamed_is_continued(output: Path, events: Trees) -> None:
    replay(output, events[:14])
    MlflowClient(tracking_uri("auto", output)).rename_experiment("1", "mine")

    replay(output, events)

    client, parent, trials = runs_of(output)
    assert len(trials) == 5
    assert {run.info.experiment_id for run in [parent, *trials.values()]} == {"1"}
    assert [experiment.name for experiment in client.search_experiments()] == ["mine", "Default"]


@pytest.mark.medium
def test_what_an_earlier_version_wrote_is_replaced(output: Path, events: Trees) -> None:
    replay(output, events)
    before = content(output)
    client, parent, trials = runs_of(output)
    client.set_tag(parent.info.run_id, "events", f"{len(events)}, by MLflow 3.17.2")
    for run in [parent, *trials.values()]:
        client.delete_tag(run.info.run_id, "layout")

    assert catch_up(output, "auto", "auto", map(event, events))

    assert content(output) == before


@pytest.mark.medium
def test_ranks_follow_while_a_search_runs(output: Path, monkeypatch: pytest.MonkeyPatch, events: Trees) -> None:
    monkeypatch.setattr("search.report.tracking.runs.WRITE_INTERVAL", 0.0)
    trees = [events[0], *trial(0, 0.2, 0.5), *trial(1, 0.1, 0.75), *trial(2, 0.4, 0.625)]
    history = History.of([event(events[0])])
    writer = RunWriter(store_of(history, output, "auto", "auto"), history)
    seen = []
    for n, tree in enumerate(trees[1:], start=1):
        history.apply(event(tree))
        if tree["event"] == "finished":
            for _ in range(2):  # the front is drawn with the next update
                writer.update(history, {tree["trial"]}, n, closing=False)
            found = runs_of(output)[2]
            seen.append({number: (run.data.tags["rank"], run.data.tags["front"]) for number, run in found.items()})

    assert seen == [
        {"0": ("1", "yes")},
        {"0": ("2", "no"), "1": ("1", "yes")},
        {"0": ("3", "no"), "1": ("1", "yes"), "2": ("2", "no")},
    ]


def test_after_it_has_settled_what_was_applied_is_written(output: Path, events: Trees) -> None:
    tracker = Tracker(output)
    try:
        for tree in events:
            tracker.apply(event(tree))
        tracker.settle()
        assert len(content(output)) == 6
        tracker.settle()  # nothing is left
    finally:
        tracker.close()


def test_a_store_that_cannot_be_reached_is_one_warning_in_the_search_and_one_at_its_end(
    tmp_path: Path, events: Trees, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")

    with caplog.at_level(logging.WARNING, logger=LOGGER):
        tracker = Tracker(tmp_path, f"sqlite:///{tmp_path}/file/mlflow.db")
        for each in events:
            tracker.apply(event(each))
            tracker.settle()
        tracker.close()

    assert [record.message.rpartition("; ")[2] for record in caplog.records if record.name == LOGGER] == [
        f"the search continues, and {LATER}", LATER,
    ]  # fmt: skip


@pytest.mark.medium
def test_results_missing_at_the_end_are_written_when_the_store_is_back(
    output: Path, events: Trees, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = output / "elsewhere"
    elsewhere.write_text("in the way")
    uri = f"sqlite:///{elsewhere}/runs.db"
    replay(output, events, uri=uri)
    assert not catch_up(output, uri, "auto", map(event, events))
    said = [record.message.rpartition("; ")[2] for record in caplog.records if record.name == LOGGER]
    assert said[-2:] == [LATER, LATER]
    elsewhere.unlink()
    elsewhere.mkdir()
    shutil.copy(database, elsewhere / "runs.db")

    assert catch_up(output, uri, "auto", map(event, events))

    replay(output, events)
    assert content(output, uri) == content(output)


@pytest.mark.medium
def test_a_search_that_is_written_whole_needs_no_import_of_mlflow(output: Path, events: Trees) -> None:
    replay(output, events[:14])
    assert catch_up(output, "auto", "auto", map(event, events))
    write(output, events)

    second = process("assert catch_up(output, 'auto', 'auto', events); assert 'mlflow' not in sys.modules", output)

    assert (second.communicate()[1], second.returncode) == ("", 0)
    assert len(content(output)) == 6


@pytest.mark.medium
def test_a_full_disk_is_one_line(output: Path, events: Trees) -> None:
    write(output, events)

    # Only the first 64 KiB of a file can be written.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
    writer = process(f"{limit} catch_up(output, 'auto', 'auto', events)", output)

    (line,) = writer.communicate()[1].splitlines()
    assert line.startswith(f"MLflow at sqlite:///{output}/mlflow.db cannot be written to: ")


@pytest.mark.medium
def test_no_database_is_made_in_the_place_of_a_disk_that_is_gone(
    tmp_path: Path, events: Trees, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "WRITE_INTERVAL", 0.2)
    folder, away = tmp_path / "disk", tmp_path / "away"
    folder.mkdir()
    write(folder, events)
    tracker = Tracker(folder)
    folder.rename(away)
    folder.mkdir()
    for tree in events[:-1]:
        tracker.apply(event(tree))
    end = time.monotonic() + 60
    while "is not there; the search continues" not in caplog.text:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not list(folder.iterdir())

    folder.rmdir()
    away.rename(folder)
    tracker.apply(event(events[-1]))
    tracker.close()

    assert content(folder)["by-hand"]["status"] == "SCHEDULED"
