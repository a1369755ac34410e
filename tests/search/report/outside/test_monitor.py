"""A search that others see: signs of life, what it waits for, metrics, and messages to a URL."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

import search.report.outside.monitor as module
from search.ledger.file import NAME as LEDGER
from search.ledger.file import read as events_of
from search.report.outside.beat import NAME, read
from search.report.outside.monitor import Monitor
from search.report.tracking.store import tracking_uri
from search.spec.schema import Spec
from tests.processes import wait_for
from tests.search.events import event
from tests.search.report.ledgers import Trees
from tests.search.report.outside.receiver import receiver
from tests.search.searches import spec
from tests.vattn_command import start, vattn


def searched(output: Path, url: str) -> Spec:
    output.mkdir(parents=True)
    (output / LEDGER).touch()
    return spec(notify=url)


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "out"
    assert not (tmp_path / "out" / NAME).exists()


@pytest.mark.parametrize(
    ("end", "error", "kind", "text"),
    [
        ("budget", None, "ended", "by-hand ended: budget; 4 of 6 trials done (1 running, 2 finished, 1 stopped early, "
         "1 failed); best top1 75.0 % (trial 1)"),
        ("interrupted", None, "interrupted", "by-hand interrupted; go on with --resume; "),
        (None, KeyboardInterrupt(), "interrupted", "by-hand interrupted; go on with --resume; "),
        (None, OSError("disk of postgresql://bob:secret@db is full\nmore"), "failed",
         "by-hand failed: disk of postgresql://***@db is full; "),
    ],
)  # fmt: skip
def test_a_message_says_how_a_search_ended_and_has_no_secret(
    output: Path, events: Trees, end: str | None, error: BaseException | None, kind: str, text: str
) -> None:
    with (
        receiver() as (url, requests),
        suppress(KeyboardInterrupt, OSError),
        Monitor(output, searched(output, f"{url}/hook")) as monitor,
    ):
        for tree in [*events, *([{"event": "ended", "reason": end}] if end else [])]:
            monitor.apply(event(tree))
        wait_for((output / NAME).exists, 60)
        if error:
            raise error

    (message,) = [request["message"] for request in requests]
    assert message["search"] == "by-hand"
    assert message["event"] == kind
    assert message["text"].startswith(text)
    assert message["trials"] == {"running": 1, "finished": 2, "stopped": 1, "failed": 1}
    assert message.keys() == {"search", "event", "text", "trials", "output", "time"}
    assert "secret" not in json.dumps(message)


def test_a_search_in_which_no_trial_finished_has_failed(output: Path, events: Trees) -> None:
    with receiver() as (url, requests), Monitor(output, searched(output, url)) as monitor:
        for tree in [events[0], {"event": "ended", "reason": "every trial failed"}]:
            monitor.apply(event(tree))

    assert requests[0]["message"]["event"] == "failed"
    assert requests[0]["message"]["text"] == "by-hand no trial finished: every trial failed; 0 of 6 trials done"


def test_a_wait_that_may_never_end_asks_for_help_once_until_there_is_progress(
    output: Path, events: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.02)
    monkeypatch.setattr(module, "HELP_AFTER", 0.1)
    texts: list[str] = []
    with receiver() as (url, requests):
        with Monitor(output, searched(output, url)) as monitor:
            monitor.listen(texts.append)
            monitor.apply(event(events[0]))
            monitor.waits("files", "the disk is full")
            wait_for(lambda: requests, 60)
            assert read(output) is not None
            assert monitor.waiting == "the disk is full"
            time.sleep(0.2)
            monitor.apply(event(events[1]))
            wait_for(lambda: not monitor.waiting, 60)
            monitor.waits("files", "the disk is full again")
            wait_for(lambda: len(requests) == 2, 60)
        wait_for(lambda: len(requests) == 3, 60)

    assert [request["message"]["event"] for request in requests] == ["help", "help", "interrupted"]
    assert requests[0]["message"]["text"].startswith("by-hand waits: the disk is full; ")
    assert texts == ["the disk is full", "", "the disk is full again"]


def test_the_url_of_messages_is_no_part_of_what_is_written(tmp_path: Path) -> None:
    searched = spec(notify="https://hooks.example/secret")

    assert searched.notify.endswith("secret")
    assert "secret" not in json.dumps(searched.tree())


@pytest.mark.parametrize("url", ["ftp://host/x", "https://", "hook", "http:// host", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="notify: must be a URL that takes a POST"):
        spec(notify=url)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_search_on_a_full_cluster_says_so_everywhere_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    import ray
    from ray.util import placement_group, remove_placement_group

    output = tmp_path / "out"
    tree = {
        "schema": 1, "name": "tiny", "output": str(output), "search": {"budget": {"trials": 2}},
        "trial": {
            "data": {"kind": "motion", "train_clips": 1, "val_clips": 1, "test_clips": 1, "frames": 4, "size": 32,
                     "store": {"size": 32}},
            "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}},
            "train": {"epochs": 2, "batch": 16, "lr": {"float": [0.01, 0.1]}},
        },
    }  # fmt: skip
    ray.init(address="local", num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        taken = placement_group([{"CPU": 2}])
        ray.get(taken.ready())
        with receiver() as (url, requests):
            path = tmp_path / "spec.yaml"
            path.write_text(yaml.safe_dump(tree | {"notify": f"{url}/hook"}))
            running = start("run", path, "--address", ray.get_runtime_context().gcs_address)
            try:
                wait_for(lambda: (beat := read(output)) and beat.waits_for, 120)
                status = json.loads(vattn("status", output, "--json").stdout)
                assert status["waits_for"]["text"] == "1 CPU wanted, 0 of 2 free; 1 other job"
                assert status["waits_for"]["seconds"] >= 29
                assert status["process"]["pid"] == running.pid
                assert waits_of_mlflow(output) == "1 CPU wanted, 0 of 2 free; 1 other job"
                wait_for(lambda: "vattn_waiting_seconds" in scraped(status["metrics"]), 30)
                wait_for(lambda: values(status["metrics"], "waiting_seconds").get("CPU", 0) >= 29, 30)
                assert values(status["metrics"], "trials")["proposed"] == 2
                assert values(status["metrics"], "utilisation") == {"": 0}
                remove_placement_group(taken)
                text, _ = running.communicate()
            finally:
                running.terminate()
    finally:
        ray.shutdown()

    assert running.returncode == 0, text
    assert "(2 waiting); waits: 1 CPU wanted, 0 of 2 free; 1 other job" in text
    (message,) = [request["message"] for request in requests]
    assert message["event"] == "ended"
    assert message["trials"] == {"finished": 2}
    assert not any(url in str(tree) for tree in events_of(output / LEDGER))
    assert json.loads(vattn("status", output, "--json").stdout)["ended"] == "budget"
    assert waits_of_mlflow(output) == ""


def waits_of_mlflow(output: Path) -> str:
    client = MlflowClient(tracking_uri("auto", output))
    experiment = client.get_experiment_by_name("tiny")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    return next(run.data.tags.get("waits_for", "none") for run in runs if "mlflow.parentRunId" not in run.data.tags)


def scraped(url: str) -> str:
    return urllib.request.urlopen(url, timeout=10).read().decode()


def values(url: str, name: str) -> dict[str, float]:
    """Return the values of one of the metrics by its label."""
    found = {}
    for labels, value in re.findall(rf"^ray_vattn_{name}{{(.*)}} (\S+)", scraped(url), re.MULTILINE):
        assert 'search="tiny"' in labels
        label = re.search(r'\b(?:state|why|kind)="(\w+)"', labels)
        found[label[1] if label else ""] = float(value)
    return found
