"""YAML files and overrides as plain trees, and the line for each mistake."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.spec.messages import SpecError
from search.spec.validation import load
from search.spec.yaml_reader import parse
from tests.search.spec.minimal import MINIMAL, Problems


def test_overrides_change_mappings_lists_and_ranges(spec_file: Path) -> None:
    spec = load(
        spec_file,
        [
            "trial.model.frames={choice: [4, 8]}",
            "trial.model.frames.choice[1]=16",
            "resources.cpus=2",
            "output=elsewhere",
            "trial.train.lr=1e-2",
        ],
    )

    assert spec.trial["model"]["frames"] == {"choice": [4, 16]}
    assert spec.resources.cpus == 2
    assert spec.output_dir() == Path("elsewhere")
    assert spec.trial["train"]["lr"] == 0.01


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("nonsense", "must be a path, =, and a value, such as search.budget.trials=8 or a.choice[0]=4"),
        ("a..b=1", "must be a path, =, and a value, such as search.budget.trials=8 or a.choice[0]=4"),
        (
            "trial.model.frames.x=1",
            "there is no key x: trial.model.frames is no mapping; set trial.model.frames itself",
        ),
        ("trial.model[0]=1", "there is no element 0: trial.model is no list"),
        ("name=[1", "line 1: is not YAML: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_an_override_of_a_path_that_does_not_exist_is_refused(problems: Problems, change: str, line: str) -> None:
    assert problems(change) == [f"--set {change}: {line}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: b: c", "line 1: is not YAML: mapping values are not allowed here"),
        ("a: 1\n\tb: 2", "line 2: is not YAML: found character '\\t' that cannot start any token"),
        ("", "must be a mapping, lines such as `name: value`"),
        ("- 1", "must be a mapping, lines such as `name: value`"),
        (MINIMAL + "name: again\n", "line 8: the key name is given twice; keep one of them"),
        ("a: {b: 1,\n b: 2}", "line 2: the key b is given twice; keep one of them"),
        ("1: 2", "line 1: a key must be a word; put it in quotes if it is meant"),
        ("a: 1e999", "line 1: a number is too large"),
        ("a: &x [*x]", "line 1: found unconstructable recursive node"),
        ("[" * 2_000, "line 1: is nested more than 64 deep"),
    ],
)
def test_a_file_that_is_not_a_plain_yaml_mapping_is_refused_with_the_line(
    problems: Problems, text: str, line: str
) -> None:
    assert problems(text=text) == [f"spec.yaml: {line}"]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml: no such file or directory; name a file that can be read$"):
        load(tmp_path / "none.yaml")


def test_scalars_are_read_as_in_yaml_1_2() -> None:
    tree = parse("{a: 1e-4, b: no, c: 010, d: 1:30, e: 2024-01-01, f: ~, g: true, h: 0x10, i: .5, j: .inf, k: -3}")

    assert tree == {
        "a": 0.0001, "b": "no", "c": 10, "d": "1:30", "e": "2024-01-01", "f": None, "g": True, "h": 16, "i": 0.5,
        "j": ".inf", "k": -3,
    }  # fmt: skip
    assert type(tree["a"]) is float
    assert type(tree["c"]) is int


@given(number=st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_python_writes_them(number: float) -> None:
    assert parse(repr(number)) == number
