"""Which event may follow which in a ledger: a file that breaks this is damaged, or mixed from several searches."""

import re

from search.ledger.events import (
    Event,
    Failed,
    Finished,
    Guarded,
    Inherited,
    Measured,
    Proposed,
    Reported,
    SearchBegan,
    Stopped,
    TrialEvent,
    WarmStarted,
)


class Order:
    """Checks each event of a ledger against those before it."""

    def __init__(self) -> None:
        self._has_begun = False
        self._sources: set[str] = set()
        #: by training: its number of epochs, the number of epochs that are reported, and those that have ended
        self._epochs: dict[int, int] = {}
        self._reported: dict[int, int] = {}
        self._ended: set[int] = set()
        #: names of the costs of each training, and of what the search compares
        self._costs: dict[int, set[str]] = {}
        self._objectives: set[str] = set()

    def check(self, event: Event) -> None:
        """Raise ValueError with the rule that the next event breaks."""
        if isinstance(event, SearchBegan):
            self._begin(event)
        elif not self._has_begun and isinstance(event, TrialEvent | Measured):
            raise ValueError("comes before the search began")
        match event:
            case Proposed():
                self._propose(event)
            case WarmStarted(source=source):
                self._sources.add(source)
            case Guarded(source=source) if source not in self._sources:
                raise ValueError(f"is about the earlier search {source}, which was not read")
            case _ if isinstance(event, TrialEvent):
                self._of_training(event)
            case _:
                pass

    def _begin(self, event: SearchBegan) -> None:
        if self._has_begun:
            raise ValueError(f"begins another search, {event.id}")
        search, objectives = event.spec.get("search"), event.spec.get("objectives", {})
        if (
            not isinstance(search, dict)
            or not isinstance(search.get("budget"), dict)
            or not isinstance(objectives, dict)
        ):
            raise ValueError("has no whole spec")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", event.name):
            raise ValueError("has a name that no search can have")
        self._has_begun, self._objectives = True, set(objectives)

    def _propose(self, event: Proposed) -> None:
        if event.trial in self._epochs:
            raise ValueError(f"proposes trial {event.trial} a second time")
        if event.trial != len(self._epochs):
            raise ValueError(f"proposes trial {event.trial} after {len(self._epochs)} trials, counted from 0")
        if event.confirms is not None and event.confirms not in self._epochs:
            raise ValueError(f"trains trial {event.confirms} again, which was not proposed")
        train, model, data = (event.config.get(key) for key in ("train", "model", "data"))
        epochs = train.get("epochs") if isinstance(train, dict) else None
        modules = model.get("attention", []) if isinstance(model, dict) else None
        if not isinstance(modules, list) or not all(
            isinstance(m, dict) and isinstance(m.get("kind"), str) for m in modules
        ):
            raise ValueError("has no whole config")
        if not isinstance(epochs, int) or not isinstance(model, dict) or not isinstance(data, dict):
            raise ValueError("has no whole config")
        self._epochs[event.trial], self._reported[event.trial] = epochs, 0
        self._costs[event.trial] = set(event.cost)

    def _of_training(self, event: TrialEvent) -> None:
        trial = event.trial
        if trial not in self._epochs:
            raise ValueError(f"is about trial {trial}, which was not proposed")
        if isinstance(event, Inherited) and event.source is not None and event.source not in self._epochs:
            raise ValueError(f"takes weights of trial {event.source}, which was not proposed")
        if isinstance(event, Reported):
            if event.epoch > self._reported[trial] + 1:
                raise ValueError(f"reports epoch {event.epoch} of trial {trial} after {self._reported[trial]} epochs")
            self._reported[trial] = max(self._reported[trial], event.epoch)
            if missing := self._objectives - self._costs[trial] - event.metrics.keys():
                raise ValueError(f"reports trial {trial} without {', '.join(sorted(missing))}")
        if isinstance(event, Finished | Stopped) or (isinstance(event, Failed) and event.final):
            if trial in self._ended:
                raise ValueError(f"ends trial {trial} a second time")
            if isinstance(event, Finished | Stopped) and event.epoch > self._reported[trial]:
                raise ValueError(
                    f"ends trial {trial} after epoch {event.epoch}, and {self._reported[trial]} are reported"
                )
            self._ended.add(trial)
