"""Kinetics-400, -600 and -700 (Kay et al., 2017, arXiv:1705.06950; Carreira et al., 2018 and 2019)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from vattn.data._layout import LayoutConfig, Row, read_csv, videos_by_stem

#: The owners' names of the splits, and ours.
SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}


class KineticsDataConfig(LayoutConfig, kind="kinetics"):
    """``*.csv`` in the root or its ``annotations`` (label, youtube_id, time_start, time_end, split), videos anywhere.

    A video's name begins with ``{youtube_id}_{time_start:06d}_{time_end:06d}``. Labels are in alphabetical order. Rows
    of test clips whose labels are not published are passed over. Many videos are gone: see ``max_faults``.
    """

    kind: Literal["kinetics"] = "kinetics"
    split: Literal[1] = 1
    classes: Literal[400, 600, 700] = Field(400, description="which Kinetics")

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the labels of all lists; raises ValueError where they are not ``classes``."""
        labels = sorted({line["label"] for _, line in _lines(root)})
        if len(labels) != self.classes:
            raise ValueError(
                f"data.classes: must be as many as the lists in {root} have; take those of your Kinetics, or kind: "
                f"table for a part of it (got {self.classes}, and {len(labels)} in the lists)"
            )
        return tuple(labels)

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read all lists, and look for the videos."""
        numbers, files = {name: number for number, name in enumerate(labels)}, videos_by_stem(root)
        return (_row(where, line, numbers, files) for where, line in _lines(root))


def _lines(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the lines with labels of all lists."""
    lists = sorted([*root.glob("*.csv"), *root.glob("annotations/*.csv")])
    if not lists:
        raise ValueError(f"data.root: {root}: has no list of clips; put the owners' train.csv and val.csv there")
    for path in lists:
        for where, line in read_csv(path, ("youtube_id", "time_start", "time_end", "split")):
            if line.get("label"):
                yield where, line


def _row(where: str, line: dict[str, str], numbers: dict[str, int], files: dict[str, list[str]]) -> Row:
    label, split = numbers[line["label"]], line["split"]
    try:
        start, end = (int(float(line[name])) for name in ("time_start", "time_end"))
    except ValueError:
        return Row(line["youtube_id"], label, "", where, f"times are no numbers: {line['time_start']}")
    stem = f"{line['youtube_id']}_{start:06d}_{end:06d}"
    if split not in SPLITS:
        return Row(stem, label, "", where, f"unknown split: {split}")
    there = files.get(stem, [])
    if len(there) > 1:
        return Row(stem, label, SPLITS[split], where, f"several files: {', '.join(there)}")
    fault = "" if there else "missing file"
    return Row(there[0] if there else stem, label, SPLITS[split], where, fault, seconds=float(end - start))
