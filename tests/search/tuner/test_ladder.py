"""What is tried after a lack of GPU memory, and how many trials share a GPU."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from search.ledger.events import Failed, MemorySaved, SearchBegan, Started
from search.ledger.file import NAME, Ledger, history, read
from search.report.tables.front import rows
from search.report.why.facts import why
from search.report.why.json import as_json
from search.report.why.text import render
from search.report.wording.trials import describe
from search.spec.validation import parse
from search.tuner.results import EpochResult, MemoryResult
from search.tuner.shares import Shares
from search.tuner.state import Search
from search.tuner.task import Task
from vattn.training.memory import training_memory

GB = 10**9


def tree(backbone: dict[str, Any], gpus: Any, batch: int = 8, **train: Any) -> dict[str, Any]:
    model = {"frames": 16, "size": 112, "backbone": backbone, "attention": []}
    return {
        "schema": 1,
        "name": "memory",
        "trial": {
            "data": {"kind": "motion", "store": {"size": 112}},
            "model": model,
            "train": {"epochs": 1, "batch": batch, "lr": {"choice": [0.1, 0.2, 0.3]}} | train,
        },
        "search": {"budget": {"trials": 3}, "sampler": {"kind": "random"}},
        "resources": {"gpus": gpus},
    }


RESNET = {"kind": "resnet", "depth": 10, "width": 0.125}


@contextmanager
def searching(folder: Path, spec: dict[str, Any]) -> Iterator[Search]:
    folder.mkdir(exist_ok=True)
    with closing(Ledger(folder / NAME)) as ledger:
        search = Search(parse(spec, Path("spec.yaml")), folder, folder / "cache", ledger, [])
        if not ledger.history.search:
            search.record(SearchBegan(id="s", name="memory", spec=search.spec.tree(), versions={}))
        search.slots = 3
        yield search


def start(search: Search) -> Task:
    task = search.next_task()
    assert task is not None
    search.record(Started(trial=task["number"], epoch=0, gpus=task["gpus"]))
    return task


def lack(search: Search, task: Task) -> MemorySaved | None:
    """Let a training lack memory; return how it is tried next."""
    assert search.reported(task["number"], MemoryResult("CUDA out of memory"))
    return search.ledger.history.trial(task["number"]).memory


def measures(saved: MemorySaved | None) -> tuple[bool, bool, int, bool]:
    assert saved is not None
    return saved.alone, saved.recompute, saved.accumulate, saved.changes_result


def test_a_trial_is_tried_alone_then_with_recomputation(tmp_path: Path) -> None:
    with searching(tmp_path, tree(RESNET, 0.5)) as search:
        first = start(search)
        assert (first["gpus"], first["limited"]) == (0.5, False)

        assert measures(lack(search, first)) == (True, False, 1, False)
        alone = start(search)
        assert (alone["number"], alone["gpus"], '"recompute": "none"' in alone["config"]) == (0, 1.0, True)
        assert measures(lack(search, alone)) == (True, True, 1, False)
        recomputed = start(search)

        assert (recomputed["number"], recomputed["gpus"]) == (0, 1.0)
        assert '"recompute": "blocks"' in recomputed["config"]
        trial = search.ledger.history.trial(0)
        assert trial.config["train"]["recompute"] == "none"  # the proposal stays


def test_parts_of_a_step_follow_until_each_has_one_clip(tmp_path: Path) -> None:
    with searching(tmp_path, tree(RESNET, 1, batch=12, recompute="blocks")) as search:
        parts = []
        while not search.ledger.history.trials or search.ledger.history.trial(0).end is None:
            saved = lack(search, start(search))
            parts += [saved.accumulate] if saved else []

        assert parts[:4] == [2, 4, 12, 12]  # the fourth attempt had nothing left to try
        assert search.ledger.history.trial(0).state == "failed"


def test_without_batch_norm_parts_of_a_step_are_the_same_training(tmp_path: Path) -> None:
    with searching(tmp_path, tree({"kind": "c3d"}, 1)) as search:
        assert measures(lack(search, start(search))) == (False, True, 1, False)
        assert measures(lack(search, start(search))) == (False, True, 2, False)


def test_another_training_is_marked_where_results_are_shown(tmp_path: Path) -> None:
    with searching(tmp_path, tree(RESNET, 1, recompute="blocks")) as search:
        first = start(search)
        folder = search.folder(0)
        folder.mkdir(parents=True)
        (folder / "checkpoint.pt").touch()
        assert measures(lack(search, first)) == (False, False, 2, True)
        assert not (folder / "checkpoint.pt").exists()  # it was of another training
        again = start(search)
        assert search.reported(again["number"], EpochResult(1, {"top1": 0.5}, 1.0))

    known = history(tmp_path / NAME)
    trial = known.trial(0)
    assert describe(trial).endswith("steps in 2 parts*")
    assert [row.get("parts") for row in rows([trial], known.objectives)] == [2]
    explained = why(read(tmp_path / NAME), 0)
    assert "too little memory; since then trained with each step in 2 parts; batch norm sees the parts" in " ".join(
        render(explained).split()
    )
    assert as_json(explained)["end"]["memory"] == {
        "alone": False, "recompute": False, "accumulate": 2, "changes_result": True,
    }  # fmt: skip


def test_where_nothing_is_left_to_try_a_trial_has_failed(tmp_path: Path) -> None:
    with searching(tmp_path, tree({"kind": "c3d"}, 1, batch=1, recompute="blocks")) as search:
        task = start(search)

        assert lack(search, task) is None

        trial = search.ledger.history.trial(0)
        assert isinstance(trial.end, Failed)
        assert trial.end.error == "CUDA out of memory"


def test_a_search_that_is_resumed_goes_on_with_the_last_measure(tmp_path: Path) -> None:
    with searching(tmp_path, tree(RESNET, 0.5)) as search:
        lack(search, start(search))

    with searching(tmp_path, tree(RESNET, 0.5)) as search:
        assert start(search)["gpus"] == 1.0


def test_a_search_does_not_end_while_a_running_trial_may_be_tried_again(tmp_path: Path) -> None:
    with searching(tmp_path, tree(RESNET, 0.5)) as search:
        tasks = [start(search) for _ in range(3)]
        assert search.next_task() is None  # the budget is spent
        assert not search.at_end()
        for task in tasks[:2]:
            assert search.reported(task["number"], EpochResult(1, {"top1": 0.5}, 1.0))
        lack(search, tasks[2])

        again = start(search)
        assert search.reported(again["number"], EpochResult(1, {"top1": 0.5}, 1.0))

        assert search.next_task() is None
        assert search.at_end()


def auto(memory: int | None, gpus: float, **resources: Any) -> Shares:
    spec = parse(tree(RESNET, "auto") | {"resources": {"gpus": "auto"} | resources}, Path("spec.yaml"))
    return Shares(spec, gpus, memory)


def test_shares_follow_the_predicted_memory() -> None:
    spec = parse(tree(RESNET, "auto"), Path("spec.yaml"))
    config = spec.trial_config(next(spec.space.one_at_a_time())[1])
    needed = training_memory(config, spec.classes).total

    assert 0.7 * GB < needed < 1.5 * GB
    assert auto(80 * GB, 1).of(config, alone=False) == 0.05
    assert auto(2 * needed, 1).of(config, alone=False) == 0.5
    assert auto(2 * needed, 1).of(config, alone=True) == 1.0
    assert auto(needed // 2, 1).of(config, alone=False) == 1.0
    assert auto(None, 0).of(config, alone=False) == 0.0
    assert auto(80 * GB, 2, workers=2).of(config, alone=False) == 1.0


def test_trials_are_handed_out_while_their_shares_fit_the_gpus() -> None:
    shares = auto(80 * GB, 2)
    shares.reserve(0, 0.6)
    shares.reserve(1, 1.0)

    assert shares.fits(0.4)
    assert not shares.fits(0.45)
    shares.release(0)
    assert shares.fits(1.0)


def test_gpus_that_join_are_used() -> None:
    shares = auto(80 * GB, 1)
    shares.reserve(0, 1.0)
    assert not shares.fits(0.5)

    shares.limit(2, None)
    assert shares.fits(1.0)
    shares.limit(2, trainings=21)  # a fair share of the cluster: 21 of the smallest, which take 0.05 each
    assert shares.fits(0.05)
    assert not shares.fits(0.1)


def test_no_trial_overtakes_one_that_waits_for_a_whole_gpu(tmp_path: Path) -> None:
    with searching(tmp_path, tree(RESNET, "auto")) as search:
        search.shares = Shares(search.spec, 2, 80 * GB)
        first, second = start(search), start(search)
        assert (first["gpus"], first["limited"]) == (0.05, True)
        lack(search, first)
        waiting = search.next_task()  # handed out, but not started: the second trial shares its GPU
        assert waiting is not None
        assert (waiting["number"], waiting["gpus"]) == (first["number"], 1.0)

        assert search.next_task() is None

        search.reported(second["number"], EpochResult(1, {"top1": 0.5}, 1.0))
        search.record(Started(trial=waiting["number"], epoch=0, gpus=1.0))
        assert search.next_task() is not None
