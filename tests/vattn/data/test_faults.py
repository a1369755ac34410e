import pytest

from vattn.data.faults import Problem, accepted, tolerance


@pytest.mark.parametrize(
    ("max_faults", "rows", "number"),
    [(3, 10, 3), ("1 %", 199, 1), ("1%", 200, 2), ("0.07 %", 10_000, 7), ("100 %", 7, 7), ("0 %", 7, 0)],
)
def test_a_share_of_the_rows_is_rounded_down(max_faults: int | str, rows: int, number: int) -> None:
    assert accepted(tolerance(max_faults), rows) == number


def test_a_problem_is_one_line_that_can_be_printed() -> None:
    assert str(Problem("missing file", "a\nb\x1b[31m\udce9é")) == r"a\nb\x1b[31m\udce9é: missing file"
