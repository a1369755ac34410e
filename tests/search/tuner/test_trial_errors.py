"""Errors of the user, and a loss that is not finite, are results of a trial with a message and no traceback."""

from types import SimpleNamespace
from typing import Any

import pytest

from search.tuner import trainable
from search.tuner.results import FailedResult, parse_result
from tests.search.spec.small import small
from vattn.errors import UserError


@pytest.mark.parametrize(
    "error", [UserError("has no layer of this network", path="train.init"), FloatingPointError("the loss is nan")]
)
def test_an_error_for_the_user_has_no_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def epochs(*_: object) -> Any:
        raise error
        yield

    context = SimpleNamespace(get_assigned_resources=lambda: {"CPU": 1})
    monkeypatch.setattr(trainable, "epochs", epochs)
    monkeypatch.setattr(trainable, "trial_device", lambda: None)
    monkeypatch.setattr(trainable.ray, "get_runtime_context", lambda: context)
    config = small().trial_config(next(small().space.one_at_a_time())[1])
    task: Any = {"config": config.model_dump_json(), "cache": "", "folder": "", "tested": False, "known": 0}

    (result,) = trainable._train(task)

    assert parse_result(result) == FailedResult(str(error))
