"""`vattn repair`: show the damaged end of a ledger, and cut it off."""

import shlex
from argparse import Namespace
from pathlib import Path

from search.ledger.file import NAME, Damage, Ledger, damage
from search.ledger.runs import resolve_run
from search.report.wording.errors import printable
from search.report.wording.program import program
from vattn.errors import UserError
from vattn.files import writing

#: lines, and characters of each, that are shown of what is cut off
_SHOWN_LINES = 5
_SHOWN_LENGTH = 160


def run(arguments: Namespace) -> None:
    """Show what is damaged, and cut it off with ``--yes``."""
    repair(arguments.search, arguments.yes)


def repair(run: str, cut: bool) -> None:
    """Show the end of a search's ledger from its first damaged line on; with ``cut``, move it to another file.

    A line that is no event says nothing about those after it, so all of them go: to ``ledger.jsonl.cut``. The trials
    that they report are trained again by ``vattn run --resume``.

    Raises:
        UserError: there is no search, another process runs it, or its first line is damaged.
    """
    path = resolve_run(run) / NAME
    found = damage(path)
    if found is None:
        print(f"{path}: all lines are good")
        return
    if found.start == 0:
        raise UserError(found.rule, file=path, path="line 1", way_out="nothing can be saved; restore it from a copy")
    with path.open("rb") as file:
        file.seek(found.start)
        lost = file.read()
    _show(path, found, lost)
    if not cut:
        print(f"nothing is changed; cut it off with: {shlex.join([program(), 'repair', run, '--yes'])}")
        return
    kept = _kept_at(path)
    with writing(kept, "make room"):
        kept.write_bytes(lost)
    Ledger.cut(path, found.start)
    print(f"cut off, and kept in {kept}; go on with: vattn run SPEC --resume")


def _show(path: Path, found: Damage, lost: bytes) -> None:
    lines = lost.splitlines()
    print(f"{path}: line {found.line}: {found.rule}; {len(lines)} lines, {len(lost)} bytes, from there on:")
    for number, line in enumerate(lines[:_SHOWN_LINES], start=found.line):
        text = printable(line[:_SHOWN_LENGTH].decode(errors="replace"))
        print(f"  {number}: {text}{'...' if len(line) > _SHOWN_LENGTH else ''}")
    if len(lines) > _SHOWN_LINES:
        print(f"  and {len(lines) - _SHOWN_LINES} more")


def _kept_at(path: Path) -> Path:
    """Return a path beside the ledger at which there is no file yet."""
    names = [path.with_name(f"{path.name}.cut"), *(path.with_name(f"{path.name}.cut-{n}") for n in range(2, 1000))]
    return next(name for name in names if not name.exists())
