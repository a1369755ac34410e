"""Whole searches with a real Ray cluster, real MP4 files and real SQLite; small enough for every run of the suite."""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.ledger.events import Failed, Reported
from search.ledger.file import NAME, history, read
from search.ledger.history import History
from tests.processes import descendants, wait_for
from tests.vattn_command import start, vattn

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

SPEC: dict[str, Any] = {
    "schema": 1,
    "name": "tiny",
    "trial": {
        "data": {
            "kind": "motion", "train_clips": 4, "val_clips": 2, "test_clips": 1, "frames": 8, "size": 32,
            "store": {"size": 32},
        },
        "model": {
            "frames": {"choice": [2, 4]},
            "size": 32,
            "backbone": {"kind": "resnet", "depth": 10, "width": 0.125},
            "attention": {
                "choice": [
                    [],
                    [{"kind": "tsm", "stages": {"subset": [2, 3]}}],
                    [{"kind": "tam", "beta": 2, "kernel_size": {"choice": [3, 5]}, "stages": [4]}],
                ]
            },
        },
        "train": {"epochs": 3, "batch": 16, "lr": 0.05},
    },
    "search": {"budget": {"trials": 4}},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a first search, which generated and decoded the data that the other tests use."""
    folder = tmp_path_factory.mktemp("data")
    spec = changed({"search": {"budget": {"trials": 1}}, "output": str(folder)})
    done = vattn("run", write(folder.parent / "first.yaml", spec))
    assert done.returncode == 0, done.stderr
    return folder


def changed(changes: dict[str, Any], data: Path | None = None) -> dict[str, Any]:
    spec = json.loads(json.dumps(SPEC))
    if data:
        spec["trial"]["data"] |= {"root": str(data / "data" / "motion"), "cache": str(data / "cache")}
    return spec | changes


def write(path: Path, spec: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(spec))
    return path


def reports(output: Path) -> int:
    return sum(isinstance(event, Reported) for event in read(output / NAME)) if (output / NAME).exists() else 0


def check_complete(searched: History, trials: int, epochs: int) -> None:
    """Assert that each trial ended, each of its epochs was reported once, and no identity was trained twice."""
    assert sorted(searched.trials) == list(range(trials))
    assert {trial.state for trial in searched.trials.values()} <= {"finished", "stopped"}
    for trial in searched.in_state("finished"):
        assert [report.epoch for report in trial.reports] == list(range(1, epochs + 1))
    assert max(Counter(trial.identity for trial in searched.trials.values()).values()) == 1


def repeated_epochs(output: Path) -> int:
    """Return the number of epochs that were reported more than once."""
    done, repeated = Counter[int](), 0
    for event in read(output / NAME):
        if isinstance(event, Reported):
            repeated += event.epoch <= done[event.trial]
            done[event.trial] = max(done[event.trial], event.epoch)
    return repeated


def test_a_search_writes_its_front_to_stdout_the_study_and_mlflow(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    spec = write(tmp_path / "spec.yaml", changed({"output": str(output)}, data))
    command = [sys.executable, "-m", "search", "run", str(spec), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    assert done.returncode == 0, done.stderr
    front = json.loads(done.stdout)["front"]
    searched = history(output / NAME)
    check_complete(searched, trials=4, epochs=3)
    assert searched.ended is not None
    assert searched.ended.reason == "budget"
    best = max(trial.metrics["top1"] for trial in searched.in_state("finished"))
    assert max(row["top1"] for row in front) == best
    assert sum(searched.trials[row["trial"]].state == "finished" for row in front) == len(front) >= 1
    # The study and MLflow have the same values.
    study = optuna.load_study(study_name="tiny", storage=JournalStorage(JournalFileBackend(str(output / "study.log"))))
    values = {trial.user_attrs["trial"]: trial.values for trial in study.trials if trial.values}
    assert values == {n: [t.metrics["top1"], t.metrics["gflops"]] for n, t in searched.trials.items()}
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert Counter(run.info.status for run in runs) == {"FINISHED": 5}
    for name in ("front.json", "pareto.html", "pareto.png", "spec.yaml"):
        parent = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
        assert name in [file.path for file in client.list_artifacts(parent.info.run_id)]


def test_no_config_over_a_limit_is_trained_and_an_exhausted_space_ends_the_search(data: Path, tmp_path: Path) -> None:
    # Two frames cost 1.1 MFLOPs and four twice that, so the limit leaves T = 2: no mechanism, 3 of tsm, 2 of tam.
    output = tmp_path / "out"
    spec = changed({"output": str(output), "constraints": {"gflops": {"max": 0.0015}}}, data)
    spec["search"] = {"budget": {"trials": 50}, "sampler": {"kind": "random"}}
    spec["trial"]["train"]["epochs"] = 1

    done = vattn("run", write(tmp_path / "spec.yaml", spec))

    assert done.returncode == 0, done.stderr
    searched = history(output / NAME)
    check_complete(searched, trials=6, epochs=1)
    assert searched.ended is not None
    assert searched.ended.reason == "space exhausted"
    assert {trial.config["model"]["frames"] for trial in searched.trials.values()} == {2}
    assert any("gflops" in event.reason for event in searched.rejected)


def test_a_stopped_trial_never_counts_as_finished(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    spec = changed({"output": str(output)}, data)
    spec["search"] = {"budget": {"trials": 8}, "scheduler": {"kind": "halving", "min_epochs": 1, "reduction": 2}}
    path = write(tmp_path / "spec.yaml", spec)

    done = vattn("run", path)

    assert done.returncode == 0, done.stderr
    searched = history(output / NAME)
    check_complete(searched, trials=8, epochs=3)
    stopped = searched.in_state("stopped")
    assert stopped
    assert all(trial.epoch < 3 for trial in stopped)
    study = optuna.load_study(study_name="tiny", storage=JournalStorage(JournalFileBackend(str(output / "study.log"))))
    states = {trial.user_attrs["trial"]: trial.state.name for trial in study.trials if "trial" in trial.user_attrs}
    assert states == {n: {"finished": "COMPLETE", "stopped": "PRUNED"}[t.state] for n, t in searched.trials.items()}
    front = json.loads(vattn("pareto", output, "--json").stdout)["front"]
    assert {row["trial"] for row in front} <= {trial.number for trial in searched.in_state("finished")}
    # A second run has nothing left to do.
    before = (output / NAME).read_bytes()
    assert vattn("run", path, "--resume").returncode == 0
    assert (output / NAME).read_bytes() == before


def test_ctrl_c_ends_with_130_and_a_resume_finishes_after_a_move_of_data_cache_and_output(
    data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    shutil.copyfile(data / NAME, earlier / NAME)
    spec = changed({"output": str(output)}, data)
    spec["trial"]["train"]["epochs"] = 8
    spec["search"]["warm_start"] = [str(earlier)]
    path = write(tmp_path / "spec.yaml", spec)
    process = start("run", path)
    wait_for(lambda: reports(output) >= 3)

    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)

    assert process.returncode == 130, text
    assert "--resume" in text
    assert "Traceback" not in text
    assert f"earlier search {earlier}: 1 of 1 finished trials can be used; settings that differ: train.epochs" in text
    shutil.rmtree(earlier)
    moved = tmp_path / "moved"
    output.rename(moved)
    for name in ("data", "cache"):  # with other times of the files
        shutil.copytree(data / name, tmp_path / "disk" / name, copy_function=shutil.copyfile)
    spec["output"] = str(moved)
    spec["trial"]["data"] |= {"root": str(tmp_path / "disk/data/motion"), "cache": str(tmp_path / "disk/cache")}
    again = vattn("run", write(path, spec), "--resume")
    assert again.returncode == 0, again.stderr
    check_complete(history(moved / NAME), trials=4, epochs=8)
    assert repeated_epochs(moved) == 0
    assert not output.exists()
    assert vattn("export", moved, "--pick", "best", "--out", tmp_path / "best.yaml").returncode == 0
    assert yaml.safe_load((tmp_path / "best.yaml").read_text())["data"]["root"] == str(tmp_path / "disk/data/motion")


def test_sigterm_ends_a_search_like_ctrl_c(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    spec = changed({"output": str(output)}, data)
    spec["trial"]["train"]["epochs"] = 100
    process = start("run", write(tmp_path / "spec.yaml", spec))
    wait_for(lambda: reports(output) >= 1)

    process.terminate()
    text, _ = process.communicate(timeout=60)

    assert process.returncode == 130, text
    assert "--resume" in text
    assert "SIGTERM" not in text
    ended = history(output / NAME).ended
    assert ended is not None
    assert ended.reason == "interrupted"


def test_a_killed_confirmation_is_resumed_and_ends_with_a_front_of_fresh_seeds(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    spec = changed({"output": str(output)}, data)
    spec["trial"]["model"]["attention"] = [{"kind": "tam", "beta": 2, "stages": {"choice": [[4], [3, 4]]}}]
    spec["trial"]["model"]["frames"] = 2
    spec["trial"]["train"]["epochs"] = 2
    spec["search"] = {"budget": {"trials": 2}, "confirm": {"top": 1, "seeds": 2}, "inherit": "base"}
    path = write(tmp_path / "spec.yaml", spec)
    process = start("run", path)
    wait_for(lambda: (output / NAME).exists() and any(trial.fresh for trial in history(output / NAME).trials.values()))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    again = vattn("run", path, "--resume", "--json")

    assert again.returncode == 0, again.stderr
    searched = history(output / NAME)
    (base,) = (trial for trial in searched.extras.values() if trial.base)
    assert base.config["model"]["attention"] == []
    own = searched.in_state("finished")
    # Both are on the front, or one is and the other misses it.
    assert [len(trial.fresh) for trial in own] == [2, 2]
    fresh = [trial for trial in searched.extras.values() if trial.confirms is not None]
    assert {trial.config["train"]["seed"] for trial in fresh} == {1, 2}
    assert all(trial.inherits and trial.inherits.source == base.number for trial in [*own, *fresh])
    assert len({trial.identity for trial in [*own, *fresh, base]}) == 7
    assert repeated_epochs(output) == 0
    for model in json.loads(again.stdout)["confirmation"]["models"]:
        metrics = searched.trials[model["trial"]].fresh
        assert model["mean"]["top1"] == pytest.approx(sum(each["top1"] for each in metrics) / 2)
        assert model["test"]["top1"] == pytest.approx(sum(each["test_top1"] for each in metrics) / 2)
    assert "optimism" in again.stderr
    before = (output / NAME).read_bytes()
    assert vattn("run", path, "--resume").returncode == 0
    assert (output / NAME).read_bytes() == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_exported_trial_with_inherited_weights_trains_to_identical_weights(data: Path, tmp_path: Path) -> None:
    output, best, weights, training = (tmp_path / name for name in ("out", "best.yaml", "weights", "training"))
    spec = changed({"output": str(output)}, data)
    spec["search"] = {"budget": {"trials": 4}, "inherit": "parent"}
    assert vattn("run", write(tmp_path / "spec.yaml", spec)).returncode == 0
    heir = next(t for t in history(output / NAME).trials.values() if t.inherits and t.inherits.source is not None)
    exported = vattn("export", output, "--pick", f"trial={heir.number}", "--out", best, "--weights", weights)
    assert exported.returncode == 0, exported.stderr
    assert yaml.safe_load(best.read_text())["train"]["init"] == str(weights / "start.pt")

    trained = vattn("train", best, "--out", training)

    assert trained.returncode == 0, trained.stderr
    states = [torch.load(folder / "model.pt", weights_only=True) for folder in (weights, training)]
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize(
    "moment", [2, pytest.param(5, marks=pytest.mark.slow), pytest.param(9, marks=pytest.mark.slow)]
)
def test_a_driver_killed_at_any_moment_loses_at_most_one_epoch_of_a_trial(
    data: Path, tmp_path: Path, moment: int
) -> None:
    output = tmp_path / "out"
    path = write(tmp_path / "spec.yaml", changed({"output": str(output)}, data))
    process = start("run", path)
    wait_for(lambda: reports(output) >= moment)
    time.sleep(random.random() / 5)

    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    known = history(output / NAME)
    finished = {n: t.metrics for n, t in known.trials.items() if t.state == "finished"}
    again = vattn("run", path, "--resume")
    assert again.returncode == 0, again.stderr
    searched = history(output / NAME)
    check_complete(searched, trials=4, epochs=3)
    assert {n: searched.trials[n].metrics for n in finished} == finished
    assert all(len(searched.trials[n].starts) == len(known.trials[n].starts) for n in finished)
    # No reported epoch was trained again: each start continues from the checkpoint.
    for number, trial in searched.trials.items():
        if trial.starts[1:]:
            assert trial.starts[-1].epoch >= known.trials[number].epoch
    assert repeated_epochs(output) == 0


def test_a_training_process_that_dies_is_replaced_and_its_trial_continues(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    spec = changed({"output": str(output)}, data)
    spec["trial"]["train"]["epochs"] = 6
    process = start("run", write(tmp_path / "spec.yaml", spec))
    wait_for(lambda: reports(output) >= 3)

    victims = descendants(r"ray::(ResourceTrainable|InlineTrial)", process.pid)
    assert victims
    os.kill(victims[0], signal.SIGKILL)
    text, _ = process.communicate(timeout=200)

    assert process.returncode == 0, text
    searched = history(output / NAME)
    check_complete(searched, trials=4, epochs=6)
    failures = [event for event in read(output / NAME) if isinstance(event, Failed)]
    assert failures
    assert not any(event.final for event in failures)


def test_a_resume_with_another_space_is_refused(data: Path, tmp_path: Path) -> None:
    spec = changed({"output": str(data)})
    spec["trial"]["train"]["lr"] = 0.1
    path = write(tmp_path / "spec.yaml", spec)

    again, resumed = vattn("run", path), vattn("run", path, "--resume")

    assert (again.returncode, resumed.returncode) == (2, 2)
    assert "--resume" in again.stderr
    assert "trial.train.lr (0.1, and was 0.05): must be as when the search began" in resumed.stderr
    assert "Traceback" not in again.stderr + resumed.stderr


def test_a_search_whose_trials_all_fail_ends_before_its_budget(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    spec = changed({"output": str(output)}, data)
    spec["trial"]["train"]["lr"] = {"float": [1e29, 1e30]}
    spec["search"] = {"budget": {"trials": 100}}

    done = vattn("run", write(tmp_path / "spec.yaml", spec))

    assert done.returncode == 1
    searched = history(output / NAME)
    assert 5 <= len(searched.in_state("failed")) == len(searched.trials) <= 8
    assert "ended before its budget was spent: the first trials all failed" in done.stdout
    assert "lower train.lr" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_an_exported_trial_trains_to_identical_weights(data: Path, tmp_path: Path) -> None:
    best, weights, training = tmp_path / "best.yaml", tmp_path / "weights", tmp_path / "training"
    exported = vattn("export", data, "--pick", "best", "--out", best, "--weights", weights)
    assert exported.returncode == 0, exported.stderr

    trained = vattn("train", best, "--out", training)

    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.count("epoch ") == 3
    (winner,) = history(data / NAME).in_state("finished")
    metrics = json.loads((training / "metrics.json").read_text())
    best_epoch = max(winner.reports, key=lambda report: report.metrics["top1"])  # the first of the best
    assert metrics.pop("best") == {"epoch": [best_epoch.epoch]} | best_epoch.metrics
    assert metrics == winner.reports[-1].metrics
    states = [torch.load(folder / "model.pt", weights_only=True) for folder in (weights, training)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    # A folder with a training is not overwritten, and resuming a finished training does nothing.
    assert vattn("train", best, "--out", training).returncode == 2
    before = (training / "model.pt").stat().st_mtime_ns
    again = vattn("train", best, "--out", training, "--resume")
    assert again.returncode == 0, again.stderr
    assert (training / "model.pt").stat().st_mtime_ns == before


@pytest.mark.timeout(600)
def test_two_workers_train_an_exported_config(data: Path, tmp_path: Path) -> None:
    best = tmp_path / "best.yaml"
    assert vattn("export", data, "--pick", "trial=0", "--out", best).returncode == 0

    done = vattn("train", best, "--out", tmp_path / "two", "--workers", 2)

    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert 0 <= metrics["top1"] <= metrics["top5"] <= 1
    client = MlflowClient(f"sqlite:///{tmp_path / 'two' / 'mlflow.db'}")
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert [m.value for m in client.get_metric_history(run.info.run_id, "top1")][-1] == metrics["top1"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_share_a_trial_and_free_their_cpus_after_an_early_stop(data: Path, tmp_path: Path) -> None:
    # The machine has CPUs for one trial at a time: a second one runs only if the first one freed its CPUs.
    output = tmp_path / "out"
    spec = changed({"output": str(output), "resources": {"workers": 2}}, data)
    spec["search"] = {"budget": {"trials": 3}, "scheduler": {"kind": "halving", "min_epochs": 1, "reduction": 3}}

    done = vattn("run", write(tmp_path / "spec.yaml", spec))

    assert done.returncode == 0, done.stderr
    check_complete(history(output / NAME), trials=3, epochs=3)


@pytest.mark.slow
def test_a_search_waits_until_a_checkpoint_can_be_written(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    file = write(tmp_path / "spec.yaml", changed({"output": str(output)}, data))
    in_the_way = output / "trials" / "0001" / ".part-checkpoint.pt"  # of the file, with the effect of a full disk
    in_the_way.mkdir(parents=True)

    process = start("run", file)
    wait_for(lambda: (output / NAME).exists() and any(isinstance(event, Failed) for event in read(output / NAME)))
    in_the_way.rmdir()
    said, _ = process.communicate(timeout=120)

    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert re.search(r"trial 1 could not read or write its files: .*0001/checkpoint\.pt: cannot be .*; retrying", said)
    check_complete(history(output / NAME), trials=4, epochs=3)
    assert repeated_epochs(output) == 0


def test_a_search_waits_while_its_disk_is_full_and_an_interrupt_ends_the_wait(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    spec = write(tmp_path / "spec.yaml", changed({"output": str(output)}, data))
    process = start("run", spec)
    wait_for(lambda: reports(output) >= 2)
    # No file of this process can grow beyond that, as on a full disk; files of its trials can.
    room = (output / NAME).stat().st_size + 40
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    status = ["status", output, "--json"]
    wait_for(lambda: "files" in vattn(*status).stdout)
    assert "ledger.jsonl: cannot be written" in vattn(*status).stdout
    began = time.monotonic()
    process.send_signal(signal.SIGINT)

    said, _ = process.communicate(timeout=60)

    assert time.monotonic() - began < 15
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "go on with: " in said.splitlines()[-1]
    again = vattn("run", spec, "--resume")
    assert again.returncode == 0, again.stderr
    check_complete(history(output / NAME), trials=4, epochs=3)
    assert repeated_epochs(output) <= 2
