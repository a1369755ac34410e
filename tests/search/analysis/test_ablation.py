"""Ablation tables: their cells against arithmetic by hand, and what is empty."""

from typing import Any

import pytest

from search.analysis.ablation import Ablation, ablations, dilations
from search.analysis.intervals import of_mean
from search.ledger.history import History
from tests.search.events import history_of

MODULE = {"kind": "tam", "stages": [2, 3], "position": "b", "every": 1, "alpha": 1, "beta": 2, "kernel_size": 3}


def spec(model: dict[str, Any]) -> dict[str, Any]:
    return {"search": {"budget": {}}, "objectives": {"top1": "max", "gflops": "min"}, "trial": {"model": model}}


def search(
    model: dict[str, Any], *trials: tuple[dict[str, Any], float | dict[str, float]], state: str = "finished"
) -> History:
    events: list[dict[str, Any]] = [{"event": "search", "spec": spec(model), "clips": {"val": 200}}]
    for number, (config, measured) in enumerate(trials):
        metrics = measured if isinstance(measured, dict) else {"top1": measured}
        events += [
            {"event": "proposed", "trial": number, "config": {"model": config, "train": {"epochs": 1, "seed": 0}},
             "cost": {"gflops": 1.0 + number}},
            {"event": "started", "trial": number},
            {"event": "report", "trial": number, "epoch": 1, "metrics": metrics},
            {"event": state, "trial": number, "epoch": 1, "reason": "late"},
        ]  # fmt: skip
    return history_of(events)


def table(history: History, title: str) -> Ablation:
    return next(found for found in ablations(history, "top1") if found.title == title)


def tam(**changes: Any) -> dict[str, Any]:
    return {"frames": 8, "attention": [MODULE | changes]}


def test_a_cell_has_the_mean_of_its_runs_and_others_are_empty() -> None:
    space = {
        "frames": 8,
        "attention": [{"kind": "tam", "alpha": {"choice": [1, 2]}, "beta": {"choice": [2, 4, 8]}}],
    }
    history = search(space, (tam(), 0.50), (tam(), 0.56), (tam(alpha=2, beta=8), 0.70))

    found = table(history, "TAM: α by β")

    assert (found.row, found.rows) == ("α", ("1", "2"))
    assert (found.column, found.columns) == ("β", ("2", "4", "8"))
    assert set(found.cells) == {("1", "2"), ("2", "8")}
    cell = found.cells["1", "2"]
    assert cell.trials == (0, 1)
    assert cell.mean == of_mean("top1", [0.50, 0.56], 200)
    assert cell.mean.value == pytest.approx(0.53)
    # t(0.975; 1) = 12.706 times 0.06 / sqrt(2) / sqrt(2) is 38 points; the clips add 6.9 points.
    assert cell.mean.high == pytest.approx(0.53 + (0.3812**2 + 0.0689**2) ** 0.5, abs=0.002)
    assert found.cells["2", "8"].trials == (2,)


def test_every_form_of_the_papers_is_filled() -> None:
    def with_(kind: str, **fields: Any) -> dict[str, Any]:
        return {"frames": 8, "attention": [{"kind": kind, "stages": [5], "position": "d"} | fields]}

    models = [
        tam(kernel_size=5) | {"frames": 16}, tam(stages=[5], position="a"),
        with_("sta", step=1, deconv=True, weights="sta"), with_("sta", step=4, deconv=False, weights="ta"),
        with_("m2a", motion="m2a", attention="tam", reduction=8),
        with_("m2a", motion="tdn", attention="none", reduction=4),
        {"frames": 4, "attention": [], "backbone": {"kind": "tcnn", "dilations": [[1], [1, 4], [1, 2]]}},
        {"frames": 8, "attention": [], "backbone": {"kind": "tcnn", "dilations": [[1], [1], [1]]}},
    ]  # fmt: skip
    history = search({}, *((model, 0.5 + n / 100) for n, model in enumerate(models)))

    assert table(history, "TAM: kernel size by frames").cells["5", "16"].trials == (0,)
    assert table(history, "TAM: stages by style").cells["5", "a"].trials == (1,)
    assert table(history, "STA: step of the deconvolution by frames").cells["4", "8"].trials == (3,)
    assert table(history, "STA: weights by stages").cells["sta", "5"].trials == (2,)
    assert table(history, "STA: deconvolution by stages").cells["no", "5"].trials == (3,)
    assert table(history, "M2A: motion by attention").cells["tdn", "none"].trials == (5,)
    assert table(history, "T-CNN: dilations by frames").cells["1,4 | 1,2", "4"].trials == (6,)
    assert dilations([[1], [1], [1]]) == "1"


def test_stopped_runs_are_in_no_cell_and_a_table_needs_two_values() -> None:
    assert ablations(search({}, (tam(), 0.5), (tam(alpha=2), 0.6), state="stopped"), "top1") == []
    assert ablations(search({}, (tam(), 0.5), (tam(), 0.6)), "top1") == []


def test_detectors_stand_beside_each_other_by_threshold() -> None:
    plain = {"frames": 64, "detector": {"kind": "rc3d"}, "attention": []}
    space = plain | {"attention": {"choice": [[], [{"kind": "sta"}], [{"kind": "tsm"}]]}}
    sta = plain | {"attention": [{"kind": "sta"}]}
    found = [{"map": 0.5, "map_0.1": low, "map_0.5": high} for low, high in ((0.6, 0.2), (0.7, 0.3), (0.8, 0.5))]
    history = search(space, *zip((plain, plain, sta), found, strict=True))

    table = ablations(history, "map")[0]

    assert (table.source, table.rows, table.columns) == (
        "STA, Table VI", ("rc3d", "rc3d + sta", "rc3d + tsm"), ("0.1", "0.5"),
    )  # fmt: skip
    assert {place: (cell.trials, cell.mean.value) for place, cell in table.cells.items()} == {
        ("rc3d", "0.1"): ((0, 1), pytest.approx(0.65)),
        ("rc3d", "0.5"): ((0, 1), pytest.approx(0.25)),
        ("rc3d + sta", "0.1"): ((2,), 0.8),
        ("rc3d + sta", "0.5"): ((2,), 0.5),
    }
