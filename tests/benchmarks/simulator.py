"""Simulates a search in virtual time: workers look trainings up in a table, so only the proposals take real time."""

import heapq
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from spaces.space import Params
from tests.benchmarks.problems import RECORDED, Problem

#: successive proposals of trained configs after which a random config is trained instead
MAX_REPEATS = 5
#: epochs before the first rung on `RECORDED`, for all methods that stop trainings (3 is better for MO-ASHA than 1)
GRACE = 3
#: one of this number of trainings at a rung continues
REDUCTION = 3


def first_rung(problem: Problem) -> int:
    """Return the epochs before the first rung, for all methods that stop trainings."""
    return GRACE if problem.name == RECORDED else 1


class Peer(Protocol):
    """A search method. A token identifies a proposal when its errors are reported.

    A method that has ``resumes`` goes on with a training that it stopped, where it proposes its config again and would
    not stop it after the epochs that are done.
    """

    def ask(self, given: Params | None = None) -> tuple[Any, Params]:
        """Return the token and the params of a new proposal; the params are ``given`` if that is not None."""
        ...

    def report(self, token: Any, errors: Sequence[float]) -> bool:
        """Take the errors of the epochs so far, before the last one; return whether the training stops here."""
        ...

    def tell(self, token: Any, errors: Sequence[float], full: bool) -> None:
        """Take the errors of the epochs of a training that ended; ``full`` if it ran all of its epochs."""
        ...


@dataclass
class Training:
    """One training of a search, or the part of one until it was stopped.

    ``spent`` is the compute that all workers had used when it ended, in full trainings: their epochs divided by the
    epochs of a full training. ``began`` and ``ended`` are virtual seconds, ``proposal_seconds`` the CPU seconds of its
    proposal.
    """

    config: int
    began: float
    proposal_seconds: float
    epochs: int = 0
    ended: float = float("inf")
    spent: float = float("inf")
    full: bool = False
    errors: list[float] = field(default_factory=list, repr=False)
    tokens: list[Any] = field(default_factory=list, repr=False)


def simulate(
    problem: Problem,
    peer: Peer,
    workers: int,
    budget: float,
    seed: int,
    is_enough: Callable[[Sequence[Training]], bool] = lambda ended: False,
) -> list[Training]:
    """Return the trainings of a search, in the order in which they end.

    Each worker asks for a config, trains it epoch by epoch for the recorded seconds, and asks for the next one. The
    search ends when the epochs of ``budget`` full trainings are done, when every config is trained, or when
    ``is_enough`` returns True for the trainings that have ended. Trainings that are running at that time are not
    counted.

    A config is trained once. When it is proposed again, the method gets the same errors again, in no time; a training
    that was stopped goes on instead if the method has ``resumes``, and is one more entry, without the epochs that are
    done. Which recorded training of a config is used depends on the config and ``seed`` only, so that all methods see
    the same noise.
    """
    search = _Search(problem, peer, seed)
    running: list[tuple[float, int, Training, Iterator[tuple[float, float]]]] = []
    ended: list[Training] = []
    done, max_epochs = 0, budget * problem.epochs

    def begin(now: float) -> None:
        if (training := search.propose(now)) is not None:
            epochs = search.train(training)
            seconds, error = next(epochs)
            training.errors.append(error)
            heapq.heappush(running, (now + seconds, search.begun, training, epochs))

    for _ in range(workers):
        begin(0.0)
    while running and done < max_epochs:
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
        if training.full and is_enough(ended):
            break
        if done < max_epochs:
            begin(now)
    return ended


def recorded_row(problem: Problem, config: int, seed: int) -> int:
    """Return which recorded training of a config a search with this seed sees."""
    return int(np.random.default_rng([seed, config]).integers(len(problem.errors[config])))


def observed(problem: Problem, seed: int) -> Problem:
    """Return the part of a problem that a search with this seed sees: one training of each config, which is its truth.

    A search is then judged by a front that it can find, not by the means of trainings that it can't see.
    """
    rows = [recorded_row(problem, config, seed) for config in range(len(problem.params))]
    return replace(
        problem,
        errors=[errors[[row]] for row, errors in zip(rows, problem.errors, strict=True)],
        seconds=[seconds[[row]] for row, seconds in zip(rows, problem.seconds, strict=True)],
    )


class _Search:
    """The state of a driver: the configs that were proposed, and their trainings."""

    def __init__(self, problem: Problem, peer: Peer, seed: int) -> None:
        self._problem, self._peer, self._seed = problem, peer, seed
        self.known: dict[int, Training] = {}
        #: number of trainings that began or went on
        self.begun = 0
        self._resumes = bool(getattr(peer, "resumes", False))
        order = list(range(len(problem.params)))
        random.Random(seed).shuffle(order)
        self._random_order = iter(order)

    def propose(self, now: float) -> Training | None:
        """Return a training that begins or goes on; None if every config was proposed, and none goes on."""
        if len(self.known) == len(self._problem.params) and not self._resumes:
            return None
        began = time.process_time()
        for _ in range(MAX_REPEATS):
            token, params = self._peer.ask()
            config = self._problem.number(params)
            if config not in self.known:
                return self._begin(config, now, began, token)
            known = self.known[config]
            if known.ended <= now:
                if self._resumes and not known.full and not self._peer.report(token, known.errors):
                    return self._begin(config, now, began, token, known.errors)
                self._peer.tell(token, known.errors, known.full)
            else:
                known.tokens.append(token)
        config = next((config for config in self._random_order if config not in self.known), None)
        if config is None:
            return None
        token, _ = self._peer.ask(self._problem.params[config])
        return self._begin(config, now, began, token)

    def _begin(self, config: int, now: float, began: float, token: Any, errors: Sequence[float] = ()) -> Training:
        """Return a training with the errors of the epochs that are done already."""
        seconds = time.process_time() - began
        training = Training(config, began=now, proposal_seconds=seconds, errors=list(errors), tokens=[token])
        self.known[config] = training
        self.begun += 1
        return training

    def train(self, training: Training) -> Iterator[tuple[float, float]]:
        """Yield the seconds and the error of each epoch that is left."""
        row = recorded_row(self._problem, training.config, self._seed)
        errors, seconds = self._problem.errors[training.config][row], self._problem.seconds[training.config][row]
        done = len(training.errors)
        yield from zip(seconds[done:].tolist(), errors[done:].tolist(), strict=True)

    def end(self, training: Training) -> None:
        """Report a training that ended to the method, once for each time that it was proposed."""
        for token in training.tokens:
            self._peer.tell(token, training.errors, training.full)
