"""The proposer: which config becomes the next trial."""

import random
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from search.ledger.events import Event, Measured, Proposed, Rejected, TrialEvent
from search.ledger.history import History
from search.proposals.latency import Latencies, Measure
from search.proposals.screening import Screening
from search.proposals.study import Study
from search.proposals.time_budget import spent
from search.proposals.trainings import proposed
from search.proposals.trust import Trust
from search.proposals.warm_start import repeats
from search.spec.schema import Spec
from search.spec.sections import LATENCY
from spaces.space import Params, Tree
from vattn.canonical import trial_id
from vattn.config import ModelConfig, TrialConfig

#: rejected proposals in a row after which configs are drawn at random instead of by the sampler
PATIENCE = 20

#: largest space of which all configs are tried, in random order
MAX_ENUMERATED = 100_000

#: configs drawn at random from a larger space before the search gives up
DRAWS = 10_000


class Proposer:
    """Proposes configs that are new, within the limits, and can end within the budget of time.

    The order is: the plainest config of the space, so that a search has a baseline; the configs of ``search.start``;
    the best trials of earlier searches (`search.proposals.warm_start`), by which these are judged; proposals of the
    sampler; and, after `PATIENCE` rejected proposals in a row, random configs. The state is a projection of the ledger:
    `apply` builds it from events, whether they happen now or are replayed. So a resumed search proposes what an
    uninterrupted one would have proposed.

    Args:
        spec: the search.
        storage: the file of the Optuna study, which is written anew.
        history: the history in the ledger, to which each event is applied before `apply` gets it.
        measure: measures the latency of a network; only a search whose spec has a section latency needs it.
    """

    def __init__(self, spec: Spec, storage: Path, history: History, measure: Measure | None = None) -> None:
        self._spec, self._history, self._measure = spec, history, measure
        self._latencies = None if spec.latency == "none" else Latencies(spec, history)
        self._rejected_in_a_row = 0
        self.study = Study(spec, storage, history, self._latencies)
        self.screening = Screening(spec, history)
        self._trust = Trust(spec, history)

    def apply(self, event: Event) -> None:
        """Update the state by an event of the ledger; bases and retrainings do not count."""
        if isinstance(event, TrialEvent) and event.trial in self._history.extras:
            return
        match event:
            case Proposed():
                self._rejected_in_a_row = 0
            case Rejected():
                self._rejected_in_a_row += 1
            case _:
                pass
        self.screening.apply(event)
        self._trust.apply(event)
        self.study.apply(event)

    def spent(self) -> float:
        """Return the spent share of the budget; 1 is all of it."""
        return spent(self._spec, self._history)

    @property
    def late(self) -> bool:
        """Whether the last `propose` passed over a config that cannot end within the budget of time."""
        return self.screening.late

    def propose(self, record: Callable[[Event], Event]) -> int | None:
        """Record a new trial, and the proposals that were rejected before it; return its number.

        Return None if no new config within the limits was found. ``record`` appends an event to the ledger and applies
        it to this proposer.
        """
        self.screening.begin()
        for model in self._latencies.left() if self._latencies else ():
            self._record_latency(model, record)
        for decision in self._trust.decisions():
            record(decision)
        if not self._history.trials and not self._history.rejected:
            params, tree = self._spec.space.plain()
            self.study.fix(params)
            if (number := self._screen(params, tree, record, {"plain": True})) is not None:
                return number
        for place, (params, tree, config, identity) in enumerate(self._starts):
            if identity in self.screening.seen:
                continue
            # What cannot end within the budget of time is left to a resume with a larger one.
            if self.screening.admits(config, self._spec.cost(config)):
                self.study.fix(params)
                if (number := self._screen(params, tree, record, {"start": place})) is not None:
                    return number
        for source, earlier in repeats(list(self._history.warm.values()), self._spec.objectives):
            if earlier.identity not in self.screening.seen:
                self.study.fix(earlier.params)
                why = {"earlier": {"source": source.source, "trial": earlier.trial}}
                number = self._screen(earlier.params, self._spec.space.replay(earlier.params), record, why)
                if number is not None or self.late:
                    return number
        while self._rejected_in_a_row < PATIENCE:
            params, tree = self.study.ask()
            if (number := self._screen(params, tree, record, self.study.why)) is not None:
                return number
        for params, tree in self._random():
            self.study.fix(params)
            if (number := self._screen(params, tree, record, {"chance": True})) is not None:
                return number
        return None

    @cached_property
    def _starts(self) -> list[tuple[Params, Tree, TrialConfig, str]]:
        """The configs of ``search.start``, with their identities: each proposal looks at all of them."""
        starts = []
        for place in range(len(self._spec.search.start)):
            params = self._spec.start(place)
            tree = self._spec.space.replay(params)
            config = self._spec.trial_config(tree)
            starts.append((params, tree, config, trial_id(config)))
        return starts

    def _screen(self, params: Params, tree: Tree, record: Callable[[Event], Event], why: dict[str, Any]) -> int | None:
        """Record a config as a new trial, with the reason for its choice, or as rejected; return the trial's number."""
        config = self._spec.trial_config(tree)
        cost, unmeasured = self._spec.cost(config), ""
        if self._latencies and not self._spec.broken_limits(cost):
            known = self._latencies.known(config.model) or self._record_latency(config.model, record)
            unmeasured = known.error
            cost |= {} if unmeasured else {LATENCY: known.latency_ms}
        if rejection := self.screening.rejection(params, config, cost, unmeasured):
            record(rejection)
            return None
        number = self._history.next_number
        record(proposed(number, config, cost, params, why=why))
        return number

    def _record_latency(self, model: ModelConfig, record: Callable[[Event], Event]) -> Measured:
        assert self._measure
        measured = self._measure(model)
        record(measured)
        return measured

    def _expected(self, config: TrialConfig) -> dict[str, float]:
        """Return the cost of a config as it is known before it is proposed."""
        cost = self._spec.cost(config)
        return cost | {LATENCY: self._latencies.expected(config.model)} if self._latencies else cost

    def _random(self) -> Iterator[tuple[Params, Tree]]:
        """Yield new configs within the limits in random order; all of them, if the space is small enough."""
        rng = random.Random(f"{self._spec.search.sampler.seed} {len(self.screening.seen)}")
        size = self._spec.space.size()
        if size is not None and size <= MAX_ENUMERATED:
            candidates = list(self._spec.space.enumerate())
            rng.shuffle(candidates)
        else:
            candidates = (self._spec.space.sample(rng) for _ in range(DRAWS))
        for params, tree in candidates:
            config = self._spec.trial_config(tree)
            if self.screening.admits(config, self._expected(config)):
                yield params, tree
