"""The section ``exported`` of a config that `vattn export` wrote: what was found, and with which data and code.

It has no part in the config itself. `vattn train` compares it with what is there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from search.spec.messages import SpecError, problems
from search.spec.yaml_reader import read
from spaces.space import Tree
from vattn.base import Config
from vattn.data.fingerprint import SplitPrint
from vattn.errors import UserError

#: name of the section
SECTION = "exported"
#: packages on which the result of a training depends, beside Python
COMPARED = ("vattn-search", "torch", "numpy", "av")
#: differences that a message names
_NAMED = 5


class Expected(Config):
    """The measured accuracy, with the ends of its 95 % interval if they are known."""

    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    split: str = "val"
    clips: int | None = None
    epochs: int
    seeds: tuple[int, ...] = ()
    """of the trainings of which the value is the mean"""


class Exported(Config):
    """What an exported config was found by."""

    search: str
    id: str
    trial: int
    expected: Expected | None = None
    """None for a trial that was not measured"""
    costs: dict[str, float] = Field(default={})
    """of one view and of a video in evaluation"""
    data: dict[str, SplitPrint] = Field(default={})
    """by split; empty if the data were gone when it was written"""
    versions: dict[str, str] = Field(default={})


def without_section(tree: Tree) -> Tree:
    """Return a config without the section."""
    return {key: value for key, value in tree.items() if key != SECTION}


def read_exported(file: Path) -> Exported | None:
    """Return the section of a config file; None if it has none. Raises SpecError if it has another form."""
    section = read(file).get(SECTION)
    if section is None:
        return None
    try:
        return Exported.parse(section)
    except ValidationError as error:
        found = [replace(each, path=(SECTION, *each.path)) for each in problems(error, Exported, section)]
        raise SpecError.of(file, found) from None


def refuse_differences(file: Path, found: Sequence[str]) -> None:
    """Raise UserError if anything differs from what a config was found with."""
    if found:
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise UserError(
            f"was found with other data or code: {'; '.join(found[:_NAMED])}{more}", file=file, path=SECTION,
            way_out="put them back, or train it all the same with --force",
        )  # fmt: skip


def other_versions(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Return a text for each version that a result depends on and that is another one here."""
    found = []
    for name in ("python", *COMPARED):
        before, now = (_public(name, versions.get(name, "")) for versions in (recorded, here))
        if before and before != now:
            found.append(f"{name} was {before}, and is {now or 'missing'}")
    return found


def other_data(recorded: Mapping[str, SplitPrint], here: Mapping[str, SplitPrint], splits: Sequence[str]) -> list[str]:
    """Return a text for each of ``splits`` whose clips, or whose files, differ from the recorded ones."""
    found = []
    for split in splits:
        before, now = recorded.get(split), here.get(split)
        if before is None or now is None:
            if before is not now:
                found.append(f"data: the {split} split is {'new' if before is None else 'gone'}")
        elif before.clips != now.clips:
            found.append(f"data: the {split} split had {before.clips} clips, and has {now.clips}")
        elif before.lists != now.lists:
            found.append(f"data: the {split} split lists other files, frames or classes")
        elif before.content and now.content and before.content != now.content:
            found.append(f"data: files of the {split} split have another content")
    return found


def _public(name: str, version: Any) -> str:
    """Return what matters of a version: of Python the first two numbers, and no build such as +cu130."""
    public = str(version).partition("+")[0]
    return ".".join(public.split(".")[:2]) if name == "python" else public
