"""`from search import Search`: the results of a search as tables, texts and figures, and a search that is run."""

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest

from search import Search
from search.report.outside.beat import new_beat, write
from tests.search.report.ledgers import Trees, trial
from vattn.errors import UserError


@pytest.fixture
def loaded(tmp_path: Path, events: Trees) -> Search:
    """The search by hand."""
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(tree) + "\n" for tree in events))
    return Search.load(tmp_path)


def test_tables_have_a_row_for_each_trial(loaded: Search) -> None:
    front, trials, curves = loaded.front(), loaded.trials(), loaded.curves()

    assert list(front.index) == [0, 1]
    assert front["top1"].to_dict() == {0: 0.5, 1: 0.75}
    assert front["gflops"].to_dict() == {0: 0.2, 1: 0.4}
    assert front["pick"].to_dict() == {0: "", 1: "best knee"}
    assert front["mechanism"].to_dict() == {0: "no attention", 1: "tam"}
    assert front["model.frames"].to_dict() == {0: 8, 1: 8}
    assert trials["state"].to_dict() == {0: "finished", 1: "finished", 2: "stopped", 3: "failed", 4: "running"}
    assert curves.loc[(1, 2), "top1"] == 0.75
    assert len(curves) == 6


def test_an_interval_is_that_of_the_number_of_clips(tmp_path: Path, events: Trees) -> None:
    trees = [events[0] | {"clips": {"val": 480}}, *trial(0, 0.2, 0.5)]
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(tree) + "\n" for tree in trees))

    row = Search.load(tmp_path).front().loc[0]

    # Wilson's interval of 240 of 480: 0.5 +- 1.96 / (2 sqrt(480 + 1.96^2)).
    assert row["low"] == pytest.approx(0.5 - 1.96 / (2 * (480 + 1.96**2) ** 0.5), abs=1e-4)
    assert row["low"] + row["high"] == pytest.approx(1.0)


def test_picks_configs_and_reasons(loaded: Search, tmp_path: Path) -> None:
    assert loaded.pick("best") == 1
    assert loaded.pick("gflops<=0.3") == 0
    assert loaded.config("best")["model"]["attention"][0]["kind"] == "tam"
    answer = loaded.why(2)
    assert "below the front" in answer
    assert answer.facts["trial"] == 2
    assert answer._repr_html_().startswith("<pre>trial 2 of by-hand")
    assert loaded.export(tmp_path / "best.yaml", "best").read_text().startswith("# tam a2 K3 @res2-5 b, T8: trial 1 ")
    assert "by-hand" in loaded.report(tmp_path / "report.html").read_text()


def test_a_notebook_shows_sentences_a_table_and_a_picture(loaded: Search) -> None:
    shown = loaded._repr_html_()

    assert "What won" in shown
    assert "<table" in shown
    assert 'src="data:image/png;base64,' in shown
    picture = BytesIO()
    loaded.figure().savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG")
    assert repr(loaded) == f"Search(by-hand: 4 of 6 trials, {loaded.folder})"
    assert "tam a2 K3 @res2-5 b, T8" in str(loaded)


@pytest.mark.medium
def test_the_study_has_the_learning_curves(tmp_path: Path, events: Trees) -> None:
    space = {"model": {"frames": {"choice": [4, 8]}, "attention": {"choice": [[{"kind": "tam"}], []]}}}
    trees = [events[0] | {"spec": events[0]["spec"] | {"trial": space}}, *trial(0, 0.2, 0.25, 0.5)]
    trees += [{"time": 1.8e9, "trial": 1} | tree for tree in trial(1, 0.4, 0.75)[:3]]
    trees += [{"time": 1.8e9, "trial": 1, "event": "stopped", "epoch": 1, "reason": "below the front"}]
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(tree) + "\n" for tree in trees))
    search = Search.load(tmp_path)

    study = search.study("top1", tmp_path / "journal.log")

    finished, stopped = study.trials
    assert (finished.state.name, finished.value, finished.intermediate_values) == ("COMPLETE", 0.5, {1: 0.25, 2: 0.5})
    assert finished.params == {"model.frames": "8", "model.attention": "tam"}
    assert (stopped.state.name, stopped.intermediate_values) == ("PRUNED", {1: 0.75})
    assert (tmp_path / "journal.log").stat().st_size > 0
    assert search.study().best_trials[0].values == [0.5, 0.2]


def test_what_is_not_there_is_refused(tmp_path: Path, loaded: Search) -> None:
    with pytest.raises(UserError, match="no search is kept there"):
        Search.load(tmp_path / "none")
    with pytest.raises(UserError, match="was loaded from its folder; run Search"):
        loaded.run()
    with pytest.raises(UserError, match=r"objective: is no objective of the search; take top1, gflops \(got loss\)"):
        loaded.study("loss")


def test_a_search_of_another_process_is_waited_for(loaded: Search) -> None:
    write(loaded.folder, new_beat("searches"))

    with pytest.raises(TimeoutError, match=r"still runs after 0\.1 seconds"):
        loaded.wait(timeout=0.1)

    (loaded.folder / "status.json").unlink()
    assert loaded.wait() is loaded


@pytest.mark.medium
def test_a_search_that_cannot_run_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    search = Search("quickstart", {"search.budget.trials": 1}, output=tmp_path / "file" / "out")

    assert search.folder == tmp_path / "file" / "out"
    assert "not begun" in search._repr_html_()
    with pytest.raises(RuntimeError, match=r"status 2:\n.*output: must be a folder"):
        search.run()
    with pytest.raises(UserError, match="did you mean trials"):
        Search("quickstart", {"search.budget.trails": 1})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_runs_is_stopped_and_continues(tmp_path: Path) -> None:
    changes = {
        "trial.train.epochs": 1,
        "search.budget.trials": 2,
        "trial.data.train_clips": 4,
        "search.scheduler": "none",
    }
    search = Search("quickstart", changes, output=tmp_path / "out").run(wait=False)
    while not (tmp_path / "out" / "ledger.jsonl").is_file():
        assert search._process
        assert search._process.poll() is None
    search.stop()

    assert len(search.run().trials()) == 2
    assert len(search.front()) >= 1
    assert search.status["state"] == "ended"


def test_the_package_imports_nothing_large() -> None:
    code = "import sys, search; assert not {'torch', 'ray', 'optuna', 'mlflow', 'numpy', 'pandas'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
