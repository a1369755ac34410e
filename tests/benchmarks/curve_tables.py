"""Reads tables of recorded learning curves as problems: one training of each config, in a CSV file.

A row is a trained config. The columns ``x_*`` are its searchable values (numbers), ``cost`` is known before training,
and ``error_1 ... error_N`` are its validation errors after each step of the training; of cost and errors less is
better. The columns may stand in any order.
"""

import csv
import re
from collections import Counter
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from spaces.space import Params, Space
from tests.benchmarks.problems import Problem
from vattn.errors import UserError

#: full trainings that a search may use at most
MAX_BUDGET = 100
#: range that tells apart rows with the same values
COPY = "copy"


def table_files(folder: Path) -> list[Path]:
    """Return the files ``*.csv`` of a folder, in the order of their names.

    Raises UserError if one is not a valid table, or if there is none.
    """
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise UserError("has no *.csv file", file=folder, way_out="name a folder with tables of learning curves")
    for file in files:
        read_table(file)
    return files


def read_table(file: Path) -> Problem:
    """Return the table in a file, named as the file is.

    A search may use as many full trainings as half of the configs, at most `MAX_BUDGET`. Every step takes one second,
    as the tables do not say how long it took.

    Raises UserError with the line if a column or a row is not valid.
    """
    # Spreadsheets write a byte order mark.
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.reader(lines)
        try:
            header = [name.strip() for name in next(reader, [])]
            values, cost, errors = _columns(header, file)
            rows = [_numbers(row, header, file, reader.line_num) for row in reader if row]
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"is not a CSV file in UTF-8: {error}", file=file, path=f"line {reader.line_num}") from None
    if len(rows) < 2:
        raise UserError("needs at least two rows below the names of the columns", file=file, found=len(rows))
    table = np.array(rows)
    x = table[:, [header.index(name) for name in values]]
    x = x[:, np.ptp(x, axis=0) > 0]  # a value that all configs share is no range
    # Ranges are named by number: a name could have a slash, which stands for an option in the name of a range.
    ranges: dict[str, Any] = {
        f"x{n}": {"float": [low, high]}
        for n, (low, high) in enumerate(zip(x.min(0).tolist(), x.max(0).tolist(), strict=True))
    }
    params: list[Params] = [dict(zip(ranges, row, strict=True)) for row in x.tolist()]
    if any(copies := _copies(params)):
        ranges[COPY] = {"choice": list(range(max(copies) + 1))}
        params = [row | {COPY: copy} for row, copy in zip(params, copies, strict=True)]
    return Problem(
        name=file.stem,
        space=Space(ranges),
        params=params,
        prices=("cost",),
        known={"cost": table[:, header.index(cost)]},
        errors=list(table[:, None, [header.index(name) for name in errors]]),
        seconds=[np.ones((1, len(errors)))] * len(table),
        budget=min(MAX_BUDGET, len(table) // 2),
    )


def _columns(header: list[str], file: Path) -> tuple[list[str], str, list[str]]:
    """Return the names of the columns of values, of the cost, and of the errors in the order of the steps."""

    def wrong(rule: str, found: object) -> UserError:
        return UserError(
            rule, file=file, path="line 1", way_out="name the columns x_*, cost and error_1 ... error_N", found=found
        )

    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise wrong("a column must be named once", ", ".join(twice))
    values = [name for name in header if re.fullmatch(r"x_.+", name)]
    errors = [name for name in header if re.fullmatch(r"error_[1-9]\d*", name)]
    if unknown := [name for name in header if name not in {"cost", *values, *errors}]:
        raise wrong("has columns of no known kind", ", ".join(map(repr, unknown)))
    if not values or "cost" not in header or not errors:
        raise wrong("needs at least one column x_*, a column cost, and error_1", ", ".join(header) or "no columns")
    ordered = [f"error_{step}" for step in range(1, len(errors) + 1)]
    if missing := [name for name in ordered if name not in errors]:
        raise wrong("the errors must be of every step, without a gap", f"no {missing[0]}")
    return values, "cost", ordered


def _numbers(row: list[str], header: list[str], file: Path, line: int) -> list[float]:
    """Return the numbers of a row."""
    if len(row) != len(header):
        raise UserError(f"needs {len(header)} values, one a column", file=file, path=f"line {line}", found=len(row))
    numbers: list[float] = []
    for name, cell in zip(header, row, strict=True):
        try:
            number = float(cell)
        except ValueError:
            number = float("nan")
        if not isfinite(number) or (number < 0 and not name.startswith("x_")):
            rule = "must be a finite number" + ("" if name.startswith("x_") else ", at least 0")
            raise UserError(rule, file=file, path=f"line {line}, {name}", found=repr(cell))
        numbers.append(number)
    return numbers


def _copies(params: list[Params]) -> list[int]:
    """Return for each config the number of equal ones before it."""
    before: Counter[tuple[float, ...]] = Counter()
    copies = []
    for values in params:
        key = tuple(values.values())
        copies.append(before[key])
        before[key] += 1
    return copies
