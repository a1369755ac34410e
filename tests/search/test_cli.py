"""The command line: exit statuses, and one clear line a problem."""

import compileall
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from search.analysis.pareto import knee
from search.cli import PLANNED, main

GOOD = """
schema: 1
name: good
trial:
  data: {kind: motion, train_clips: 1, val_clips: 1, test_clips: 1, frames: 4, size: 32, store: {size: 32}}
  model:
    frames: 4
    size: 32
    backbone: {kind: resnet, depth: 10, width: 0.25}
    attention: {choice: [[], [{kind: tam, kernel_size: 3}]]}
  train: {epochs: 1, batch: 8, lr: 0.1}
search: {budget: {trials: 1}}
"""


def problems(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str = "check") -> list[str]:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    assert main([command, str(path)]) == 2
    return capsys.readouterr().err.replace(f"{path}: ", "").splitlines()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("schema: 1", "schema: [1", "line 3: is not YAML"),
        ("name: good", "nane: good", "nane: unknown key; did you mean name?"),
        ("name: good", "name: good\nname: better", "line 4: the key name is given twice"),
        ("epochs: 1", "epochs: one", 'trial.train.epochs: must be a whole number (got "one")'),
        ("{choice: [[], [{kind: tam, kernel_size: 3}]]}", "{choice: []}", "trial.model.attention.choice: "),
        ("lr: 0.1", "lr: {float: [1.0, 0.1]}", "trial.train.lr.float: "),
        (
            "kernel_size: 3", "kernel_size: 4",
            "trial.model.attention.choice[1][0].kernel_size: "
            "must be odd, so that T frames in give T frames out; try 5 (got 4)",
        ),
        ("kernel_size: 3", "stages: [2, 6]", "trial.model.attention.choice[1][0].stages: "),
        ("search:", "constraints: {gflops: {max: 0.0001}}\nsearch:", "constraints.gflops.max: no config meets"),
        ("search:", "objectives: {top2: max}\nsearch:", "objectives.top2: unknown key; did you mean top5?"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_a_fault_and_status_2(
    old: str, new: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in GOOD

    lines = [line for line in problems(GOOD.replace(old, new, 1), tmp_path, capsys) if line]

    assert any(line.startswith(problem) for line in lines), lines
    assert not any(line.startswith((" ", "Traceback")) for line in lines)


def test_a_key_that_hides_a_missing_one_is_two_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(problems(GOOD.replace("name:", "nane:"), tmp_path, capsys)) == 2


def test_a_missing_data_folder_and_a_file_in_its_place_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for change in ({"output": "file"}, {"output": "file/inside"}, {"root": "file"}, {"cache": "file"}):
        spec = yaml.safe_load(GOOD) | {"output": str(tmp_path / "out")}
        for key, place in change.items():
            (spec if key == "output" else spec["trial"]["data"])[key] = str(tmp_path / place)
        lines = problems(yaml.safe_dump(spec), tmp_path, capsys, "run")
        assert len(lines) == 1
        assert str(tmp_path / "file") in lines[0]
        assert "folder" in lines[0]


@pytest.mark.parametrize(
    "words", [("pareto", "RUN", "--plot", "file/x.html"), ("export", "RUN", "--pick", "best", "--out", "file/x.yaml")]
)
def test_a_place_that_cannot_be_written_is_one_line(
    words: tuple[str, ...], tmp_path: Path, events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (tmp_path / "file").touch()

    status = main([str(tmp_path) if w == "RUN" else str(tmp_path / w) if "/" in w else w for w in words])

    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'file'}")


def test_a_wrong_option_of_the_motion_set_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["motion", str(tmp_path / "out"), "--frames", "0", "--train-clips", "0"]) == 2
    assert capsys.readouterr().err == (
        "vattn motion: --train-clips: must be at least 1; try 1 (got 0)\n"
        "vattn motion: --frames: must be at least 2; try 2 (got 0)\n"
    )


def test_misuse_of_our_own_function_is_a_bug_with_a_traceback_and_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A command with a bug: it picks the knee of a front without points.
    command = ModuleType("search.commands.cost")
    command.run = lambda arguments: knee([], ["max"])  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, command.__name__, command)

    assert main(["cost", str(tmp_path / "any.yaml")]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_damaged_ledger_is_one_line(
    tmp_path: Path, events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    for event in events:
        if event["event"] == "report":
            event["metrics"]["top1"] = [0.5]
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))

    assert main(["pareto", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'ledger.jsonl'}: line 4: is not an event")


@pytest.fixture(scope="module")
def without_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our packages as byte code alone, and a spec with a mistake."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("vattn", "spaces", "cluster", "search"):
        package = Path(import_module(name).__path__[0])
        shutil.copytree(package, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(folder / name, quiet=2, legacy=True)
        for source in (folder / name).rglob("*.py"):
            source.unlink()
    (folder / "spec.yaml").write_text(GOOD.replace("epochs: 1", "epochs: 0"))
    return folder


def test_a_build_without_sources_has_the_same_exit_statuses(without_sources: Path) -> None:
    def vattn(*words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(without_sources)}
        return subprocess.run(
            [sys.executable, "-m", "search", *words], cwd=without_sources, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    wrong, missing, right = vattn("check", "spec.yaml"), vattn("pareto", "nowhere"), vattn("check", "quickstart")

    assert (wrong.returncode, missing.returncode, right.returncode) == (2, 2, 0), wrong.stderr + right.stderr
    assert wrong.stderr == "spec.yaml: trial.train.epochs: must be at least 1; try 1 (got 0)\n"
    assert missing.stderr.startswith("nowhere: no search is kept there")


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"vattn {metadata.version('vattn-search')}\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", "bash"])
    script = capsys.readouterr().out
    ask = """
COMP_WORDS=(vattn pareto --pl); COMP_CWORD=2; _shtab_vattn; echo "${COMPREPLY[@]}"
COMP_WORDS=(vattn exp); COMP_CWORD=1; _shtab_vattn; echo "${COMPREPLY[@]}"
"""

    done = subprocess.run(["bash", "-c", script + ask], capture_output=True, text=True, check=True)

    option, commands = done.stdout.splitlines()
    assert option.strip() == "--plot"
    assert set(commands.split()) >= {"export", "explain"}


def test_a_spec_that_nothing_meets_is_refused_before_it_is_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD + "constraints: {gflops: {max: 0.0001}}\n")

    assert main(["submit", str(path), "--address", "http://127.0.0.1:1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: constraints.gflops.max: no config meets this limit")
    # Of data that only the cluster has nothing can be counted here.
    own = "train_clips: 1, val_clips: 1, test_clips: 1, frames: 4, size: 32, "
    path.write_text(GOOD.replace("kind: motion", "kind: ucf101, root: /nowhere").replace(own, ""))
    assert main(["submit", str(path), "--address", "http://127.0.0.1:1"]) == 2
    assert "data.root: /nowhere is not there on this machine" in capsys.readouterr().err


def test_workers_that_cannot_share_a_batch_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = problems(GOOD + "resources: {workers: 3}\n", tmp_path, capsys)

    assert line.startswith("resources.workers: must divide train.batch")
    assert line.endswith("(got 3)")


def test_a_ready_spec_goes_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "quickstart"]) == 0
    assert "quickstart: spec is valid" in capsys.readouterr().out


def test_a_right_spec_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD)

    assert main(["check", str(path)]) == 0
    assert "2 distinct" in capsys.readouterr().out


@pytest.mark.parametrize("name", PLANNED)
def test_a_command_that_is_not_built_yet_says_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "whatever", "--and", "more"]) == 2
    assert capsys.readouterr().err == f"vattn {name}: not available yet\n"


def test_help_waits_for_no_heavy_import() -> None:
    code = (
        "import sys\nfrom search.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'ray', 'optuna', 'mlflow', 'numpy'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "the main job" in done.stdout


def test_both_names_of_the_program_are_one() -> None:
    vattn = subprocess.run([Path(sys.executable).parent / "vattn", "--help"], capture_output=True, check=True)
    module = subprocess.run([sys.executable, "-m", "search", "--help"], capture_output=True, check=True)

    assert vattn.stdout == module.stdout
