"""The benchmark of GPUs runs on a CPU, and ends with status 1 where it finds something wrong."""

import re

import pytest

from tests.benchmarks import bench_gpu


@pytest.mark.medium
@pytest.mark.timeout(300)
def test_every_part_prints_a_table_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_gpu.main(["--device", "cpu"]) == 0

    _, *parts = capsys.readouterr().out.split("\n## ")
    assert [part.partition("\n")[0] for part in parts] == [*bench_gpu.PARTS, "What is wrong"]
    for part in parts[:-1]:
        header, separator, *rows = re.findall(r"^\|.*\|$", part, re.MULTILINE)
        assert rows
        assert {row.count("|") for row in (header, separator, *rows)} == {header.count("|")}


def test_an_error_that_is_too_large_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_gpu, "TOLERANCES", {"bf16": 1e-9})

    assert bench_gpu.main(["correctness", "--device", "cpu"]) == 1

    assert re.search(r"\* tam in bf16: relative error \S+, more than 1e-09", capsys.readouterr().out)
