"""The command by which a user can call this program."""

from pathlib import Path

import pytest

from search.report.wording.program import program


def test_the_program_is_named_as_it_can_be_called_in_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "venv" / "bin" / "vattn"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == str(script)

    monkeypatch.chdir(tmp_path)
    assert program() == "venv/bin/vattn"

    script.unlink()
    assert program() == "python -m search"
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    assert program() == "vattn"
