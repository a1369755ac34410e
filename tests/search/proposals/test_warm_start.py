"""What of an earlier search is of use, when it is believed, and that a resume needs it no more."""

import math
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from search.analysis.rank_correlation import correlation
from search.cli import main
from search.ledger.events import Event
from search.ledger.file import NAME, Ledger
from search.ledger.history import Trial
from search.proposals.trust import Guard, distance
from search.proposals.warm_start import Earlier, Source, moved, read_sources, repeats
from search.spec.messages import SpecError
from search.spec.schema import Spec
from spaces.space import Choice, Float, Int, Subset
from tests.search.searches import TREE, finish, searching, spec, state

TSM = [{"kind": "tsm", "stages": [2, 3]}]


def earlier(folder: Path, *models: dict[str, Any], **train: Any) -> Path:
    """Write the ledger of a search that has finished ``models``, with top-1 0.05, 0.1, 0.15 ... in their order."""
    choice = {"choice": [TREE["trial"]["model"] | {"attention": [], "frames": 2} | model for model in models]}
    trial = TREE["trial"] | {"model": choice, "train": {"epochs": 1, "batch": 8, "lr": 0.1} | train}
    with searching(spec().model_copy(update={"trial": trial}), folder) as (ledger, proposer, record):
        while (number := proposer.propose(record)) is not None:
            finish(record, number, 0.05 * (1 + ledger.history.trials[number].params.get("model", 0)))
    return folder


def source(folder: Path, **changes: Any) -> Source:
    (found,) = read_sources(warm(folder, **changes))
    return found


def warm(*folders: Path, **changes: Any) -> Spec:
    search = TREE["search"] | {"warm_start": [str(f) for f in folders]}
    return spec(search=search, **changes)


def test_trials_are_found_by_the_value_of_each_range(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "a", {}, {"frames": 4, "attention": TSM})

    found = source(folder)

    assert [(trial.trial, trial.params) for trial in found.trials] == [
        (0, {"model.frames": 0, "model.attention": 0, "train.lr": 0.1}),
        (
            1,
            {
                "model.frames": 1, "model.attention": 1, "model.attention/tsm/stages": (0, 1),
                "model.attention/tsm/every": 1, "train.lr": 0.1,
            },
        ),
    ]  # fmt: skip
    assert [trial.metrics["top1"] for trial in found.trials] == [0.05, 0.1]
    assert (found.name, found.left_out, found.differs) == ("study", {}, ("train.epochs",))


def test_what_is_of_no_use_is_counted_by_its_reason(tmp_path: Path) -> None:
    tam = [{"kind": "tam", "stages": [2]}]
    folder = earlier(tmp_path / "a", {}, {"frames": 8}, {"attention": tam}, {"frames": 4}, {"size": 48})
    dear = spec().cost(spec().trial_config(next(spec().space.enumerate())[1]))["gflops"] * 1.5

    found = source(folder, constraints={"gflops": {"max": dear}}, objectives={"top5": "max", "gflops": "min"})
    assert found.left_out == {"it has no top5": 1, "it is not in this space": 3, "it is over a limit: gflops": 1}
    found = source(folder, constraints={"gflops": {"max": dear}})
    assert [trial.trial for trial in found.trials] == [0]


def test_a_rate_out_of_range_is_no_trial_of_this_space_and_a_range_that_is_none_here_is_no_matter(
    tmp_path: Path,
) -> None:
    folder = earlier(tmp_path / "a", {}, lr=0.5)

    assert source(folder).left_out == {"it is not in this space": 1}
    assert source(folder, train={"lr": 0.1}).differs == ("train.epochs", "train.lr")


def test_of_trials_that_are_one_here_the_one_most_like_it_is_taken(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "a", {}, lr={"choice": [0.2, 0.1, 0.3]})

    found = source(folder, train={"lr": 0.1, "epochs": 1})

    (taken,) = found.trials
    with closing(Ledger(folder / NAME)) as ledger:
        assert ledger.history.trials[taken.trial].config["train"]["lr"] == 0.1
    assert found.left_out == {"another trial has its config, and is more like those here": 2}
    assert found.differs == ()


def test_an_event_holds_a_source_whole(tmp_path: Path) -> None:
    found = source(earlier(tmp_path / "a", {}, {"attention": TSM}))
    with closing(Ledger(tmp_path / "b" / NAME)) as ledger:
        ledger.append("warm_start", **found.event())
        (event,) = ledger.replay()

    again = Source.of(event)
    assert (again.source, again.id, again.name, again.left_out, again.differs) == (
        str(tmp_path / "a"), "a", "study", {}, ("train.epochs",),
    )  # fmt: skip
    assert [(t.trial, t.identity, t.metrics) for t in again.trials] == [
        (t.trial, t.identity, t.metrics) for t in found.trials
    ]
    assert [spec().space.replay(t.params) for t in again.trials] == [
        spec().space.replay(t.params) for t in found.trials
    ]


def test_a_folder_without_a_search_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError) as error:
        read_sources(warm(tmp_path / "empty", tmp_path / "gone"))
    assert [line.partition(": no search")[0] for line in error.value.lines] == [
        f"spec.yaml: search.warm_start[{n}]: {tmp_path / name}" for n, name in enumerate(("empty", "gone"))
    ]

    with pytest.raises(SpecError, match=r"search\.warm_start: names .* twice; name it once"):
        warm(tmp_path, tmp_path)
    written = tmp_path / "spec.yaml"
    written.write_text(yaml.safe_dump(TREE | {"output": str(tmp_path / "out")}))
    for command in ("check", "run"):
        assert main([command, str(written), "--set", "search.warm_start=[gone]"]) == 2
        said = capsys.readouterr()
        assert said.err.startswith(f"{written}: search.warm_start[0]: gone: no search is kept there")
        assert (said.err.count("\n"), said.out) == (1, "")


def test_the_earlier_front_is_repeated_evenly_and_best_first() -> None:
    # Nine on a front, one dominated; five of nine are the ends, the middle, and one between each two.
    trials = [Earlier(n, {}, str(n), {"top1": 0.1 * n, "gflops": float(n)}) for n in range(1, 10)]
    many = Source("a", "", "", (*trials, Earlier(10, {}, "10", {"top1": 0.1, "gflops": 5.0})), {}, ())
    one = Source("b", "", "", (Earlier(3, {}, "3", {"top1": 0.9, "gflops": 1.0}),), {}, ())
    both = {"top1": "max", "gflops": "min"}

    assert [trial.trial for _, trial in repeats([many], both)] == [9, 7, 5, 3, 1]
    assert [(s.source, t.trial) for s, t in repeats([many, one], both)] == [
        ("a", 9),
        ("b", 3),
        ("a", 7),
        ("a", 5),
        ("a", 1),
    ]
    assert repeats([], both) == []


def test_a_distance_adds_up_over_ranges() -> None:
    domains = {
        "choice": Choice(("a", "b")), "int": Int(1, 5), "log": Float(0.01, 1.0, None, True),
        "subset": Subset(("a", "b", "c"), 0, 3), "only": Choice(("a",)),
    }  # fmt: skip
    one = {"choice": 0, "int": 1, "log": 0.1, "subset": [0, 1]}
    other = {"choice": 1, "int": 3, "log": 1.0, "subset": [1, 2], "only": 0}

    # Another choice, half of the range, half of it on the log scale, 2 of 3 members not shared, one range alone.
    assert distance(one, other, domains) == pytest.approx(1 + 0.5 + 0.5 + 2 / 3 + 1)
    assert distance(other, one, domains) == distance(one, other, domains)
    assert distance(one, one, domains) == 0


def test_a_rank_correlation_is_spearmans() -> None:
    # d = 1, 1, 1, 1, 0: 1 - 6 * 4 / (5 * 24) = 0.8; whatever the values are, only their order counts.
    assert correlation([1, 2, 3, 4, 5], [20, 10, 40, 30, 500], np_empty(5)) == pytest.approx(0.8)
    assert correlation([1, 1, 1], [1, 2, 3], np_empty(3)) == 0.0
    # Of 1, 2, 2, 3 the equal ones share rank 2.5: with 1, 2, 3, 4 that is 4.5 / sqrt(5 * 4.5).
    assert correlation([1, 2, 2, 3], [1, 2, 3, 4], np_empty(4)) == pytest.approx(4.5 / math.sqrt(5 * 4.5))


def np_empty(n: int) -> list[list[float]]:
    return [[] for _ in range(n)]


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 3), min_size=4, max_size=12))
def test_at_equal_cost_it_is_the_partial_correlation(rows: list[tuple[int, int, int]]) -> None:
    one, other, cost = ([float(row[i]) for row in rows] for i in range(3))
    xy, xz, yz = (correlation(a, b, np_empty(len(rows))) for a, b in ((one, other), (one, cost), (other, cost)))

    found = correlation(one, other, [[value] for value in cost])

    if max(abs(xz), abs(yz)) < 1 - 1e-6 and len(set(one)) > 1 and len(set(other)) > 1:
        assert found == pytest.approx((xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2)), abs=1e-6)
    else:
        assert found == pytest.approx(0.0, abs=1e-6)


def guarded(objectives: dict[str, str]) -> tuple[Guard, list[Trial]]:
    """A guard of an earlier search that tried ten rates, each the better the higher, and the same trials here."""
    space = spec(objectives=objectives, train={"lr": {"float": [0.1, 1.0], "step": 0.1}})
    trials = []
    for n in range(10):
        params = {"model.frames": 0, "model.attention": 0, "train.lr": round(0.1 * (n + 1), 1)}
        trials.append(Earlier(n, params, str(n), {"top1": 0.05 * n, "gflops": 1.0 + n}))
    own = [
        Trial(n, t.params, {}, "", "", {"gflops": t.metrics["gflops"]}, state="finished") for n, t in enumerate(trials)
    ]
    return Guard(space, Source("runs/a", "", "", tuple(trials), {}, ())), own


def reached(own: list[Trial], *top1s: float) -> list[Trial]:
    for trial, top1 in zip(own, top1s, strict=False):
        trial.reports = [{"epoch": 1, "metrics": {"top1": top1}, "seconds": 1.0}]
    return own[: len(top1s)]


def test_an_earlier_search_that_ranks_alike_is_believed_at_its_level_and_one_that_does_not_is_not() -> None:
    guard, own = guarded({"top1": "max"})
    alike = [0.4 + 0.01 * n for n in range(10)]

    assert guard.verdict(reached(own, *alike[:5]), trusted=False) is None
    believed = guard.verdict(reached(own, *alike[:6]), trusted=False)
    assert believed is not None
    # It foretold 0, 0.05, 0.1 ... 0.25: here are 0.4, 0.36, 0.32, 0.28, 0.24, 0.2 more; in the middle 0.3.
    assert believed.offset == {"top1": pytest.approx(0.3)}
    assert (believed.source, believed.trusted, believed.correlation, believed.trials) == ("runs/a", True, 1.0, 6)
    assert guard.verdict(reached(own, *alike), trusted=True) is None
    assert guard.verdict(reached(own, *reversed(alike)), trusted=False) is None
    dropped = guard.verdict(reached(own, *reversed(alike)), trusted=True)
    assert dropped is not None
    assert (dropped.trusted, dropped.correlation) == (False, -1.0)


def test_accuracies_that_are_moved_stay_what_they_are() -> None:
    metrics = {"top1": 0.9, "top5": 0.1, "loss": 1.0, "gflops": 0.5}

    assert moved(metrics, {"top1": 0.2, "top5": -0.2, "loss": -2.0}) == {
        "top1": 1.0, "top5": 0.0, "loss": 0.0, "gflops": 0.5,
    }  # fmt: skip
    assert moved(metrics, {"loss": 0.5}) == metrics | {"loss": 1.5}


def test_how_sure_it_must_be_depends_on_the_number_of_trials() -> None:
    # Two neighbours changed: rho = 1 - 6 * 2 / 210 = 0.943; tanh(artanh(0.943) - 1.645 sqrt(1.06 / 3)) = 0.66 at least.
    # Three pairs changed: rho = 1 - 6 * 6 / 210 = 0.829, 0.205 at least, just enough. 1 - 6 * 10 / 210 = 0.714: no.
    for order, believed in (([1, 0, 2, 3, 4, 5], True), ([1, 0, 3, 2, 5, 4], True), ([2, 1, 0, 4, 3, 5], False)):
        guard, own = guarded({"top1": "max"})
        found = guard.verdict(reached(own, *(0.1 * place for place in order)), trusted=False)
        assert (found is not None) is believed, order


def test_that_the_dearer_is_better_in_both_is_no_agreement() -> None:
    guard, own = guarded({"top1": "max", "gflops": "min"})

    assert guard.verdict(reached(own, *(0.4 + 0.01 * n for n in range(10))), trusted=False) is None


def test_a_diverged_trial_says_nothing() -> None:
    guard, own = guarded({"top1": "max"})

    found = guard.verdict(reached(own, math.nan, *(0.4 + 0.01 * n for n in range(6))), trusted=False)

    assert found is not None
    assert found.trials == 6


STAGES = [[2], [3], [4], [2, 3], [2, 4], [3, 4]]
MODELS = [
    {"frames": frames, "attention": attention}
    for frames in (2, 4)
    for attention in ([], *([{"kind": "tsm", "stages": stages}] for stages in STAGES))
]


def rank(trial: Trial) -> int:
    """Return how good a model was in a search of `MODELS`: 1 to 14; one that was not there is next to the best."""
    model = trial.config["model"]
    stages = model["attention"][0]["stages"] if model["attention"] else None
    place = 0 if stages is None else 1 + (STAGES.index(stages) if stages in STAGES else 5)
    return 1 + 7 * (model["frames"] == 4) + place


def run_warm(folder: Path, top1: Callable[[Trial], float]) -> list[Event]:
    """Run 24 trials with knowledge of a search of `MODELS`; return the events, those of a resume checked."""
    ready = warm(earlier(folder / "earlier", *MODELS))
    with searching(ready, folder / "own") as (ledger, proposer, record):
        for found in read_sources(ready):
            record("warm_start", **found.event())
        for _ in range(24):
            number = proposer.propose(record)
            assert number is not None
            finish(record, number, top1(ledger.history.trials[number]))
        alive, seen, events = state(proposer), proposer._seen, list(ledger.replay())
    shutil.rmtree(folder / "earlier")
    with searching(ready, folder / "own") as (ledger, proposer, _):
        assert (state(proposer), proposer._seen) == (alive, seen)
        assert read_sources(ready, ledger.history.warm) == []
    known = [(attrs["earlier"], values) for *_, values, attrs in alive if "source" in attrs]
    return [*events, {"event": "known", "trials": known}]


def test_a_warm_search_repeats_the_best_of_the_earlier_front_and_learns_the_rest_once_it_agrees(tmp_path: Path) -> None:
    events = run_warm(tmp_path, lambda trial: 0.2 + 0.025 * rank(trial))

    (taken,) = [event for event in events if event["event"] == "warm_start"]
    # TSM costs nothing, so that the front is the best model of each T.
    best = [max(t["trial"] for t in taken["trials"] if round(t["metrics"]["top1"] / 0.05) == n) for n in (14, 7)]
    whys = [event["why"] for event in events if event["event"] == "proposed"]
    assert whys[0] == {"plain": True}
    assert whys[1:3] == [{"earlier": {"source": str(tmp_path / "earlier"), "trial": trial}} for trial in best]
    assert not any(whys[3:])
    (verdict,) = [event for event in events if event["event"] == "guard"]
    assert verdict["trusted"]
    # It is known at the level of the trials here: each by the same step above or below what it was there.
    there = {t["trial"]: t["metrics"] for t in taken["trials"]}
    assert dict(events[-1]["trials"]) == {
        n: [pytest.approx(metrics["top1"] + verdict["offset"]["top1"]), metrics["gflops"]]
        for n, metrics in there.items()
    }
    assert len(there) == 14


def test_a_misleading_search_is_never_learnt_from(tmp_path: Path) -> None:
    events = run_warm(tmp_path, lambda trial: 0.8 - 0.025 * rank(trial))

    assert not any(event["event"] == "guard" for event in events)
    assert events[-1]["trials"] == []


def test_a_search_that_agreed_by_luck_is_dropped_again(tmp_path: Path) -> None:
    events = run_warm(tmp_path, lambda trial: 0.2 + 0.025 * rank(trial) * (1 if trial.number < 12 else -1))

    assert [event["trusted"] for event in events if event["event"] == "guard"] == [True, False]
    assert events[-1]["trials"] == []
