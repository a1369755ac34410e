"""Something-Something V2.

F. Mahdisoltani, G. Berger, W. Gharbieh, D. Fleet, R. Memisevic: "On the Effectiveness of Task Granularity for Transfer
Learning", 2018, arXiv:1804.09235.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._files import find, read_json
from vattn.data.layouts._rows import Row
from vattn.errors import UserError

NAME = "something-something-v2"


class SSV2DataConfig(LayoutConfig, kind="ssv2"):
    """``something-something-v2-{labels,train,validation}.json``, or ``labels/{labels,train,validation}.json``.

    Videos are at ``{id}.webm`` in the root or its ``20bn-something-something-v2``. A class is a template; the labels
    file numbers the templates, and the other lists write its placeholders in brackets. The owners' test split has no
    labels and is not used.
    """

    kind: Literal["ssv2"] = "ssv2"
    split: OneSplit = 1

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the labels file; raise UserError if its numbers are not 0, 1, 2, ..."""
        path = _list(root, "labels")
        tree = read_json(path, dict)
        try:
            numbers = {name: int(number) for name, number in tree.items()}
        except (OverflowError, TypeError, ValueError):
            numbers = {"": -1}
        if sorted(numbers.values()) != list(range(len(numbers))):
            raise UserError(
                f"{path}: must number templates from 0 on", path="data.root", way_out="put the owners' file there"
            )
        return tuple(sorted(numbers, key=numbers.__getitem__))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists of training and validation."""
        numbers = {name: number for number, name in enumerate(labels)}
        parent = f"20bn-{NAME}/" if (root / f"20bn-{NAME}").is_dir() else ""
        for split, name in (("train", "train"), ("val", "validation")):
            path = _list(root, name)
            for place, entry in enumerate(read_json(path, list)):
                if not isinstance(entry, dict) or not {"id", "template"} <= entry.keys():
                    raise UserError(f"{path}: entry {place} must have id and template", path="data.root", found=entry)
                template = str(entry["template"]).replace("[", "").replace("]", "")
                problem = "" if template in numbers else f"unknown label: {template}"
                video = f"{parent}{entry['id']}.webm"
                yield Row(video, numbers.get(template, -1), split, f"{path.name}[{place}]", problem)


def _list(root: Path, name: str) -> Path:
    return find(root, [f"{NAME}-{name}.json", f"labels/{name}.json"], f"list of {name}")
