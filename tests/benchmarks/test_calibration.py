"""Stated probabilities and known ends, on a small table whose curves are a formula, and a table of bins by hand."""

from pathlib import Path

import numpy as np
import pytest

from search.schedulers.frontier import MAX_THRESHOLD
from spaces.prior import Prior
from tests.benchmarks.calibration import Judgement, calibration, judgements, lines
from tests.benchmarks.curve_tables import read_table
from tests.benchmarks.peers import PEERS
from tests.benchmarks.priors import MAX_WEIGHT, prior_of
from tests.benchmarks.simulator import simulate


def parallel(folder: Path, configs: int = 60, epochs: int = 8) -> Path:
    """Write a table in which the errors fall by the same factor, so that the first epoch shows the order at the end."""
    rng = np.random.default_rng(0)
    rows = []
    for width in rng.permutation(configs) + 1:
        bad = rng.choice([0.0, 0.3])
        errors = [(0.9 - 0.5 * width / configs + bad) * 0.9**epoch for epoch in range(epochs)]
        rows.append([width, int(bad > 0), width, *errors])
    header = ["x_width", "x_bad", "cost", *(f"error_{n + 1}" for n in range(epochs))]
    file = folder / "parallel.csv"
    file.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")
    return file


def test_a_stopped_trial_was_stated_to_be_unlikely_and_its_end_is_known(tmp_path: Path) -> None:
    problem = read_table(parallel(tmp_path))

    found = judgements(problem, seed=0, workers=4)

    stopped = [judgement for judgement in found if judgement.is_stopped]
    assert stopped
    assert all(judgement.stated < MAX_THRESHOLD for judgement in stopped)
    # The order at the first epoch is that at the end, so the rule is right of those that it stops.
    assert not any(judgement.entered or judgement.stays for judgement in stopped)
    assert any(judgement.entered for judgement in found)


def test_a_first_wave_is_stopped_before_its_first_training_has_ended(tmp_path: Path) -> None:
    problem = read_table(parallel(tmp_path))

    trainings = simulate(problem, PEERS["frontier-stopping"](problem, 0, 24), 24, 25, 0, lambda ended: True)

    *stopped, first = trainings
    assert first.full
    # A third of the configs is much worse from the first epoch on. They are judged after two epochs and four.
    assert len(stopped) >= 4
    assert {training.epochs for training in stopped} <= {2, 4}
    # None of them is on the front of all configs.
    ends = sorted(zip(problem.cost, problem.truth, range(60), strict=True))
    front = [config for n, (_, error, config) in enumerate(ends) if error < min((e for _, e, _ in ends[:n]), default=1)]
    assert not {training.config for training in stopped} & set(front)


def test_bins_are_by_hand() -> None:
    found = [Judgement(0.02, True, entered, False) for entered in (True, False, False, False)]
    found += [Judgement(0.005, True, False, False), Judgement(0.9, False, True, True)]

    _, _, *rows = lines(found)

    assert [row.split(" | ")[:4] for row in rows] == [
        ["| stopped, 0.1 to 1 %", "1", "0.50%", "0.0%"],
        ["| stopped, 1 to 3 %", "4", "2.00%", "25.0%"],
        ["| went on, 30 to 100 %", "1", "90.00%", "100.0%"],
    ]
    # Wilson's interval of 1 of 4: (0.25 + 0.4802 +- 1.96 * sqrt(0.0469 + 0.06)) / 1.9604.
    assert "4.6% to 69.9%" in rows[1]


def test_the_mode_of_the_command_names_the_table(tmp_path: Path) -> None:
    first, *_ = calibration(parallel(tmp_path, configs=20), workers=2, seeds=1)

    assert first.startswith("parallel: 2 workers, 1 seeds, ")


def test_a_right_prior_favours_the_front_and_a_wrong_one_the_rest(tmp_path: Path) -> None:
    problem = read_table(parallel(tmp_path))

    right, wrong = prior_of(problem), prior_of(problem, wrong=True)

    def mean(prior: Prior, is_bad: float) -> float:
        return float(np.mean([prior.log_density(params) for params in problem.params if params["x1"] == is_bad]))

    assert mean(right, 0.0) > mean(right, 1.0) + 1
    assert mean(wrong, 0.0) < mean(wrong, 1.0) - 1
    spread = np.ptp([right.log_density(params) for params in problem.params])
    assert spread <= 4 * np.log(MAX_WEIGHT) + 1e-9  # of two ranges, from the least to the largest weight each
    assert spread == pytest.approx(np.ptp([wrong.log_density(params) for params in problem.params]))
