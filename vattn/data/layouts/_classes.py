"""Checks of labels that are numbers, before their rows are checked one by one."""

from collections.abc import Mapping, Sequence

from vattn.data.layouts._rows import Row
from vattn.errors import UserError

#: Numbers without a clip up to which labels are taken for the numbers of classes: a part of a large data set may keep
#: the numbers of the whole.
MAX_UNUSED = 1000


def numbered(labels: Mapping[int, str], path: str) -> tuple[str, ...]:
    """Return the names of classes that only have numbers: 0 to the largest label.

    Args:
        labels: the labels, each with a place where it is written.
        path: the field that names the list.

    Raises:
        UserError: no label is 0 or more, or too many numbers below the largest have no clip to be numbers of classes.
    """
    largest = max(labels)
    unused = largest + 1 - sum(label >= 0 for label in labels)
    if largest < 0 or unused > MAX_UNUSED:
        why = f", and {unused:,} numbers below the largest label have no clip" if unused else ""
        raise UserError(
            f"{labels[largest]}: labels must number the classes from 0 on{why}",
            path=path,
            way_out="number the classes without gaps",
            found=f"{largest:,}",
        )
    return tuple(map(str, range(largest + 1)))


def refuse_shifted(rows: Sequence[Row], labels: Sequence[str]) -> None:
    """Raise UserError if labels begin at 1: each clip would be of the class after its own."""
    numbers = {row.label for row in rows if not row.problem}
    if numbers and min(numbers) == 1 and max(numbers) == len(labels):
        raise UserError(
            f"labels must be 0 to {len(labels) - 1}, as there are {len(labels)} names of classes",
            path="data.names",
            way_out="subtract 1 from each label in the lists, or add a first name for class 0",
            found=f"1 to {len(labels)}",
        )
