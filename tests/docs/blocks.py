"""Code blocks of the documentation, and what the note above a block asks of its test.

A note is a comment on the line above a block: ``<!-- test: NOTE -->``. Notes are

* none: every command is run, every spec is validated, every program is run;
* ``run with quickstart``: as none, beside a recorded search in runs/quickstart;
* ``parse only, REASON``: commands are parsed by the real parsers, and not run;
* ``output``: the lines of a text block stand in the output of the console block before it.
"""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^ *```(.*)$")
_NOTE = re.compile(r"^<!-- test: (.*) -->$")


class Block(NamedTuple):
    """A fenced block of one page."""

    place: str
    """page and line, such as docs/search.md:12"""
    language: str
    text: str
    note: str
    output: str = ""
    """of a console block: the text block that shows what it prints"""

    @property
    def parse_only(self) -> bool:
        """Whether its commands are parsed and not run."""
        return self.note.startswith("parse only, ")

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a console block."""
        lines = [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
        return [shlex.split(line, comments=True) for line in lines]


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages in one of these languages; without any, all blocks."""
    listed = [block for page in PAGES for block in _blocks_of(page)]
    return [block for block in listed if not languages or block.language in languages]


def _blocks_of(page: Path) -> list[Block]:
    listed, lines = [], page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if start is None:
            start = number
            continue
        note = _NOTE.match(lines[start - 1]) if start else None
        opening = _FENCE.match(lines[start])
        assert opening is not None
        listed.append(
            Block(
                place=f"{page.relative_to(ROOT)}:{start + 1}",
                language=opening[1].strip(),
                text="\n".join(lines[start + 1 : number]) + "\n",
                note=note[1] if note else "",
            )
        )
        if listed[-1].note == "output":
            listed[-2] = listed[-2]._replace(output=listed[-1].text)
        start = None
    assert start is None, f"{page}:{(start or 0) + 1}: a block has no end"
    return listed
