"""What the script of the soak concludes from its lines; and, slowly, a run of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.soak import COUNTED, table


def line(search: int, cluster: str = "1", **changes: Any) -> dict[str, Any]:
    counted: dict[str, Any] = dict.fromkeys(COUNTED, 10.0) | {"memory_mb": 100.0 + 3 * search}
    return {
        "cluster": cluster,
        "search": search,
        "hours": 0.5 * (search + 1),
        "status": 0,
        "whole": True,
        **counted,
    } | (changes)


def test_the_table_has_what_a_search_adds_and_how_many_were_not_whole() -> None:
    lines = [*map(line, range(8)), line(0, "2"), line(1, "2", whole=False)]

    head, _, _, _, *rows = table(lines)

    assert head == "10 searches on 2 clusters in 5.0 hours; 1 of them were not whole."
    # The first two searches are the warm-up, and the second cluster has no others.
    assert rows[0] == "| 1 | 8 | memory_mb | 109 | 118 | +3 (+3 to +3) |"
    assert rows[1] == "| 1 | 8 | files | 10 | 10 | +0 (+0 to +0) |"
    assert len(rows) == len(COUNTED)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_searches_one_after_the_other_are_whole_and_leave_no_process(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.cluster.soak", "--searches", "3", "--results", str(tmp_path / "lines")]

    subprocess.run(words, check=True, timeout=850, env=os.environ | {"PYTHONPATH": str(Path.cwd())})

    lines = [json.loads(text) for text in (tmp_path / "lines").read_text().splitlines()]
    assert [(each["status"], each["whole"]) for each in lines] == [(0, True)] * 3
    assert lines[2]["processes"] <= lines[1]["processes"] + 1
