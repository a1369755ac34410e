"""The proposer: new configs within the limits, the same ones from a replayed ledger."""

import math
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.ledger.events import Failed, Reported, Stopped
from search.spec.schema import Spec
from tests.search.searches import PRIOR, TREE, finish, searching, spec, state


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["random", "tpe", "nsga2", "gp", "frontier", "prior"])
def test_a_replayed_ledger_gives_the_same_study(tmp_path: Path, kind: str) -> None:
    search = PRIOR if kind == "prior" else {"sampler": {"kind": kind}}
    sampled = spec(search={"budget": {"trials": 9}} | search, constraints={"gflops": {"max": 0.006}})
    with searching(sampled, tmp_path) as (_, proposer, record):
        for i in range(14):
            number = proposer.propose(record)
            assert number is not None
            assert number == i
            if i % 4 == 1:
                record(Reported(trial=number, epoch=1, metrics={"top1": 0.1}, seconds=1.0))
                record(Stopped(trial=number, epoch=1, reason="a rung"))
            elif i % 4 == 2:
                record(Failed(trial=number, error="no memory", final=True))
            elif i % 4 == 3:
                finish(record, number, 0.3 + i / 100)
        before = state(proposer)

    with searching(sampled, tmp_path) as (_, proposer, _):
        assert state(proposer) == before


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_a_search_that_is_resumed_often_proposes_the_same_as_one_that_is_not(tmp_path: Path, kind: str) -> None:
    # More than the 10 trials after which TPE learns, and the 50 of NSGA-II's first generation. A third never ends.
    train = {"lr": {"float": [0.01, 0.3], "log": True}}
    sampled = spec(search={"budget": {"trials": 100}, "sampler": {"kind": kind}}, train=train)

    def propose(folder: Path, trials: range) -> list[str]:
        with searching(sampled, folder) as (ledger, proposer, record):
            for i in trials:
                number = proposer.propose(record)
                assert number is not None
                if i % 3:
                    finish(record, number, (7 * i % 10) / 10)
            return [trial.identity for trial in ledger.history.trials.values()]

    uninterrupted = propose(tmp_path / "uninterrupted", range(90))
    resumed = [propose(tmp_path / "resumed", range(i, i + 5)) for i in range(0, 90, 5)][-1]

    assert resumed == uninterrupted


@pytest.mark.medium
def test_every_config_of_a_finite_space_is_proposed_once(tmp_path: Path) -> None:
    # T: 2; none, or TSM on 7 subsets of stages (`every` has no effect where a stage has one block): 16; lr: 3.
    with searching(spec(), tmp_path) as (ledger, proposer, record):
        while (number := proposer.propose(record)) is not None:
            finish(record, number, 0.5)

        identities = [trial.identity for trial in ledger.history.trials.values()]
        assert len(identities) == len(set(identities)) == 2 * (1 + 7) * 3


def test_the_users_configs_come_after_the_baseline_and_once(tmp_path: Path) -> None:
    start = [{"train.lr": 0.3}, {"model.attention/tsm/stages": [3]}, {"train": {"lr": 0.3}}]
    with searching(spec(search=TREE["search"] | {"start": start}), tmp_path) as (ledger, proposer, record):
        numbers = [proposer.propose(record) for _ in range(2)]

    # The process is another one, and goes on with the second.
    with searching(spec(search=TREE["search"] | {"start": start}), tmp_path) as (ledger, proposer, record):
        numbers += [proposer.propose(record) for _ in range(2)]

        trials = ledger.history.trials
        assert numbers == [0, 1, 2, 3]
        assert [trial.why for trial in trials.values()] == [{"plain": True}, {"start": 0}, {"start": 1}, {}]
        assert trials[1].config["train"]["lr"] == 0.3
        (tsm,) = trials[2].config["model"]["attention"]
        assert tsm["stages"] == [3]


def test_a_config_over_a_limit_is_rejected_with_the_reason(tmp_path: Path) -> None:
    # TSM costs nothing, so GFLOPs are proportional to T: the limit lies between the two values.
    low, high = sorted({round(c["gflops"], 6) for c in costs(spec())})
    limited = spec(constraints={"gflops": {"max": (low + high) / 2}})
    with searching(limited, tmp_path) as (ledger, proposer, record):
        while (number := proposer.propose(record)) is not None:
            finish(record, number, 0.5)

        assert {trial.config["model"]["frames"] for trial in ledger.history.trials.values()} == {2}
        assert len(ledger.history.trials) == (1 + 7) * 3
        over = [event for event in ledger.history.rejected if event.duplicate_of is None]
        assert any("is above" in event.reason for event in over)


def costs(spec: Spec) -> list[dict[str, float]]:
    return [spec.cost(spec.trial_config(tree)) for _, tree in spec.space.enumerate()]


def test_the_sampler_learns_which_values_are_good(tmp_path: Path) -> None:
    # The optimum is lr = 0.1, and accuracy falls by 1 for a factor of 10. The mean of log-uniform samples from
    # 0.01 ... 1 is 0.5, with a standard error of 0.05 for 40 samples.
    tree = TREE["trial"] | {"train": {"epochs": 2, "batch": 8, "lr": {"float": [0.01, 1.0], "log": True}}}
    tpe = {"budget": {"trials": 60}, "sampler": {"kind": "tpe"}}
    with searching(spec(trial=tree, objectives={"top1": "max"}, search=tpe), tmp_path) as (ledger, proposer, record):
        for _ in range(60):
            number = proposer.propose(record)
            assert number is not None
            finish(record, number, 1 - abs(math.log10(ledger.history.trials[number].config["train"]["lr"]) + 1))

        later = [trial.metrics["top1"] for number, trial in ledger.history.trials.items() if number >= 20]
        assert sum(later) / len(later) > 0.7


def test_a_space_with_too_many_subsets_for_a_sampler_is_refused(tmp_path: Path) -> None:
    # 11 items have 2 ** 11 - 1 = 2047 subsets.
    stages = {"subset": [[{"kind": "tsm", "div": div}] for div in range(2, 13)]}
    model = TREE["trial"]["model"] | {"attention": {"choice": [[], {"repeat": {"times": 1, "of": stages}}]}}
    wide = spec().model_copy(update={"trial": TREE["trial"] | {"model": model}})

    with pytest.raises(ValueError, match=r"at most 1024 subsets.*got 2047"), searching(wide, tmp_path):
        pass


def test_the_study_outlives_a_disk_that_is_gone(tmp_path: Path) -> None:
    folder, away = tmp_path / "disk", tmp_path / "away"
    with searching(spec(), folder) as (_, proposer, record):
        number = proposer.propose(record)
        assert number is not None
        (folder / "study.log").rename(away)

        finish(record, number, 0.5)

        assert not (folder / "study.log").exists()
        away.rename(folder / "study.log")
        assert proposer.propose(record) == 1
        written = JournalStorage(JournalFileBackend(str(folder / "study.log")))
        study = optuna.load_study(study_name="study", storage=written)
        assert [trial.values for trial in study.trials] == [trial.values for trial in proposer.study.trials]
        assert study.trials[0].user_attrs["curve"] == [0.5]
