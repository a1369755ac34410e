"""`vattn why` on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.cli import main


def test_why_prints_text_or_json_and_refuses_unknown_trials_and_searches(
    tmp_path: Path, events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))

    assert main(["why", str(tmp_path), "1"]) == 0
    assert capsys.readouterr().out.startswith("trial 1 of by-hand: finished")
    assert main(["why", str(tmp_path), "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["front"]["picks"] == ["best", "knee"]
    assert main(["why", str(tmp_path), "7"]) == 2
    assert capsys.readouterr().err == "trial 7: no such trial in by-hand; there are 0 to 4\n"
    assert main(["why", str(tmp_path / "gone"), "1"]) == 2
    assert "no search is kept there" in capsys.readouterr().err
