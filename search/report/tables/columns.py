"""Cells of text in aligned columns."""

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]], right: int) -> str:
    """Return rows of cells as lines of text; the first ``right`` columns are aligned right, the others left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if n < right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
