"""Threads that work ahead: order, errors, the bound on what they keep, and their end."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.processes import wait_for
from vattn.training.batches.ahead import ahead, torch_threads


def own_threads() -> int:
    """Return the number of threads of `ahead` that are alive."""
    return sum(thread.name.startswith("ahead") for thread in threading.enumerate())


def number(value: int) -> int:
    return value


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_items_come_in_order_whichever_is_ready_first(threads: int, count: int) -> None:
    def make(item: int) -> int:
        time.sleep(0.002 * (item * 7 % 5))
        return item * item

    with torch_threads():
        assert list(ahead(number, make, count, threads)) == [item * item for item in range(count)]
    assert own_threads() == 0


def test_several_threads_work_at_once() -> None:
    meeting = threading.Barrier(3, timeout=60)

    with torch_threads():
        assert len(list(ahead(number, lambda _: meeting.wait(), 6, threads=3))) == 6


@pytest.mark.parametrize("at", ["plan", "make"])
def test_an_error_is_raised_in_its_place(at: str) -> None:
    def fails(item: int) -> int:
        if item == 5:
            raise ValueError("altered")
        return item

    with torch_threads():
        items = ahead(fails if at == "plan" else number, fails if at == "make" else number, 9, threads=3)
        assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError, match="altered"):
            next(items)
    assert own_threads() == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_a_bounded_number_of_items_is_made_ahead_and_none_after_closing(threads: int) -> None:
    made: list[int] = []

    with torch_threads():
        items = ahead(number, lambda item: made.append(item), 100, threads)
        for taken in range(1, 4):
            next(items)
            # With the one that was taken: threads + 1 further ones.
            wait_for(lambda taken=taken: len(made) > taken + threads)
            time.sleep(0.05)
            assert sorted(made) == list(range(taken + threads + 1))
        items.close()
    after = len(made)
    time.sleep(0.05)

    assert len(made) == after
    assert own_threads() == 0


def test_the_plan_of_an_item_is_made_before_the_item_that_precedes_it() -> None:
    events: list[tuple[str, int]] = []

    with torch_threads():
        list(
            ahead(
                lambda item: (events.append(("plan", item)), item)[1], lambda item: events.append(("make", item)), 9, 1
            )
        )

    for item in range(8):
        assert events.index(("plan", item + 1)) < events.index(("make", item))


def test_torch_uses_one_thread_in_each_of_them_and_as_many_as_before_elsewhere() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with torch_threads() as threads:
            inside = list(ahead(number, lambda _: torch.get_num_threads(), 8, threads=2))
            assert torch.get_num_threads() == threads == 3
        with ThreadPoolExecutor(1) as pool:
            later = pool.submit(torch.get_num_threads).result()
    finally:
        torch.set_num_threads(before)

    assert inside == [1] * 8
    assert later == 3
