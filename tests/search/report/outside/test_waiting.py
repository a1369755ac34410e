"""What a search without progress says that it waits for."""

import pytest

from cluster.load import Load, Shortage, shortage, usage
from cluster.placement import Resources
from search.report.outside.waiting import waits_for
from tests.search.events import history_of
from tests.search.report.ledgers import Trees


def load(*free: tuple[float, float], jobs: int = 0) -> Load:
    """Return a cluster of nodes with 8 CPUs and 2 GPUs each, of which so many are free."""
    return Load([{"CPU": 8.0, "GPU": 2.0}] * len(free), [{"CPU": cpus, "GPU": gpus} for cpus, gpus in free], jobs)


@pytest.mark.parametrize(
    ("wanted", "busy", "why", "text"),
    [
        ((4, 1, 1.0), load((8, 0), (8, 0), (8, 0), (8, 0), jobs=3), "GPU",
         "4 GPUs wanted, 0 of 8 free; 3 other jobs"),
        ((1, 1, 0.0), load((0, 2), jobs=1), "CPU", "1 CPU wanted, 0 of 8 free; 1 other job"),
        ((1, 4, 0.5), load((2, 0.25)), "GPU", "0.5 GPUs wanted, 0.25 of 2 free, 4 CPUs wanted, 2 of 8 free"),
        # Enough in all, on no node enough.
        ((1, 4, 0.0), load((3, 2), (3, 2)), "CPU", "4 CPUs wanted on one node, the freest has 3 free"),
        ((1, 4, 0.0), load((8, 2)), "process", "Ray starts a process, its resources are free"),
        ((1, 1, 0.0), Load([], [], 0), "CPU", "1 CPU wanted, 0 of 0 free"),
    ],
)  # fmt: skip
def test_a_shortage_names_what_is_wanted_what_is_free_and_who_else_is_there(
    wanted: tuple[int, int, float], busy: Load, why: str, text: str
) -> None:
    workers, cpus, gpus = wanted

    assert shortage(busy, Resources(workers=workers, cpus=cpus, gpus=gpus)) == Shortage(why, text)


def test_usage_is_the_share_of_gpus_or_without_them_of_cpus() -> None:
    one = Resources(workers=2, cpus=2, gpus=0)

    assert usage(load((0, 0), (0, 0)), one, running=3, gpus=0) == 12 / 16
    assert usage(load((0, 0), (0, 0)), one, running=3, gpus=3) == 3 / 4
    assert usage(Load([], [], 0), one, running=3, gpus=0) == 0


def test_running_trials_are_waited_for_with_their_epochs(events: Trees) -> None:
    waiting = waits_for(history_of(events), lambda: pytest.fail("the cluster is not asked"))

    assert waiting is not None
    assert waiting == ("training", "trial 4, epoch 2 of 2")
    assert not waiting.needs_help


def test_after_a_resume_nothing_runs_and_the_cluster_is_named(events: Trees) -> None:
    history = history_of([*events, {"event": "resumed"}])

    waiting = waits_for(history, lambda: Shortage("CPU", "1 CPU wanted, 0 of 8 free"))

    assert waiting is not None
    assert waiting == ("CPU", "1 CPU wanted, 0 of 8 free")
    assert waiting.needs_help
    assert not history.running()


def test_a_search_with_nothing_left_waits_for_nothing(events: Trees) -> None:
    end = {"event": "failed", "trial": 4, "error": "by hand", "final": True}

    assert waits_for(history_of([*events, end]), lambda: pytest.fail("the cluster is not asked")) is None
