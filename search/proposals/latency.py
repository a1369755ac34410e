"""The latency of networks in a search: which are measured first, what is recorded, and what is forecast of the others.

Before the first proposal, `CALIBRATION` networks are measured; from these, samplers know the latency of all others by a
forecast, which stays as it is. So a resumed search proposes what an uninterrupted one would have proposed. A network
that is proposed is measured before it becomes a trial.
"""

import random
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain

from search.analysis.latency import Forecast, features, informative
from search.ledger.events import Measured
from search.ledger.history import History
from search.spec.schema import Spec
from vattn.canonical import architecture_id
from vattn.config import ModelConfig

#: networks that are measured before the first proposal
CALIBRATION = 16

#: samples of the space among which they are chosen
SAMPLES = 500

#: measures the latency of a network on the device of the spec
Measure = Callable[[ModelConfig], Measured]


class Latencies:
    """The measured latencies of a search, as a projection of its ledger, and the forecast of all others."""

    def __init__(self, spec: Spec, history: History) -> None:
        self._spec, self._history = spec, history

    def left(self) -> list[ModelConfig]:
        """Return the networks that are still to be measured before the first proposal."""
        return [model for identity, model in self._calibration.items() if identity not in self._history.latencies]

    def known(self, model: ModelConfig) -> Measured | None:
        """Return the measurement of a network; None if there is none."""
        return self._history.latencies.get(architecture_id(model))

    def expected(self, model: ModelConfig) -> float:
        """Return the forecast of a network's latency; of one of the first, what was measured. Milliseconds."""
        identity = architecture_id(model)
        if identity in self._calibration and not (known := self._history.latencies[identity]).error:
            return known.latency_ms
        return self._forecast.milliseconds(features(model, self._spec.classes))

    @cached_property
    def _forecast(self) -> Forecast:
        known = ((model, self._history.latencies[identity]) for identity, model in self._calibration.items())
        return Forecast.of(
            [(features(model, self._spec.classes), each.latency_ms) for model, each in known if not each.error]
        )

    @cached_property
    def _calibration(self) -> dict[str, ModelConfig]:
        """The networks that are measured first, by identity: those that say most about the others of the space.

        They are chosen among the plainest config, those that differ from it in one value, and random samples, all
        within the limits that are known without a measurement.
        """
        distinct: dict[str, ModelConfig] = {}
        for model in self._samples():
            distinct.setdefault(architecture_id(model), model)
        candidates = list(distinct.items())
        chosen = informative([features(model, self._spec.classes) for _, model in candidates], CALIBRATION)
        return dict(candidates[index] for index in chosen)

    def _samples(self) -> Iterator[ModelConfig]:
        space, rng = self._spec.space, random.Random(self._spec.search.sampler.seed)
        trees = chain(space.one_at_a_time(), (space.sample(rng) for _ in range(SAMPLES)))
        for _, tree in trees:
            config = self._spec.trial_config(tree)
            if not self._spec.broken_limits(self._spec.cost(config)):
                yield config.model
