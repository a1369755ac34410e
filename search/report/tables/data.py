"""The text about a data set in `vattn check`, `vattn ingest` and `vattn run`: its classes, splits and clip cache."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.spec.data import CheckedData
from vattn.data.config import StoreConfig
from vattn.data.estimate import Estimate, format_bytes, written
from vattn.data.faults import printable
from vattn.data.summary import LEAST_DIFFERENCE, SPLIT_NAMES, SPLITS, Summary

#: Classes up to which each one is a row of the table.
FEW_CLASSES = 12
#: Pairs of classes that are named.
NAMED_PAIRS = 3
#: Width of the first column, characters, and of a column of numbers.
_NAME = 13
_NUMBER = 10


def render_data(checked: CheckedData) -> str:
    """Return the text about the data set of a search."""
    lines = [*summary_lines(checked.data.kind, checked.summary), *cache_lines(checked.estimate, checked.cache)]
    if checked.chosen is not None:
        lines.append(f"{'store':{_NAME}}  auto is {written(checked.chosen)}")
    return "\n".join([*lines, *warning_lines(checked.summary)])


def data_tree(checked: CheckedData) -> dict[str, object]:
    """Return the same for machines."""
    return (
        {"kind": checked.data.kind}
        | checked.summary.tree()
        | cache_tree(checked.estimate, checked.cache, checked.data.store)
    )


def summary_lines(kind: str, summary: Summary) -> list[str]:
    """Return the lines about classes and splits."""
    counts = ", ".join(f"{summary.totals[split]:,} {SPLIT_NAMES[split]}" for split in SPLITS)
    classes = "1 class" if len(summary.classes) == 1 else f"{len(summary.classes):,} classes"
    lines = [f"{'data':{_NAME}}  {kind}: {classes}; clips: {counts}"]
    lines += _table(summary)
    if summary.totals["val"]:
        least = LEAST_DIFFERENCE * summary.points_per_clip
        between = "no difference between two models is"
        if least <= 100:
            between = f"differences between models below {least:.3g} points are not"
        lines.append(
            f"{'validation':{_NAME}}  one clip is {summary.points_per_clip:.3g} percentage points of accuracy; "
            f"{between} significant"
        )
        lines.append(
            f"{'':{_NAME}}  the most frequent class is right for {100 * summary.constant_guess:.3g} % of these clips"
        )
    return lines + _flip_lines(summary)


def cache_lines(estimate: Estimate, folder: str | Path) -> list[str]:
    """Return the line about the size of a clip cache."""
    size = f"{'cache':{_NAME}}  about {format_bytes(estimate.size)} in {folder}"
    if not estimate.missing:
        return [f"{size}, which is complete"]
    more = "" if estimate.missing >= 0.995 * estimate.size else f", {format_bytes(estimate.missing)} more than now"
    warning = "; this may not fit" if estimate.missing > estimate.free else ""
    return [f"{size}{more}; its disk has {format_bytes(estimate.free)} free{warning}"]


def cache_tree(estimate: Estimate, folder: str | Path, store: StoreConfig) -> dict[str, object]:
    """Return the size of a clip cache for machines; bytes."""
    sizes = {"bytes": round(estimate.size), "missing_bytes": round(estimate.missing), "free_bytes": estimate.free}
    return {"cache": {"folder": str(folder), "store": store.tree()} | sizes}


def warning_lines(summary: Summary) -> list[str]:
    """Return a line for each problem and each warning."""
    return [f"{'problem':{_NAME}}  {text}" for text in summary.problems] + [
        f"{'warning':{_NAME}}  {text}" for text in summary.warnings
    ]


def _table(summary: Summary) -> list[str]:
    """Return the number of clips of each class and split; of many classes, of the largest, median and smallest."""
    splits = [split for split in SPLITS if summary.totals[split]]
    lines = ["".join([f"{'clips':{_NAME}}  ", *(f"{split:>{_NUMBER}}" for split in splits)])]
    counts = np.stack([summary.clips[split] for split in splits], axis=1) if splits else np.empty((0, 0), int)
    if not splits:
        return []
    if (counts == counts[:1]).all():
        return [*lines, _row("each class", counts[0].tolist())]
    order = np.argsort(counts[:, 0], kind="stable")
    if len(summary.classes) <= FEW_CLASSES:
        rows = [_row(name, row) for name, row in zip(summary.classes, counts.tolist(), strict=True)]
        rows[order[0]] += "  the smallest"
        return lines + rows
    places = {"smallest": order[0], "largest": order[-1]}
    lines.append(_row("median class", np.median(counts, axis=0).astype(int).tolist()))
    return lines + [
        f"{_row(what, counts[place].tolist())}  {printable(summary.classes[place])}" for what, place in places.items()
    ]


def _row(name: str, counts: Sequence[int]) -> str:
    name = printable(name)
    # A name that is too long stands alone in its line, so that the columns stay.
    start = f"  {name:{_NAME}}" if len(name) <= _NAME else f"  {name}\n{'':{_NAME + 2}}"
    return start + "".join(f"{count:{_NUMBER},}" for count in counts)


def _flip_lines(summary: Summary) -> list[str]:
    if summary.flips is None:
        return []
    pairs = [printable(f"{first} and {second}") for first, second in summary.flips.pairs]
    more = f" and {len(pairs) - NAMED_PAIRS:,} more pairs" if len(pairs) > NAMED_PAIRS else ""
    text = f"exchanges {'; '.join(pairs[:NAMED_PAIRS])}{more}" if pairs else "exchanges no classes"
    lines = [f"{'flip':{_NAME}}  {text}"]
    if never := summary.flips.never:
        named = printable(", ".join(never[:NAMED_PAIRS]))
        more = f" and {len(never) - NAMED_PAIRS:,} more" if len(never) > NAMED_PAIRS else ""
        lines.append(f"{'':{_NAME}}  never flipped, as their opposite is no class: {named}{more}")
    return lines
