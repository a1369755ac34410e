"""The JSON of `vattn why` keeps its keys and values."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.analysis.confirmation import calibrated
from search.ledger.file import read
from search.report.why.facts import why
from search.report.why.json import as_json
from tests.search.events import event
from tests.search.report.ledgers import Trees

#: a ledger by hand, and the answer of the first version of `vattn why` for each of its trials, one a line
RECORDED = Path(__file__).parent / "recorded"


def test_answers_are_those_of_the_first_version() -> None:
    events = list(read(RECORDED / "ledger.jsonl"))
    answers = (RECORDED / "answers.jsonl").read_text().splitlines()
    assert len(answers) == 19

    for number, answer in enumerate(answers):
        tree = json.loads(json.dumps(as_json(why(events, number))))
        assert list(tree) == list(json.loads(answer))
        expected = json.loads(answer, parse_float=nearly, parse_constant=nearly, object_hook=corrected)
        assert tree == expected, number


def nearly(text: str) -> Any:
    """Return a number for comparison within rounding errors; NaN equals NaN."""
    return pytest.approx(float(text), nan_ok=True)


def corrected(answer: dict[str, Any]) -> dict[str, Any]:
    """Return a part of an answer with the probability of today: the first version stated the share of samples."""
    share = answer.get("probability") if "on_front" in answer else None
    if share is None:
        return answer
    return answer | {"probability": pytest.approx(float(calibrated(np.array(share.expected))), nan_ok=True)}


def test_fresh_seeds_that_agree_in_everything_have_no_interval_without_a_number_of_clips(confirmed: Trees) -> None:
    for tree in confirmed:
        if tree["event"] == "report" and tree["trial"] >= 7:
            tree["metrics"] = {"top1": 0.5}

    fresh = as_json(why(map(event, confirmed), 5))["again"]["fresh"]

    assert fresh["interval"] == {"top1": None}


def test_an_unknown_interval_is_none(confirmed: Trees) -> None:
    one_seed = [tree for tree in confirmed if tree.get("trial") not in (8, 10, 12)]

    fresh = as_json(why(map(event, one_seed), 5))["again"]["fresh"]

    assert fresh["interval"] == {"top1": None}
    assert fresh["probability"] is None
    assert math.isclose(fresh["mean"]["top1"], 0.61)
