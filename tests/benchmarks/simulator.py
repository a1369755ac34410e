"""A search in virtual time: workers train by looking up what was recorded, so that only the proposals take time."""

import heapq
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from spaces.space import Params
from tests.benchmarks.problems import Problem

#: proposals in a row that are known already, before a config by chance is trained
PATIENCE = 5
#: for all methods that stop trainings: after how many epochs first (on `curves` 3 is better for MO-ASHA than 1), and of
#: how many at a rung one goes on
GRACE, REDUCTION = 3, 3


class Peer(Protocol):
    """A search method. What ``ask`` returns beside the values is handed back with what comes of them."""

    def ask(self, given: Params | None = None) -> tuple[Any, Params]:
        """Propose a config, or take in that ``given`` is tried next."""
        ...

    def report(self, token: Any, errors: Sequence[float]) -> bool:
        """Take in the error after each epoch so far, which are not all; return whether the training stops here."""
        ...

    def tell(self, token: Any, errors: Sequence[float], full: bool) -> None:
        """Take in how a training ended: its error after each epoch, and whether these are all."""
        ...


@dataclass
class Training:
    """One training of a search.

    ``spent`` is what all workers had used when it ended, in full trainings: epochs over the epochs of one. ``began``
    and ``ended`` are virtual seconds, ``thought`` the CPU seconds that its proposal took.
    """

    config: int
    began: float
    thought: float
    epochs: int = 0
    ended: float = float("inf")
    spent: float = float("inf")
    full: bool = False
    errors: list[float] = field(default_factory=list, repr=False)
    tokens: list[Any] = field(default_factory=list, repr=False)


def simulate(problem: Problem, peer: Peer, workers: int, budget: float, seed: int) -> list[Training]:
    """Return the trainings of a search, in the order in which they end.

    Each of ``workers`` asks for a config, trains it for the recorded seconds, epoch by epoch, and asks for the next,
    until epochs worth ``budget`` full trainings are done or every config is known; what then runs is not counted. Which
    of the recorded trainings of a config is looked up depends on the config and ``seed`` alone, so that all methods
    meet the same luck. A config is trained once: when it is proposed again, the method is told again what came of it,
    and this takes no time.
    """
    search = _Search(problem, peer, seed)
    running: list[tuple[float, int, Training, Iterator[tuple[float, float]]]] = []
    ended: list[Training] = []
    done, most = 0, budget * problem.epochs

    def begin(now: float) -> None:
        if (training := search.propose(now)) is not None:
            epochs = search.train(training.config)
            seconds, error = next(epochs)
            training.errors.append(error)
            heapq.heappush(running, (now + seconds, len(search.known), training, epochs))

    for _ in range(workers):
        begin(0.0)
    while running and done < most:
        now, order, training, epochs = heapq.heappop(running)
        done += 1
        training.epochs += 1
        following = next(epochs, None)
        if following is not None and not peer.report(training.tokens[0], training.errors):
            seconds, error = following
            training.errors.append(error)
            heapq.heappush(running, (now + seconds, order, training, epochs))
            continue
        training.ended, training.spent, training.full = now, done / problem.epochs, following is None
        ended.append(training)
        search.end(training)
        if done < most:
            begin(now)
    return ended


class _Search:
    """What a driver knows: which configs were proposed, and what came of them."""

    def __init__(self, problem: Problem, peer: Peer, seed: int) -> None:
        self._problem, self._peer, self._seed = problem, peer, seed
        self.known: dict[int, Training] = {}
        order = list(range(len(problem.params)))
        random.Random(seed).shuffle(order)
        self._by_chance = iter(order)

    def propose(self, now: float) -> Training | None:
        """Return a new training; None when there is none left."""
        if len(self.known) == len(self._problem.params):
            return None
        began = time.process_time()
        for _ in range(PATIENCE):
            token, params = self._peer.ask()
            config = self._problem.number(params)
            if config not in self.known:
                return self._begin(config, now, began, token)
            known = self.known[config]
            if known.ended <= now:
                self._peer.tell(token, known.errors, known.full)
            else:
                known.tokens.append(token)
        config = next(config for config in self._by_chance if config not in self.known)
        token, _ = self._peer.ask(self._problem.params[config])
        return self._begin(config, now, began, token)

    def _begin(self, config: int, now: float, began: float, token: Any) -> Training:
        training = Training(config, began=now, thought=time.process_time() - began, tokens=[token])
        self.known[config] = training
        return training

    def train(self, config: int) -> Iterator[tuple[float, float]]:
        """Yield the seconds and the error of each epoch."""
        errors, seconds = self._problem.errors[config], self._problem.seconds[config]
        luck = np.random.default_rng([self._seed, config]).integers(len(errors))
        yield from zip(seconds[luck].tolist(), errors[luck].tolist(), strict=True)

    def end(self, training: Training) -> None:
        """Tell the method what came of a training."""
        for token in training.tokens:
            self._peer.tell(token, training.errors, training.full)
