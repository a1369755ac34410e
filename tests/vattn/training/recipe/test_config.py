"""What a recipe may say, and which recipes are the same."""

from typing import Any

import pytest
from pydantic import ValidationError

from search.spec.messages import problems
from vattn.canonical import trial_id
from vattn.config import TrialConfig

#: The identity that this config had when there were the words sgd and adamw, cosine and constant alone.
EARLIER = "9ffe1097d9d3b5ce"
TREE: dict[str, Any] = {
    "data": {"kind": "motion"},
    "model": {"frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10}, "attention": [{"kind": "tam"}]},
    "train": {"epochs": 3, "batch": 16, "lr": 0.1},
}


def tree(**train: Any) -> dict[str, Any]:
    return TREE | {"train": TREE["train"] | train}


def identity(**train: Any) -> str:
    return trial_id(TrialConfig.parse(tree(**train)))


@pytest.mark.parametrize(
    "train",
    [
        {"optimizer": "sgd", "schedule": "cosine"},
        {"optimizer": {"kind": "sgd"}},
        {"optimizer": {"kind": "sgd", "momentum": 0.9, "nesterov": False}},
        {"schedule": {"kind": "cosine", "floor": 0}},
        {"warmup": {"epochs": 0, "start": 0.5}, "rates": {"new": 1, "biases": 1}},
        {"label_smoothing": 0, "clip_norm": "none", "ema": "none", "norm": "train", "freeze": [], "decay_norms": True},
        {"balance": {"sampling": 0, "weights": 0}},
        {"lr": 0.05, "lr_batch": 8},
    ],
)
def test_another_way_to_write_the_earlier_recipe_has_its_identity(train: dict[str, Any]) -> None:
    assert identity(**train) == EARLIER


def test_words_have_the_identities_that_they_had() -> None:
    # Recorded before there were mappings.
    assert identity(optimizer="adamw") == identity(optimizer={"kind": "adamw"}) == "07e56079dc85a4ad"
    assert identity(schedule="constant") == identity(schedule={"kind": "constant"}) == "e0c39a7c127ff5bb"


OTHERS = [
    {"optimizer": {"kind": "sgd", "momentum": 0.8}},
    {"optimizer": {"kind": "sgd", "nesterov": True}},
    {"optimizer": {"kind": "adamw", "betas": [0.9, 0.99]}},
    {"schedule": {"kind": "cosine", "floor": 0.01}},
    {"schedule": {"kind": "steps", "at": [1]}},
    {"schedule": {"kind": "steps", "at": [2]}},
    {"schedule": {"kind": "steps", "at": [1], "factor": 0.5}},
    {"schedule": "wsd"},
    {"schedule": {"kind": "wsd", "decay": 0.3}},
    {"warmup": {"epochs": 0.5}},
    {"warmup": {"epochs": 0.5, "start": 0}},
    *({"rates": {group: 2}} for group in ("new", "head", "first", "biases")),
    {"decay_norms": False},
    {"label_smoothing": 0.1},
    {"balance": {"sampling": 0.5}},
    {"balance": {"weights": 0.5}},
    {"clip_norm": 20},
    {"ema": 0.99},
    *({"norm": norm} for norm in ("frozen", "partial", "sync")),
    {"freeze": [1]},
    {"freeze": [1, 2]},
    {"lr_batch": 32},
]


def test_each_other_recipe_has_an_identity_of_its_own() -> None:
    identities = [identity(**train) for train in OTHERS]

    assert len({*identities, EARLIER}) == len(OTHERS) + 1


@pytest.mark.parametrize("train", OTHERS)
def test_a_recipe_is_read_back_as_it_was_exported(train: dict[str, Any]) -> None:
    config = TrialConfig.parse(tree(**train))

    again = TrialConfig.parse(config.tree())

    assert again == config
    assert trial_id(again) == trial_id(config)


def test_what_has_no_effect_does_not_change_an_identity() -> None:
    assert identity(schedule={"kind": "steps", "at": [1, 3, 9]}) == identity(schedule={"kind": "steps", "at": [1]})
    assert identity(schedule={"kind": "steps", "at": [3]}) == identity(schedule="constant")
    assert identity(weight_decay=0.0, decay_norms=False) == identity(weight_decay=0.0)
    assert identity(freeze=[2, 1]) == identity(freeze=[1, 2])
    plain = TREE | {"model": TREE["model"] | {"attention": []}}
    assert trial_id(TrialConfig.parse(plain)) == trial_id(
        TrialConfig.parse(plain | {"train": TREE["train"] | {"rates": {"new": 3}}})
    )


@pytest.mark.parametrize(
    ("train", "line"),
    [
        ({"optimizer": "sdg"}, 'optimizer: must be one of sgd, adamw; did you mean sgd? (got "sdg")'),
        ({"optimizer": "lion"}, "optimizer: must be one of sgd, adamw or a mapping; it can have kind, momentum, "),
        ({"optimizer": {"kind": "sgd", "momentum": 1}}, "optimizer.momentum: must be below 1 (got 1)"),
        (
            {"optimizer": {"kind": "sgd", "momentum": 0, "nesterov": True}},
            "optimizer.nesterov: needs momentum above 0; raise momentum, or write false (got true)",
        ),
        ({"optimizer": {"kind": "adamw", "betas": [0.9, 1]}}, "optimizer.betas[1]: must be below 1 (got 1)"),
        (
            {"optimizer": {"kind": "adamw", "betas": [0.9]}},
            "optimizer.betas: must be two numbers; write [0.9, 0.999] (got [0.9])",
        ),
        ({"optimizer": {"kind": "adamw", "momentum": 0.9}}, "optimizer.momentum: unknown key; known here: kind, betas"),
        ({"schedule": "steps"}, "schedule: must be one of cosine, constant, wsd or a mapping; it can have kind, "),
        ({"schedule": {"kind": "steps"}}, "schedule.at: is missing; add it"),
        ({"schedule": {"kind": "steps", "at": [2, 1]}}, "schedule.at: must ascend; write 1, 2 (got [2, 1])"),
        (
            {"schedule": {"kind": "cosine", "floor": 0.2}},
            "schedule.floor: must be at most the peak rate; try 0.1 (got 0.2)",
        ),
        (
            {"schedule": {"kind": "wsd", "decay": 0.9}, "warmup": {"epochs": 1}},
            "schedule.decay: begins before the end of warmup; try 0.666667 or less (got 0.9)",
        ),
        ({"warmup": {"epochs": 3}}, "warmup.epochs: must be below epochs, 3 (got 3)"),
        ({"warmup": {"start": 1.5}}, "warmup.start: must be at most 1; try 1 (got 1.5)"),
        ({"rates": {"head": 0}}, "rates.head: must be above 0 (got 0)"),
        ({"rates": {"hed": 2}}, "rates.hed: unknown key; did you mean head?"),
        ({"label_smoothing": 1}, "label_smoothing: must be below 1 (got 1)"),
        ({"balance": {"sampling": 2}}, "balance.sampling: must be at most 1; try 1 (got 2)"),
        ({"clip_norm": 0}, "clip_norm: must be none or above 0 (got 0)"),
        ({"ema": 1}, "ema: must be none or below 1 (got 1)"),
        ({"norm": "sync", "accumulate": 2}, "norm: sync needs the same number of parts on all workers, which "),
        ({"norm": "freeze"}, "norm: must be one of train, frozen, partial, sync"),
        ({"freeze": [1, 1]}, "freeze: names a stage twice; name each once (got [1, 1])"),
        ({"freeze": [6]}, "freeze: this resnet has stages 1, 2, 3, 4, 5; leave out 6 (got 6)"),
        ({"lr_batch": 0}, "lr_batch: must be none or at least 1; try 1 (got 0)"),
    ],
)
def test_a_wrong_recipe_is_refused_with_path_rule_and_way_out(train: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError) as error:
        TrialConfig.parse(tree(**train))

    (problem,) = problems(error.value, TrialConfig, tree(**train))
    assert str(problem).startswith(f"train.{line}")
