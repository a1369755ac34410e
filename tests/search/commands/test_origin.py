"""An exported config names its search, which is found again while it is in its folder."""

import json
from pathlib import Path

import pytest

from search.commands._origin import comments_of, origin_of
from search.commands.export import export
from tests.search.report.ledgers import Trees


@pytest.fixture
def config(tmp_path: Path, events: Trees) -> str:
    """The text of an exported config of trial 1."""
    (tmp_path / "run (1)").mkdir()
    (tmp_path / "run (1)" / "ledger.jsonl").write_text("".join(json.dumps(tree) + "\n" for tree in events))
    export(str(tmp_path / "run (1)"), "best", tmp_path / "best.yaml", None)
    return (tmp_path / "best.yaml").read_text()


def test_the_search_of_an_exported_config_is_found(tmp_path: Path, config: str) -> None:
    origin = origin_of(comments_of(config) + "{}")

    assert origin is not None
    assert (origin.folder, origin.trial, origin.history.name) == (tmp_path / "run (1)", 1, "by-hand")


def test_another_search_in_its_folder_or_none_is_no_origin(tmp_path: Path, config: str, events: Trees) -> None:
    ledger = tmp_path / "run (1)" / "ledger.jsonl"
    ledger.write_text(json.dumps(events[0] | {"id": "s2"}) + "\n")
    assert origin_of(config) is None
    ledger.write_text("{")
    assert origin_of(config) is None
    ledger.unlink()
    assert origin_of(config) is None
    assert origin_of("data: {}\n") is None
    assert comments_of("data: {}\n# no\n") == ""
