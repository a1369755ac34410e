"""Tables of learning curves, and the figures by which searches on them are compared, worked out by hand."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search.ledger.events import Reported
from search.ledger.history import History, Trial
from tests.benchmarks.curve_tables import read_table, table_files
from tests.benchmarks.peers import PEERS, top_k
from tests.benchmarks.problems import UntriedConfigs
from tests.benchmarks.simulator import simulate
from tests.benchmarks.stopping import (
    OWN,
    area,
    load_table,
    needed,
    omniscient,
    p_of_trainings,
    quartiles,
    search,
    share_of_saving,
    verdict,
)  # fmt: skip
from vattn.errors import UserError

#: four configs of two values, three steps each
TABLE = """x_width,x_rate,x_same,cost,error_1,error_2,error_3
1,0.1,7,10,0.9,0.8,0.7
2,0.1,7,20,0.8,0.6,0.5
3,0.3,7,30,0.7,0.6,0.6
4,0.2,7,40,0.6,0.4,0.2
"""


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_table_is_read_with_its_values_costs_and_errors(tmp_path: Path) -> None:
    problem = read_table(written(tmp_path, TABLE))

    assert problem.name == "table"
    # The third value is the same in all rows, so it is no range.
    assert problem.params == [{"x0": 1, "x1": 0.1}, {"x0": 2, "x1": 0.1}, {"x0": 3, "x1": 0.3}, {"x0": 4, "x1": 0.2}]
    assert problem.cost.tolist() == [10, 20, 30, 40]
    assert [errors.tolist() for errors in problem.errors[:2]] == [[[0.9, 0.8, 0.7]], [[0.8, 0.6, 0.5]]]
    assert problem.epochs == 3
    assert problem.budget == 2  # half of the configs
    assert problem.is_partial
    # Scaled errors 1, 0.6, 0.8, 0, scaled costs 0, 1/3, 2/3, 1: only the second adds area, (1 - 0.6) * 2/3.
    assert problem.best == pytest.approx(0.4 * 2 / 3)


def test_columns_may_stand_in_any_order_and_lines_end_as_on_windows(tmp_path: Path) -> None:
    rows = [line.split(",") for line in TABLE.splitlines()]
    turned = "\r\n".join(",".join(reversed(row)) for row in rows) + "\r\n\r\n"
    file = tmp_path / "turned.csv"
    file.write_bytes(b"\xef\xbb\xbf" + turned.encode())  # with a byte order mark

    problem, usual = read_table(file), read_table(written(tmp_path, TABLE))

    assert problem.cost.tolist() == usual.cost.tolist()
    assert np.array_equal(problem.errors, usual.errors)


def test_rows_with_equal_values_stay_different_configs(tmp_path: Path) -> None:
    problem = read_table(written(tmp_path, TABLE + "4,0.2,7,50,0.5,0.5,0.5\n"))

    numbers = [problem.number(params) for params in problem.params]

    assert numbers == [0, 1, 2, 3, 4]
    assert problem.params[3:] == [{"x0": 4, "x1": 0.2, "copy": 0}, {"x0": 4, "x1": 0.2, "copy": 1}]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("x_rate", "rate", "line 1: has columns of no known kind; name the columns x_*, cost and error_1 ... error_N"),
        ("x_rate", "x_width", "line 1: a column must be named once"),
        ("cost", "error_4", "line 1: needs at least one column x_*, a column cost, and error_1"),
        ("error_2", "error_4", "line 1: the errors must be of every step, without a gap"),
        ("error_2", "error_02", "line 1: has columns of no known kind"),
        ("0.1,7,20", "0.1,20", "line 3: needs 7 values, one a column (got 6)"),
        ("0.8,0.6", "0.8,n/a", "line 3, error_2: must be a finite number, at least 0 (got 'n/a')"),
        ("0.8,0.6", "0.8,nan", "line 3, error_2: must be a finite number, at least 0 (got 'nan')"),
        ("0.8,0.6", "0.8,", "line 3, error_2: must be a finite number, at least 0 (got '')"),
        ("0.8,0.6", "0.8,-0.6", "line 3, error_2: must be a finite number, at least 0 (got '-0.6')"),
        ("7,20", "7,inf", "line 3, cost: must be a finite number, at least 0 (got 'inf')"),
        ("2,0.1", "two,0.1", "line 3, x_width: must be a finite number (got 'two')"),
        (TABLE[TABLE.index("\n2") :], "\n", "needs at least two rows below the names of the columns (got 1)"),
        (TABLE, "", "line 1: needs at least one column x_*, a column cost, and error_1"),
    ],
)
def test_what_is_wrong_in_a_table_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = written(tmp_path, TABLE.replace(old, new, 1))

    with pytest.raises(UserError) as error:
        read_table(file)

    assert str(error.value).startswith(f"{file}: {message}")


def test_a_file_that_is_no_text_and_a_folder_without_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no \*\.csv file; name a folder"):
        table_files(tmp_path)

    (tmp_path / "picture.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="is not a CSV file in UTF-8"):
        table_files(tmp_path)


def test_trainings_to_a_regret_are_counted_when_it_is_first_reached() -> None:
    row = {"spent": [1.0, 2.5, 3.0], "regret": [40.0, 10.0, 10.0]}

    assert needed(row, 40) == 1
    assert needed(row, 10) == 2.5
    assert needed(row, 9.9) == math.inf


def test_the_area_is_the_mean_log_regret_over_the_compute() -> None:
    # log(98 + 2) until 1, log(8 + 2) until 3, log(0 + 2) until the budget of 4; what comes later does not count.
    row = {"spent": [1.0, 3.0, 6.0], "regret": [8.0, 0.0, 0.0]}

    expected = (math.log(100) + 2 * math.log(10) + math.log(2)) / 4

    assert area(row, budget=4, worst=98) == pytest.approx(expected)
    assert area({"spent": [5.0], "regret": [0.0]}, budget=4, worst=98) == pytest.approx(math.log(100))


def test_the_share_of_the_saving_is_in_logarithms() -> None:
    # The bound saves a factor of 4, and the method one of 2.
    assert share_of_saving(80, 40, 20) == pytest.approx(0.5)
    assert share_of_saving(80, 160, 20) == pytest.approx(-0.5)
    assert share_of_saving(80, math.inf, 20) == -math.inf
    assert math.isnan(share_of_saving(20, 20, 20))


def test_quartiles_are_values_of_searches_so_that_one_without_end_counts() -> None:
    assert quartiles([5, 1, 2, 3, 4]) == [3, 2, 4]
    assert quartiles([1, 2, math.inf, math.inf, math.inf]) == [math.inf, 2, math.inf]


def test_a_search_that_does_not_get_there_is_behind_all_that_do() -> None:
    # Eight pairs differ, all in one direction: two tails of 2^-8. Where neither gets there, a pair says nothing.
    ours, others = [50.0] * 8 + [math.inf], [60.0, 70, 80, math.inf, 90, 100, math.inf, 110, math.inf]

    assert p_of_trainings(ours, others) == pytest.approx(2 / 2**8)
    assert p_of_trainings([math.inf, 4], [math.inf, 4]) == 1
    assert verdict(0.008, ours, others) == "0.008 frontier-stopping ahead"
    assert verdict(0.008, others, ours) == "0.008 frontier-stopping behind"
    assert verdict(0.2, ours, others) == "0.2"


def test_the_own_table_is_compared_too() -> None:
    problem = load_table(OWN)

    assert (len(problem.params), problem.epochs) == (708, 20)


def test_the_omniscient_stopper_trains_only_the_final_front_to_its_end(tmp_path: Path) -> None:
    problem = read_table(written(tmp_path, TABLE))
    full = {"config": [2, 1, 3], "regret": [], "thought": 0.0}

    row = omniscient(problem, full)

    # Config 2 has a higher cost and error than config 1, so it is stopped after a third of its steps.
    assert row["spent"] == pytest.approx([1 / 3, 4 / 3, 7 / 3])
    assert row["regret"] == pytest.approx([1000 * problem.best, 0, 0])


def test_the_nearest_untried_config_takes_the_place_of_a_proposal(tmp_path: Path) -> None:
    problem = read_table(written(tmp_path, TABLE))
    configs = UntriedConfigs(problem)

    # Values are scaled by their ranges, 3 and 0.2: the distances from (3.4, 0.21) to the last two rows are
    # (0.13, 0.45) and (0.2, 0.05).
    assert configs.nearest({"x0": 3.4, "x1": 0.21}, []) == problem.params[3]
    assert configs.nearest({"x0": 3.4, "x1": 0.21}, [3]) == problem.params[2]


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "tpe-asha", "frontier", "frontier-top-k"])
def test_every_method_trains_all_configs_of_a_small_table(tmp_path: Path, name: str) -> None:
    problem = read_table(written(tmp_path, TABLE))

    trainings = simulate(problem, PEERS[name](problem, 0, 2), workers=2, budget=4, seed=0)

    assert sorted(training.config for training in trainings) == [0, 1, 2, 3]


def test_the_best_three_of_each_cost_go_on_after_the_first_epoch() -> None:
    def stops(own: tuple[float, float], *others: tuple[float, float]) -> bool:
        trials = {}
        for number, (top1, cost) in enumerate([own, *others]):
            reports = [Reported(trial=number, epoch=1, metrics={"top1": top1}, seconds=1.0)]
            trials[number] = Trial(number, {}, {}, identity="", architecture="", cost={"cost": cost}, reports=reports)
        return top_k(History(trials=trials), 0, "cost")

    better = [(0.6, 1.0), (0.7, 1.0), (0.5, 0.9)]
    assert stops((0.5, 1.0), *better)
    assert not stops((0.5, 1.0), *better[1:])
    assert not stops((0.5, 0.5), *better)  # the others cost more
    assert not stops((0.5, 1.0), *better[1:], (0.5, 1.0))  # an equal trial is not better


def test_a_kept_search_is_not_run_again(tmp_path: Path) -> None:
    file = written(tmp_path, TABLE)

    row = search(file, "random", 1, 0, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_text(kept.read_text().replace('"thought": ', '"thought": 1'))
    again = search(file, "random", 1, 0, tmp_path / "kept")

    assert again["regret"] == row["regret"]
    assert again["thought"] != row["thought"]


@pytest.mark.medium
def test_the_command_prints_a_line_for_each_method_and_refuses_a_bad_table(tmp_path: Path) -> None:
    command = [sys.executable, "tests/benchmarks/bench_search.py", "--seeds", "1", "--processes", "1", "--workers", "1"]
    written(tmp_path, TABLE)

    done = subprocess.run([*command, "--tables", tmp_path], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    heading, _, _, *rows = done.stdout.strip().splitlines()
    assert heading == "table: 4 configs x 3 epochs, 1 workers, 1 seeds"
    assert [row.split("|")[1].strip() for row in rows] == ["frontier", "frontier-stopping", "omniscient"]

    written(tmp_path, TABLE.replace("0.9", "?"), "bad.csv")
    refused = subprocess.run([*command, "--tables", tmp_path], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.endswith("bad.csv: line 2, error_1: must be a finite number, at least 0 (got '?')\n")
