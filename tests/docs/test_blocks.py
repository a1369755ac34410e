"""Every command, spec and program in the documentation is run or checked."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from mlflow.cli import server

from docs.tools.reference import command_line, commands
from search.cli import main
from search.spec.validation import load, load_config
from tests.docs.blocks import ROOT, Block, blocks

#: Commands that take seconds, need no network and start no process.
CHEAP = ("check", "pareto", "report", "why", "export", "cost", "status", "list")
#: A search as `make demo` leaves it, without weights and data.
RECORDED = Path(__file__).parent / "quickstart.jsonl"
#: What a fragment of a spec is checked with: one small network, so that only the ranges of the fragment are counted.
BASE: dict[str, Any] = {
    "schema": 1,
    "name": "fragment",
    "trial": {
        "data": {"kind": "motion"},
        "model": {"frames": 8, "size": 48, "backbone": {"kind": "resnet", "depth": 10, "width": 0.5}},
        "train": {"epochs": 9, "batch": 32, "lr": 0.1},
    },
    "search": {"budget": {"trials": 16}},
}


def each(*languages: str) -> pytest.MarkDecorator:
    listed = blocks(*languages)
    return pytest.mark.parametrize("block", listed, ids=[block.place for block in listed])


def test_every_block_is_in_a_language_that_a_test_knows() -> None:
    languages = {block.language for block in blocks()}

    assert languages <= {"console", "yaml", "python", "text"}


def test_every_note_of_a_block_is_known() -> None:
    notes = {block.note for block in blocks()}

    assert all(note in ("", "run with quickstart", "output") or re.match(r"parse only, \w", note) for note in notes)


@pytest.mark.medium
@each("yaml")
def test_yaml_is_a_valid_spec_or_config(block: Block, tmp_path: Path) -> None:
    tree = yaml.safe_load(block.text)
    if tree.keys() >= {"data", "model", "train"}:
        load_config(written(block.text, tmp_path))
        return
    if "schema" not in tree:
        tree = merged(BASE, tree)

    spec = load(written(yaml.safe_dump(tree, sort_keys=False), tmp_path))

    assert spec.name


def written(text: str, folder: Path) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text)
    return path


def merged(base: dict[str, Any], fragment: dict[str, Any]) -> dict[str, Any]:
    """Return the base with the keys of a fragment in their places; a mapping with a kind is replaced as a whole."""
    result = dict(base)
    for key, value in fragment.items():
        old = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not {"kind", "choice"} & value.keys():
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result


@each("console")
def test_commands_are_parsed_by_the_real_parsers(block: Block) -> None:
    assert block.commands
    for words in block.commands:
        parse(words)


def parse(words: list[str]) -> None:
    """Raise AssertionError or SystemExit for a command that would be refused."""
    match words:
        case [".venv/bin/vattn" | "vattn", *arguments]:
            if arguments[0].startswith("-"):
                with pytest.raises(SystemExit) as ended:
                    command_line().parse_args(arguments[: arguments.index(">")] if ">" in arguments else arguments)
                assert ended.value.code == 0
                return
            assert arguments[0] in dict(commands()), f"vattn {arguments[0]} is not available"
            command_line().parse_args(arguments)
        case ["python" | ".venv/bin/python", "-m", "search", *arguments]:
            command_line().parse_args(arguments)
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text()
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
        case ["ray", *arguments]:
            parse_ray(arguments)
            if "--" in arguments:
                parse(arguments[arguments.index("--") + 1 :])
        case ["mlflow", "server", *arguments]:
            server.make_context("server", arguments)
        case [".", ".venv/bin/activate"] | ["git" | "cd" | "export", *_]:
            pass
        case ["python" | ".venv/bin/python" | "pip" | ".venv/bin/ruff", *arguments]:
            files = [word for word in arguments if re.search(r"\.(py|txt)$", word)]
            assert all((ROOT / file).is_file() for file in files)
        case _:
            raise AssertionError(f"no parser for {' '.join(words)}")


def parse_ray(arguments: list[str]) -> None:
    from ray.scripts.scripts import cli

    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *arguments = arguments
        found = command.commands.get(name)
        assert found is not None, f"ray has no command {name}"
        command = found
    command.make_context("ray", list(arguments))


@pytest.mark.medium
@each("console")
def test_commands_that_take_seconds_are_run(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if block.parse_only:
        pytest.skip(block.note)
    run = tmp_path / "runs" / "quickstart"
    run.mkdir(parents=True)
    shutil.copy(RECORDED, run / "ledger.jsonl")
    shutil.copytree(ROOT / "spaces", tmp_path / "spaces")
    monkeypatch.chdir(tmp_path)
    if any("best.yaml" in words for words in block.commands if words[1:2] != ["export"]) and not any(
        words[1:2] == ["export"] for words in block.commands
    ):
        assert main(["export", "quickstart", "--pick", "knee", "--out", "best.yaml"]) == 0
    for words in block.commands:
        if words[0] == ".":
            continue
        assert words[0].endswith("vattn"), f"{block.place}: note `parse only, REASON` for {' '.join(words)}"
        assert words[1] in CHEAP, f"{block.place}: note `parse only, REASON` for {' '.join(words)}"
        assert main(words[1:]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert [line for line in block.output.splitlines() if line not in printed] == []


@pytest.mark.medium
@each("python")
def test_programs_run(block: Block, tmp_path: Path) -> None:
    if block.parse_only:
        compile(block.text, block.place, "exec")
        return

    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
