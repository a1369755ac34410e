"""The latency of networks as an objective and a limit: measured once, before it is used, while no trial runs.

The latencies are those of a formula, so that every result is certain; what measures them on a device is tested alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.commands.run import _check_unchanged
from search.ledger.events import Measured, Proposed, Rejected
from search.ledger.file import NAME, Ledger, read
from search.proposals.latency import CALIBRATION
from search.spec.messages import SpecError
from search.spec.schema import Spec
from search.spec.sections import LATENCY
from search.tuner.meter import Meter
from tests.search.searches import finish, searching, spec, state
from vattn.canonical import architecture_id
from vattn.config import ModelConfig
from vattn.cost import cost
from vattn.errors import UserError

SEARCHED = {"latency": {"device": "cpu"}, "objectives": {"top1": "max", LATENCY: "min"}}
#: T: 2 values; no mechanism, TSM or TAM in 7 sets of stages, TAM of 2 sizes: 2 * (1 + 7 + 14) = 44 networks
MANY = {
    "frames": {"choice": [2, 4]},
    "attention": {"choice": [
        [],
        [{"kind": "tsm", "stages": {"subset": [2, 3, 4]}}],
        [{"kind": "tam", "alpha": {"choice": [1, 2]}, "stages": {"subset": [2, 3, 4]}}],
    ]},
}  # fmt: skip


def milliseconds(model: ModelConfig) -> float:
    """Return a latency in which a TSM, which costs no GFLOPs, takes 3 ms."""
    shifts = sum(len(module.stages) for module in model.attention if module.kind == "tsm")
    return round(1 + 100 * cost(model, 16).gflops + 3 * shifts, 4)


class Measuring:
    """Measures by `milliseconds`, and keeps the networks that it was called with."""

    def __init__(self, before: Callable[[], None] = lambda: None, broken: str = "") -> None:
        self.models: list[ModelConfig] = []
        self._before, self._broken = before, broken

    def __call__(self, model: ModelConfig) -> Measured:
        self._before()
        self.models.append(model)
        identity = architecture_id(model)
        if any(module.kind == self._broken for module in model.attention):
            return Measured(architecture=identity, latency_ms=0.0, device="formula", error="no kernel")
        return Measured(architecture=identity, latency_ms=milliseconds(model), p99_ms=99.0, device="formula")

    @property
    def identities(self) -> list[str]:
        return [architecture_id(model) for model in self.models]


def run(searched: Spec, folder: Path, trials: int, measure: Measuring) -> list[Any]:
    """Finish some more trials of a search; return the state of its study."""
    with searching(searched, folder, measure) as (ledger, proposer, record):
        for _ in range(trials):
            number = proposer.propose(record)
            assert number is not None
            finish(record, number, 0.3 + len(ledger.history.trials) % 5 / 10)
        return state(proposer)


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["random", "frontier"])
def test_each_network_is_measured_once_and_a_resumed_search_measures_none_again(tmp_path: Path, kind: str) -> None:
    searched = spec(**SEARCHED, model=MANY, search={"budget": {"trials": 30}, "sampler": {"kind": kind}})
    whole, parts = Measuring(), Measuring()

    uninterrupted = run(searched, tmp_path / "whole", 20, whole)
    resumed = [run(searched, tmp_path / "parts", 4, parts) for _ in range(5)][-1]

    assert resumed == uninterrupted
    assert parts.identities == whole.identities
    assert len(set(whole.identities)) == len(whole.identities) < 44
    events = list(read(tmp_path / "parts" / NAME))
    assert [type(event) for event in events[1 : 1 + CALIBRATION]] == [Measured] * CALIBRATION
    known: dict[str, float] = {}
    for event in events:
        if isinstance(event, Measured):
            known[event.architecture] = event.latency_ms
        elif isinstance(event, Proposed):  # by what the ledger had before
            assert event.cost[LATENCY] == known[event.architecture]


@pytest.mark.medium
def test_a_limit_keeps_slow_networks_from_being_trained(tmp_path: Path) -> None:
    # TSM takes at least 3 ms; the others cost less than 0.03 GFLOPs, which are less than 3 ms.
    limited = spec(
        latency={"device": "cpu"}, constraints={LATENCY: {"max": 4.0}}, objectives={"top1": "max"}, model=MANY,
        train={"lr": 0.1}, search={"budget": {"trials": 100}, "sampler": {"kind": "frontier"}},
    )  # fmt: skip
    with searching(limited, tmp_path, Measuring()) as (ledger, proposer, record):
        while (number := proposer.propose(record)) is not None:
            finish(record, number, 0.5)
        trials, rejected = ledger.history.trials, ledger.history.rejected

    models = [ModelConfig.parse(trial.config["model"]) for trial in trials.values()]
    assert len(trials) == 2 * (1 + 14)
    assert max(map(milliseconds, models)) < 4
    reasons = {event.reason.partition(" ")[0] for event in rejected if event.duplicate_of is None}
    assert reasons <= {LATENCY, "was"}  # over a limit, and before


def test_a_network_that_cannot_be_measured_is_not_trained(tmp_path: Path) -> None:
    searched = spec(**SEARCHED, train={"lr": 0.1})
    with searching(searched, tmp_path, Measuring(broken="tsm")) as (ledger, proposer, record):
        while (number := proposer.propose(record)) is not None:
            finish(record, number, 0.5)

        # Of the 16 networks 2 have no TSM.
        assert [trial.config["model"]["attention"] for trial in ledger.history.trials.values()] == [[], []]
        reasons = {event.reason for event in ledger.history.rejected if event.duplicate_of is None}
    assert "its latency_ms could not be measured: no kernel" in reasons
    assert len([event for event in read(tmp_path / NAME) if isinstance(event, Rejected)])


def test_the_sampler_knows_networks_that_were_never_measured(tmp_path: Path) -> None:
    searched = spec(**SEARCHED, model=MANY | {"size": {"choice": [32, 48, 64]}}, train={"lr": 0.1})
    measure = Measuring()
    with searching(searched, tmp_path, measure) as (_, proposer, record):
        proposer.propose(record)
        errors = []
        for params, tree in searched.space.enumerate():
            model = searched.trial_config(tree).model
            if architecture_id(model) not in measure.identities:
                expected = proposer.study._cost_within_limits(params)
                assert expected is not None
                errors.append(abs(expected[LATENCY] / milliseconds(model) - 1))

    assert len(errors) == 3 * 44 - len(measure.identities)
    assert sorted(errors)[len(errors) // 2] < 0.1


def test_a_search_without_latency_is_as_before(tmp_path: Path) -> None:
    plain = spec()

    assert "latency" not in plain.tree()
    with searching(plain, tmp_path) as (ledger, proposer, record):
        proposer.propose(record)
        assert set(ledger.history.trials[0].cost) == {"gflops", "params_m", "activation_mb"}


def test_how_latency_is_measured_may_not_change_on_a_resume(tmp_path: Path) -> None:
    with searching(spec(**SEARCHED), tmp_path, Measuring()):
        pass
    ledger = Ledger(tmp_path / NAME)

    _check_unchanged(Path("spec.yaml"), spec(**SEARCHED), ledger)
    with pytest.raises(UserError, match=r"latency.batch \(4, and was 1\): must be as when the search began"):
        _check_unchanged(Path("spec.yaml"), spec(**SEARCHED | {"latency": {"device": "cpu", "batch": 4}}), ledger)
    with pytest.raises(UserError, match="latency"):
        _check_unchanged(Path("spec.yaml"), spec(), ledger)


@pytest.mark.parametrize(
    "changes",
    [{"objectives": {"top1": "max", LATENCY: "min"}}, {"constraints": {LATENCY: {"max": 3}}}],
    ids=["objective", "limit"],
)
def test_a_search_by_latency_names_its_device(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"latency: says on which device .* add latency: \{device: cpu\}"):
        spec(**changes)


def test_the_meter_measures_on_the_device_that_it_names(tmp_path: Path) -> None:
    searched = spec(**SEARCHED)
    meter = Meter(searched)
    model = searched.trial_config(searched.space.plain()[1]).model

    measured = meter(model)

    assert measured.architecture == architecture_id(model)
    assert 0 < measured.latency_ms <= measured.p99_ms
    assert measured.device == meter.name
    Meter(searched, [measured])
    with pytest.raises(UserError, match=r"^spec.yaml: latency.device: is .* and the search was measured on old chip; "):
        Meter(searched, [measured.model_copy(update={"device": "old chip"})])
