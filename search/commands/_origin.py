"""The search that an exported config comes from, by the comment at the head of its file."""

import re
from pathlib import Path
from typing import NamedTuple

from search.ledger.file import NAME
from search.ledger.history import History
from search.ledger.runs import open_run
from vattn.errors import UserError


class Origin(NamedTuple):
    """A trial of a search."""

    history: History
    folder: Path
    """the output folder of the search"""
    trial: int


def origin_line(description: str, history: History, trial: int, folder: Path) -> str:
    """Return the comment by which an exported config names its trial and its search."""
    return f"{description}: trial {trial} of the search {history.name} ({history.began.id}), which is in {folder}"


def origin_of(text: str) -> Origin | None:
    """Return the search that a config names in its comments; None if it names none, or its folder has another one."""
    named = re.search(r"^# .*: trial (\d+) of the search .* \((\w+)\), which is in (.+)$", text, re.MULTILINE)
    if named is None or not (Path(named[3]) / NAME).is_file():
        return None
    try:
        history = open_run(named[3])
    except UserError:  # a damaged ledger does not keep its models from being trained
        return None
    is_same = history.began.id == named[2] and int(named[1]) in history.trials
    return Origin(history, Path(named[3]), int(named[1])) if is_same else None


def comments_of(text: str) -> str:
    """Return the comment lines at the head of a file."""
    head = re.match(r"(?:#.*\n)*", text)
    return head[0] if head else ""
