"""Something-Something V2 (Mahdisoltani et al., 2018, arXiv:1804.09235)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vattn.data._layout import LayoutConfig, Row, find, read_json

NAME = "something-something-v2"


class SSV2DataConfig(LayoutConfig, kind="ssv2"):
    """``something-something-v2-{labels,train,validation}.json``, or ``labels/{labels,train,validation}.json``.

    Videos are ``{id}.webm`` in the root or below ``20bn-something-something-v2`` there. The labels file numbers the
    templates; those of the other lists have brackets around what stands for an object. The test split has no labels.
    """

    kind: Literal["ssv2"] = "ssv2"
    split: Literal[1] = 1

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the labels file; raises ValueError where it does not number them from 0 without a gap."""
        path = _list(root, "labels")
        try:
            numbers = {name: int(number) for name, number in read_json(path, dict).items()}
        except (TypeError, ValueError):
            numbers = {"": -1}
        if sorted(numbers.values()) != list(range(len(numbers))):
            raise ValueError(f"data.root: {path}: must number templates from 0 on; put the owners' file there")
        return tuple(sorted(numbers, key=numbers.__getitem__))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Read the lists of training and validation."""
        numbers = {name: number for number, name in enumerate(labels)}
        below = f"20bn-{NAME}/" if (root / f"20bn-{NAME}").is_dir() else ""
        for split, name in (("train", "train"), ("val", "validation")):
            path = _list(root, name)
            for place, entry in enumerate(read_json(path, list)):
                if not isinstance(entry, dict) or not {"id", "template"} <= entry.keys():
                    raise ValueError(f"data.root: {path}: entry {place} must have id and template (got {entry})")
                template = str(entry["template"]).replace("[", "").replace("]", "")
                fault = "" if template in numbers else f"unknown label: {template}"
                video, where = f"{below}{entry['id']}.webm", f"{path.name}[{place}]"
                yield Row(video, numbers.get(template, -1), split, where, fault)


def _list(root: Path, name: str) -> Path:
    return find(root, [f"{NAME}-{name}.json", f"labels/{name}.json"], f"list of {name}")
