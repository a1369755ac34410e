"""`vattn export`: write a trial as a complete config, and copy its weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.cli import main
from search.commands.export import export
from search.ledger.runs import open_run, resolve_run
from search.report.wording.program import program
from search.spec.validation import load_config
from vattn.config import TrainConfig, TrialConfig

Events = list[dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output folder of a search, below the working directory, with the weights of trial 1."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "by-hand"
    (folder / "trials" / "0001").mkdir(parents=True)
    (folder / "trials" / "0001" / "model.pt").write_bytes(b"weights")
    (folder / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def test_an_exported_config_has_absolute_folders_and_names_its_trial_in_a_comment(run: Path, tmp_path: Path) -> None:
    export("by-hand", "best", tmp_path / "new" / "best.yaml", None)

    text = (tmp_path / "new" / "best.yaml").read_text()
    tree = yaml.safe_load(text)
    assert tree.pop("exported")["trial"] == 1
    assert tree == {
        "data": {"kind": "motion", "root": str(run / "data" / "motion"), "cache": str(run / "cache")},
        "model": {
            "frames": 8,
            "attention": [
                {"kind": "tam", "alpha": 2, "kernel_size": 3, "stages": [2, 3, 4, 5], "position": "b", "every": 1}
            ],
        },
        "train": {"epochs": 2, "lr": 0.05, "seed": 0},
    }
    assert f"trial 1 of the search by-hand (s1), which is in {tmp_path}" in text
    assert "top1 75.0 %, gflops 0.4, params_m 2" in text
    assert f"vattn train {tmp_path / 'new' / 'best.yaml'}" in text


RECIPE: dict[str, Any] = {
    "epochs": 8, "batch": 32, "lr": 0.05, "schedule": {"kind": "steps", "at": [4, 6]}, "warmup": {"epochs": 1},
}  # fmt: skip


def with_recipe(run: Path, events: Events, **changes: Any) -> None:
    """Let trial 1 have a complete training config."""
    proposed = next(event for event in events if event["event"] == "proposed" and event["trial"] == 1)
    proposed["config"]["train"] = TrainConfig.parse(RECIPE | changes).tree()
    (run / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def test_the_winner_gets_its_full_length_with_the_shape_of_its_schedule(
    run: Path, tmp_path: Path, events: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    with_recipe(run, events)

    assert main(["export", "by-hand", "--pick", "best", "--out", "best.yaml", "--epochs", "100"]) == 0

    text = (tmp_path / "best.yaml").read_text()
    train = TrainConfig.parse(yaml.safe_load(text)["train"])
    assert (train.epochs, train.schedule.tree()["at"], train.warmup.epochs, train.lr) == (100, [50, 75], 12.5, 0.05)
    assert "Its schedule was fitted to 100 epochs; in the search it had 8: vattn train best.yaml" in text
    assert capsys.readouterr().out.splitlines()[-1] == f"next: {program()} train best.yaml"
    assert main(["export", "by-hand", "--pick", "best", "--out", "as-searched.yaml"]) == 0
    assert (
        "it trains 8 epochs, as in the search; for another length, export it with --epochs N" in capsys.readouterr().out
    )


def test_a_length_that_the_recipe_cannot_have_is_refused(
    run: Path, tmp_path: Path, events: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    with_recipe(run, events)

    assert main(["export", "by-hand", "--pick", "best", "--out", "best.yaml", "--epochs", "100"]) == 0
    with pytest.raises(SystemExit) as ended:
        main(["export", "by-hand", "--pick", "best", "--out", "none.yaml", "--epochs", "0"])
    assert ended.value.code == 2
    assert "argument --epochs: must be at least 1 (got 0)" in capsys.readouterr().err


def test_nothing_is_overwritten_silently(
    run: Path, tmp_path: Path, events: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "by-hand", "--pick", "best", "--out", "best.yaml", "--weights", "weights"]
    assert main(words) == 0
    assert main(words) == 0  # the same content: nothing is lost
    (tmp_path / "best.yaml").write_text("mine: 1\n")
    capsys.readouterr()

    assert main(words) == 2
    line = "best.yaml: exists, and is another one; name another file, or overwrite it with --force"
    assert capsys.readouterr().err.splitlines() == [line]
    assert (tmp_path / "best.yaml").read_text() == "mine: 1\n"
    (tmp_path / "best.yaml").unlink()
    (tmp_path / "weights/model.pt").write_bytes(b"others")
    assert main(words) == 2
    assert "weights/model.pt: exists, and has other weights; name another" in capsys.readouterr().err
    assert not (tmp_path / "best.yaml").exists()
    assert main([*words, "--force"]) == 0
    assert (tmp_path / "weights/model.pt").read_bytes() == b"weights"
    assert yaml.safe_load((tmp_path / "best.yaml").read_text())["model"]["frames"] == 8


def test_an_export_has_all_values_of_the_trials_config(run: Path, tmp_path: Path, events: Events) -> None:
    config = TrialConfig.parse(
        {
            "data": {"kind": "motion"},
            "model": {
                "frames": 8,
                "size": 48,
                "backbone": {"kind": "resnet", "depth": 10},
                "attention": [{"kind": "tam"}],
            },
            "train": {"epochs": 2, "batch": 32, "lr": 0.00001},
        }
    )
    events[1]["config"] = config.tree()
    (run / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))

    export("by-hand", "trial=0", tmp_path / "out.yaml", None)

    exported = load_config(tmp_path / "out.yaml")
    assert (exported.model, exported.train) == (config.model, config.train)
    assert exported.data.root == str(run / "data" / "motion")


def test_inherited_weights_are_referenced_or_copied(run: Path, tmp_path: Path, events: Events) -> None:
    inherits = {"event": "inherits", "time": 1.7e9, "trial": 1, "source": 0, "reason": "the nearest finished trial"}
    (run / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in [*events, inherits]))
    with pytest.raises(ValueError, match=r"0000/model\.pt: the weights that trial 1 started with are gone"):
        export("by-hand", "trial=1", tmp_path / "gone.yaml", None)
    (run / "trials" / "0000").mkdir()
    (run / "trials" / "0000" / "model.pt").write_bytes(b"of trial 0")

    export("by-hand", "trial=1", tmp_path / "named.yaml", None)
    export("by-hand", "trial=1", tmp_path / "copied.yaml", tmp_path / "weights")

    initial_weights = [
        yaml.safe_load((tmp_path / f"{name}.yaml").read_text())["train"]["init"] for name in ("named", "copied")
    ]
    assert initial_weights == [str(run / "trials" / "0000" / "model.pt"), str(tmp_path / "weights" / "start.pt")]
    assert (tmp_path / "weights" / "start.pt").read_bytes() == b"of trial 0"
    assert (tmp_path / "weights" / "model.pt").read_bytes() == b"weights"


def test_data_folders_that_the_user_named_become_absolute(run: Path, tmp_path: Path, events: Events) -> None:
    events[1]["config"]["data"] = {"kind": "folders", "root": "videos", "cache": "/elsewhere"}
    (run / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))

    export(str(run), "trial=0", tmp_path / "out.yaml", None)

    data = yaml.safe_load((tmp_path / "out.yaml").read_text())["data"]
    assert data == {"kind": "folders", "root": str(tmp_path / "videos"), "cache": "/elsewhere"}


def test_trained_weights_are_copied_to_the_given_folder(run: Path, tmp_path: Path) -> None:
    export("by-hand", "trial=1", tmp_path / "best.yaml", tmp_path / "weights")

    assert (tmp_path / "weights" / "model.pt").read_bytes() == b"weights"


def test_missing_weights_raise_an_error_before_anything_is_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the weights of trial 0 are gone"):
        export("by-hand", "trial=0", tmp_path / "best.yaml", tmp_path / "weights")

    assert not (tmp_path / "best.yaml").exists()


def test_a_search_can_be_opened_by_folder_and_by_name(run: Path) -> None:
    assert resolve_run(str(run)) == run
    assert resolve_run("by-hand").resolve() == run
    assert open_run("by-hand").objectives == {"top1": "max", "gflops": "min"}


def test_the_error_for_an_unknown_search_lists_the_existing_searches(run: Path) -> None:
    with pytest.raises(ValueError, match=r"by-foot: no search is kept there.*there are: by-hand$"):
        resolve_run("by-foot")


def test_opening_a_search_that_has_not_begun_raises_an_error(run: Path) -> None:
    (run / "ledger.jsonl").write_text("")
    with pytest.raises(ValueError, match="the search has not begun"):
        open_run("by-hand")
