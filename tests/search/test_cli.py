"""The command line: exit statuses, and one clear line for each problem."""

import compileall
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import spaces
from search.analysis.pareto import knee
from search.cli import main

VALID = """
schema: 1
name: valid
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
    """Run a command on a spec, check that it ends with status 2, and return its messages without the file name."""
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    assert main([command, str(path)]) == 2
    return capsys.readouterr().err.replace(f"{path}: ", "").splitlines()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("schema: 1", "schema: [1", "line 3: is not YAML"),
        ("name: valid", "nane: valid", "nane: unknown key; did you mean name?"),
        ("name: valid", "name: valid\nname: again", "line 4: the key name is given twice"),
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
def test_each_problem_of_a_spec_is_one_line_and_the_status_is_2(
    old: str, new: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in VALID

    lines = [line for line in problems(VALID.replace(old, new, 1), tmp_path, capsys) if line]

    assert any(line.startswith(problem) for line in lines), lines
    assert not any(line.startswith((" ", "Traceback")) for line in lines)


def test_a_misspelt_required_key_is_two_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(problems(VALID.replace("name:", "nane:"), tmp_path, capsys)) == 2


def test_a_file_in_the_place_of_a_folder_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for change in ({"output": "file"}, {"output": "file/inside"}, {"root": "file"}, {"cache": "file"}):
        spec = yaml.safe_load(VALID) | {"output": str(tmp_path / "out")}
        for key, path in change.items():
            (spec if key == "output" else spec["trial"]["data"])[key] = str(tmp_path / path)
        lines = problems(yaml.safe_dump(spec), tmp_path, capsys, "run")
        assert len(lines) == 1
        assert str(tmp_path / "file") in lines[0]
        assert "folder" in lines[0]


@pytest.mark.parametrize(
    "words", [("pareto", "RUN", "--plot", "file/x.html"), ("export", "RUN", "--pick", "best", "--out", "file/x.yaml")]
)
def test_a_file_that_cannot_be_written_is_one_line(
    words: tuple[str, ...], tmp_path: Path, events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (tmp_path / "file").touch()

    status = main([str(tmp_path) if word == "RUN" else str(tmp_path / word) if "/" in word else word for word in words])

    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'file'}")


def test_each_invalid_option_of_the_motion_command_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["motion", str(tmp_path / "out"), "--frames", "0", "--train-clips", "0"]) == 2
    assert capsys.readouterr().err == (
        "vattn motion: --train-clips: must be at least 1; try 1 (got 0)\n"
        "vattn motion: --frames: must be at least 2; try 2 (got 0)\n"
    )


def test_a_bug_of_the_program_shows_a_traceback_and_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A command with a bug: it calls `knee` on a front without points, which raises a plain ValueError.
    command = ModuleType("search.commands.cost")
    command.run = lambda arguments: knee([], ["max"])  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, command.__name__, command)

    assert main(["cost", str(tmp_path / "any.yaml")]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_damaged_ledger_is_reported_in_one_line(
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
def bytecode_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four packages as byte code only, and a spec with one problem."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("vattn", "spaces", "cluster", "search"):
        package = Path(import_module(name).__path__[0])
        shutil.copytree(package, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(folder / name, quiet=2, legacy=True)
        for source in (folder / name).rglob("*.py"):
            source.unlink()
    (folder / "spec.yaml").write_text(VALID.replace("epochs: 1", "epochs: 0"))
    return folder


@pytest.mark.medium
def test_a_build_without_sources_has_the_same_exit_statuses(bytecode_build: Path) -> None:
    def vattn(*words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(bytecode_build)}
        return subprocess.run(
            [sys.executable, "-m", "search", *words], cwd=bytecode_build, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    invalid, missing, valid = vattn("check", "spec.yaml"), vattn("pareto", "nowhere"), vattn("check", "quickstart")

    assert (invalid.returncode, missing.returncode, valid.returncode) == (2, 2, 0), invalid.stderr + valid.stderr
    assert invalid.stderr == "spec.yaml: trial.train.epochs: must be at least 1; try 1 (got 0)\n"
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
    queries = """
COMP_WORDS=(vattn pareto --pl); COMP_CWORD=2; _shtab_vattn; echo "${COMPREPLY[@]}"
COMP_WORDS=(vattn exp); COMP_CWORD=1; _shtab_vattn; echo "${COMPREPLY[@]}"
"""

    done = subprocess.run(["bash", "-c", script + queries], capture_output=True, text=True, check=True)

    option, commands = done.stdout.splitlines()
    assert option.strip() == "--plot"
    assert set(commands.split()) >= {"export", "explain"}


def test_a_spec_whose_limits_no_config_meets_is_refused_before_it_is_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(VALID + "constraints: {gflops: {max: 0.0001}}\n")

    assert main(["submit", str(path), "--address", "http://127.0.0.1:1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: constraints.gflops.max: no config meets this limit")
    # The limits cannot be checked on this machine when only the cluster has the data.
    motion_options = "train_clips: 1, val_clips: 1, test_clips: 1, frames: 4, size: 32, "
    path.write_text(VALID.replace("kind: motion", "kind: ucf101, root: /nowhere").replace(motion_options, ""))
    assert main(["submit", str(path), "--address", "http://127.0.0.1:1"]) == 2
    assert "data.root: /nowhere does not exist on this machine" in capsys.readouterr().err


def test_a_number_of_workers_that_does_not_divide_the_batch_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = problems(VALID + "resources: {workers: 3}\n", tmp_path, capsys)

    assert line.startswith("resources.workers: must divide train.batch")
    assert line.endswith("(got 3)")


@pytest.mark.medium
def test_a_ready_spec_can_be_given_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "quickstart"]) == 0
    assert "quickstart: spec is valid" in capsys.readouterr().out


def test_checking_a_valid_spec_prints_the_number_of_distinct_configs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(VALID)

    assert main(["check", str(path)]) == 0
    assert "2 distinct" in capsys.readouterr().out


def test_without_a_command_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "run a search: the main job" in shown
    assert shown.endswith("Begin with: vattn check quickstart, then: vattn run quickstart\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chek", "x"], "vattn: error: there is no command 'chek'; did you mean check?"),
        (["run", "x", "--reume"], "vattn run: error: unrecognized arguments: --reume; did you mean --resume?"),
        (["run", "x", "--outptu=y"], "vattn run: error: unrecognized arguments: --outptu=y; did you mean --output?"),
        (["run", "x", "y"], "vattn run: error: unrecognized arguments: y"),
        (["test", "x", "--checkpoint", "f", "--split", "vall"],
         "vattn test: error: argument --split: must be one of test, val; did you mean val? (got 'vall')"),
    ],
)  # fmt: skip
def test_a_typo_names_what_was_meant(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)

    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == message


@pytest.mark.parametrize(("words", "meant"), [(["check", "quikstart"], "quickstart"), (["cost", "tam_ssv"], "tam_ssv")])
def test_a_ready_file_with_a_typo_is_suggested(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert f"{words[1]}: no such file, and no ready one; did you mean {meant}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "run"])
def test_an_exported_config_in_place_of_a_spec_is_recognised(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best.yaml"
    path.write_text(
        "# tsm, T8: trial 7 of the search quickstart (ab12), which is in /x\ndata: {}\nmodel: {}\ntrain: {}\n"
    )

    assert main([command, str(path)]) == 2
    assert capsys.readouterr().err == (
        f"{path}: is the config of one model, trial 7 of the search quickstart, not the spec of a search; "
        f"train it (vattn train {path}), or print its cost (vattn cost {path})\n"
    )


def said_without(packages: set[str], call: str) -> str:
    """Run a call of `main` in a process of its own, which must not import ``packages``; return what it prints."""
    code = f"import sys\nfrom search.cli import main\n{call}\nassert not {packages} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_imports_no_large_package() -> None:
    call = "try: main(['--help'])\nexcept SystemExit: pass"

    assert "the main job" in said_without({"torch", "ray", "optuna", "mlflow", "numpy"}, call)


@pytest.mark.medium
def test_a_check_imports_no_large_package_but_torch() -> None:
    packages = {"ray", "optuna", "mlflow", "pandas", "scipy", "torchvision"}

    said_without(packages, "assert main(['check', 'quickstart']) == 0")


def test_vattn_and_python_m_search_are_the_same_program() -> None:
    vattn = subprocess.run([Path(sys.executable).parent / "vattn", "--help"], capture_output=True, check=True)
    module = subprocess.run([sys.executable, "-m", "search", "--help"], capture_output=True, check=True)

    assert vattn.stdout == module.stdout


RECIPES = Path(spaces.__file__).parent / "library" / "recipes"


def test_cost_of_a_recipe_needs_no_data_set(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["cost", "tam_ssv1"]) == 0
    by_name = capsys.readouterr().out
    assert main(["cost", str(RECIPES / "tam_ssv1.yaml"), "--data", "elsewhere"]) == 0
    assert capsys.readouterr().out == by_name

    # A TANet-50 has 25.59 M parameters with 400 classes, and 2049 for each.
    parameters = 25_590_320 - 226 * 2049
    assert re.search(rf"Model size \(size_mb\): [\d.]+ MB, 4 bytes for each of {parameters:,} parameters", by_name)
    assert "1 x 1 views of 224 x 224 pixels" in by_name


def test_train_names_the_folder_that_data_must_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tam_ssv1", "--data", str(tmp_path / "gone"), "--out", str(tmp_path / "out")]) == 2

    assert f"{tmp_path}/gone" in capsys.readouterr().err


def test_check_needs_no_data_set_where_the_number_of_classes_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.yaml"
    data = "{kind: ucf101, root: gone, classes: 101}"
    spec.write_text(VALID.replace(VALID[VALID.index("{kind: motion") : VALID.index("}}") + 2], data))

    assert main(["check", str(spec), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["data"] is None
    assert tree["architectures"] == 2
    assert main(["check", str(spec)]) == 0
    assert "does not exist; it is taken to have 101 classes" in capsys.readouterr().out
