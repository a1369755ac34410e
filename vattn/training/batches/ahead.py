"""Threads that compute the next items of a sequence, in order, while the caller works with the current one."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

_Plan = TypeVar("_Plan")
_Item = TypeVar("_Item")


def ahead(
    plan: Callable[[int], _Plan], make: Callable[[_Plan], _Item], count: int, threads: int
) -> Generator[_Item, None, None]:
    """Yield ``make(plan(0)), make(plan(1)), ... make(plan(count - 1))``, computed by ``threads`` threads.

    While the caller works with an item, at most ``threads + 1`` further ones are kept or in the making. The plan of an
    item is made before the item that precedes it, so that its files can be read in the meantime. An exception is raised
    in the place of its item. When the generator is closed, the threads end as soon as their items are made.

    In these threads, torch computes with one thread each; otherwise it would use ``threads`` times ``threads``. The
    caller must be inside `torch_threads`.
    """
    plans: deque[Future[_Plan]] = deque()
    items: deque[Future[_Item]] = deque()

    def make_planned(planned: Future[_Plan]) -> _Item:
        return make(planned.result())

    with ThreadPoolExecutor(threads, "ahead", torch.set_num_threads, (1,)) as pool:
        try:
            for number in range(count + threads + 2):
                if number < count:
                    plans.append(pool.submit(plan, number))
                if 0 < number <= count:
                    items.append(pool.submit(make_planned, plans.popleft()))
                if number > threads + 1:
                    yield items.popleft().result()
        finally:
            for future in (*plans, *items):
                future.cancel()


@contextmanager
def torch_threads() -> Iterator[int]:
    """Yield this thread's number of torch threads, and restore it at the end for threads that start later.

    Each thread has a number of its own, but takes it when it first uses torch from the one that was set last, in
    whatever thread. Reading this thread's number here makes it take its own before `ahead` sets others.
    """
    number = torch.get_num_threads()
    try:
        yield number
    finally:
        torch.set_num_threads(number)
