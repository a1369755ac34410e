"""Kinetics-400, Kinetics-600 and Kinetics-700.

* W. Kay, J. Carreira, K. Simonyan, B. Zhang, C. Hillier, S. Vijayanarasimhan, F. Viola, T. Green, T. Back, P. Natsev,
  M. Suleyman, A. Zisserman: "The Kinetics Human Action Video Dataset", 2017, arXiv:1705.06950.
* J. Carreira, E. Noland, A. Banki-Horvath, C. Hillier, A. Zisserman: "A Short Note about Kinetics-600", 2018,
  arXiv:1808.01340.
* J. Carreira, E. Noland, C. Hillier, A. Zisserman: "A Short Note on the Kinetics-700 Human Action Dataset", 2019,
  arXiv:1907.06987.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._files import lists_below, read_csv, split_of, videos_by_stem
from vattn.data.layouts._rows import Row
from vattn.errors import UserError


class KineticsDataConfig(LayoutConfig, kind="kinetics"):
    """``*.csv`` in the root or its ``annotations`` (label, youtube_id, time_start, time_end, split), videos anywhere.

    A video's name begins with ``{youtube_id}_{time_start:06d}_{time_end:06d}``. Labels are the classes in alphabetical
    order. Rows of test clips without published labels are skipped. Many videos are no longer available: see
    ``max_faults``.
    """

    kind: Literal["kinetics"] = "kinetics"
    split: OneSplit = 1
    classes: Literal[400, 600, 700] = Field(
        400, description="number of classes, which says which Kinetics it is; vattn check and vattn cost need no files"
    )

    def canonical(self) -> Self:
        """Return the same data in canonical form, with ``classes``, which say which Kinetics it is."""
        return super().canonical().model_copy(update={"classes": self.classes})

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the labels of all lists; raise UserError if their number is not ``classes``."""
        labels = sorted({row["label"] for _, row in _rows(root)})
        if len(labels) != self.classes:
            raise UserError(
                f"must be as many as the lists in {root} have",
                path="data.classes",
                way_out="take those of your Kinetics, or kind: table for a part of it",
                found=f"{self.classes}, and {len(labels)} in the lists",
            )
        return tuple(labels)

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read all lists, and find the videos."""
        numbers, files = {name: number for number, name in enumerate(labels)}, videos_by_stem(root)
        return (_row(place, row, numbers, files) for place, row in _rows(root))


def _rows(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, row) for each row with a label in all lists."""
    lists = [*lists_below(root, "*.csv"), *lists_below(root / "annotations", "*.csv")]
    if not lists:
        raise UserError(
            f"{root}: has no list of clips", path="data.root", way_out="put the owners' train.csv and val.csv there"
        )
    for path in lists:
        for place, row in read_csv(path, ("youtube_id", "time_start", "time_end", "split")):
            if row.get("label"):
                yield place, row


def _row(place: str, row: dict[str, str], numbers: dict[str, int], files: dict[str, list[str]]) -> Row:
    label, split = numbers[row["label"]], split_of(row["split"])
    try:
        start, end = (int(float(row[name])) for name in ("time_start", "time_end"))
    except (OverflowError, ValueError):
        start = end = 0
    if not 0 <= start < end:
        times = f"{row['time_start']}, {row['time_end']}"
        return Row(row["youtube_id"], label, "", place, f"times are not two numbers of seconds in order: {times}")
    stem = f"{row['youtube_id']}_{start:06d}_{end:06d}"
    if split is None:
        return Row(stem, label, "", place, f"unknown split: {row['split']}")
    paths = files.get(stem, [])
    if len(paths) > 1:
        return Row(stem, label, split, place, f"several files: {', '.join(paths)}")
    problem = "" if paths else "missing file"
    return Row(paths[0] if paths else stem, label, split, place, problem, seconds=float(end - start))
