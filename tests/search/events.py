"""Build events and histories in tests; fields that a test does not care about are filled in."""

from collections.abc import Iterable, Mapping
from typing import Any

from search.ledger.events import Event, parse_event
from search.ledger.history import History

#: default fields by kind of event
FIELDS: dict[str, dict[str, Any]] = {
    "search": {"id": "s1", "name": "by-hand", "spec": {"search": {"budget": {}}}},
    "warm_start": {
        "source": "runs/earlier", "id": "s0", "name": "earlier", "trials": [], "left_out": {}, "differs": [],
    },
    "guard": {"source": "runs/earlier", "trusted": True, "correlation": 0.9, "trials": 6, "offset": {}},
    "proposed": {"params": {}, "config": {}, "identity": "0" * 16, "architecture": "a" * 16, "cost": {}},
    "rejected": {"params": {}, "identity": "f" * 16, "cost": {}, "reason": "over the limit"},
    "inherits": {"source": None, "reason": "none"},
    "started": {"epoch": 0},
    "report": {"seconds": 1.0},
    "finished": {"epoch": 1, "seconds": 1.0},
}  # fmt: skip


def event(tree: Mapping[str, Any]) -> Event:
    """Return the event that ``tree`` stands for, with time 0 and `FIELDS` where it has no values of its own."""
    return parse_event({"time": 0.0} | FIELDS.get(tree["event"], {}) | dict(tree))


def history_of(trees: Iterable[Mapping[str, Any]]) -> History:
    """Return the history of the events that ``trees`` stand for, filled in as by `event`."""
    return History.of(map(event, trees))
