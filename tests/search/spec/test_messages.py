"""For each mistake in a spec, the one line that a user reads."""

import pickle
from pathlib import Path

import pytest

from search.spec.messages import SpecError
from spaces.space import Problem
from tests.search.spec.minimal import Problems
from vattn.errors import UserError

ATTENTION = "trial.model.attention="


@pytest.mark.parametrize(
    ("change", "line"),
    [
        # keys
        ("resources.cpu=1", "resources.cpu: unknown key; did you mean cpus?"),
        ("trial.modle=1", "trial.modle: unknown key; known here: data, model, train, task"),
        ("trial.train.learning=1", "trial.train.learning: unknown key; known here: "),
        (ATTENTION + "[{kind: tam, alpa: 2}]", "trial.model.attention[0].alpa: unknown key; did you mean alpha?"),
        ("trial.model.backbone={kind: resnet}", "trial.model.backbone.depth: is missing; add it"),
        # types
        ("trial.model.frames=x", 'trial.model.frames: must be a whole number (got "x")'),
        ("trial.model.frames=4.0", "trial.model.frames: must be a whole number (got 4.0)"),
        ("trial.data.augment.flip=1", "trial.data.augment.flip: must be true or false (got 1)"),
        (
            "trial.model.frames={choices: [4]}",
            "trial.model.frames: must be a whole number; did you mean {choice: ...}?",
        ),
        (ATTENTION + "{kind: tam}", 'trial.model.attention: must be a list (got {"kind": "tam"})'),
        ("trial=3", "trial: must be a mapping (got 3)"),
        ("trial={choice: [1]}", "trial: must be a mapping of data, model, train; put ranges inside of these"),
        ("resources.concurrent=x", 'resources.concurrent: must be auto or a whole number (got "x")'),
        # bounds and words
        ("trial.model.frames=0", "trial.model.frames: must be at least 1; try 1 (got 0)"),
        (
            "trial.train.optimizer=sdg",
            'trial.train.optimizer: must be one of sgd, adamw; did you mean sgd? (got "sdg")',
        ),
        (ATTENTION + "[{kind: tan}]", "trial.model.attention[0].kind: must be one of "),
        (ATTENTION + "[{alpha: 2}]", "trial.model.attention[0].kind: is missing; add one of "),
        ("name=My search", "name: names a folder too, so it is made of a-z, 0-9 and -; try my-search"),
        ("schema=2", "schema: must be 1 (got 2)"),
        # rules of mechanisms, at any depth of ranges
        (
            ATTENTION + "[{kind: tam, kernel_size: 4}]",
            "trial.model.attention[0].kernel_size: must be odd, so that T frames in give T frames out; try 5 (got 4)",
        ),
        (
            ATTENTION + "{choice: [[], [{kind: tam, kernel_size: {choice: [4, 3]}}]]}",
            "trial.model.attention.choice[1][0].kernel_size.choice[0]: must be odd, so that T frames in give "
            "T frames out; try 5 (got 4)",
        ),
        (
            ATTENTION + "[{kind: tam, kernel_size: {int: [5, 7]}}]",
            "trial.model.attention[0].kernel_size: must be odd, so that T frames in give T frames out; try 7 (got 6)",
        ),
        (
            ATTENTION + "{choice: [[], [{kind: tsm, stages: {subset: [2, 3, 6]}}]]}",
            "trial.model.attention.choice[1][0].stages: this resnet has stages 2, 3, 4, 5; leave out 6 (got 6)",
        ),
        # ranges
        ("trial.model.frames={choice: []}", "trial.model.frames.choice: has no options; list at least one (got [])"),
        ("trial.model.frames={int: [8, 4]}", "trial.model.frames.int: is upside down; write [4, 8] (got [8, 4])"),
        (
            "trial.data.store.size={choice: [80, 64]}",
            "trial.data.store.size: trials share one clip cache, so of data only sampling, views, augment may vary; "
            "write one value",
        ),
        # objectives, limits, budget
        ("objectives={topp: max}", "objectives.topp: unknown key; did you mean top"),
        ("objectives={top1: max, gflops: max}", "objectives.gflops: must be min: a model is better with less gflops"),
        ("objectives={gflops: min}", "objectives: has none that training measures; add one of top1, top5, "),
        (
            "objectives={top1: max, top5: max, loss: min, gflops: min}",
            "objectives: must be 1 to 3; leave out what matters least (got 4)",
        ),
        ("constraints={gflops: {max: 1, min: 2}}", "constraints.gflops: has min above max; lower min or raise max"),
        ("constraints={gflops: {}}", "constraints.gflops: limits nothing; give min, max or both (got {})"),
        ("search.budget={}", "search.budget: has no end; give trials, hours or gpu_hours, or several of them (got {})"),
        ("latency={device: gpu}", "latency.device: must be one of cpu, cuda"),
        ("latency={batch: 1}", "latency.device: is missing; add it"),
        (
            "search.budget.gpu_hours=3",
            "search.budget.gpu_hours: is never spent, as trials have no GPU; set resources.gpus, or give hours instead "
            "(got 3)",
        ),
        # resources
        (
            "resources={gpus: 2}",
            "resources.gpus: must be at most 1, because a worker trains on one GPU; write workers: 2, gpus: 1 (got 2)",
        ),
        ("resources={workers: 2, gpus: 1.5}", "resources.gpus: must be at most 1, because a worker trains on one GPU"),
        (
            "resources={workers: 2, gpus: 0.5}",
            "resources.gpus: must be 1 or 0 with several workers, because NCCL cannot run two workers of a trial on "
            "one GPU; write workers: 2, gpus: 1 (got 0.5)",
        ),
        (
            "resources={gpus: 0.00001}",
            "resources.gpus: must be at least 0.0001, the smallest share that Ray counts; write workers: 1, "
            "gpus: 0.0001 (got ",
        ),
        ("search.confirm={top: 3, seeds: 1}", "search.confirm.seeds: must be at least 2; try 2 (got 1)"),
        ("search.confirm={tops: 3}", "search.confirm.tops: unknown key; did you mean top?"),
        ("search.confirm=all", 'search.confirm: must be none or a mapping; it can have top, seeds (got "all")'),
        ("search.inherit=bases", "search.inherit: must be one of none, base, parent; did you mean base? (got "),
        ("trial.model.sparse=s3n", "trial.model.sparse: must be none or a mapping; it can have branches, delta, "),
        ("search.sampler=tpe", 'search.sampler: must be a mapping; did you mean {kind: tpe}? (got "tpe")'),
        ("search.scheduler=halved", "search.scheduler: must be a mapping; did you mean {kind: halving}? (got "),
        ("search.scheduler=3", "search.scheduler: must be a mapping (got 3)"),
        (ATTENTION + "[tams]", "trial.model.attention[0]: must be a mapping; did you mean {kind: tam}? (got "),
        ("trial.model.sparse={brunches: []}", "trial.model.sparse.brunches: unknown key; did you mean branches?"),
        ("trial.model.sparse={window: 4}", "trial.model.sparse.window: must be one of 3, 5 (got 4)"),
        ("trial.data.modality=flow", 'trial.data.modality: must be one of rgb, diff (got "flow")'),
    ],
)
def test_a_problem_is_one_line_with_path_rule_and_way_out(problems: Problems, change: str, line: str) -> None:
    (message,) = problems(change)

    assert message.startswith(f"spec.yaml: {line}")


def test_all_problems_of_a_spec_are_reported_at_once(problems: Problems) -> None:
    lines = problems(
        "resources.cpu=1", "trial.model.frames=0", "trial.train.epochs={choice: [0, 1]}", ATTENTION + "[{}]"
    )

    paths = [line.split(": ")[1] for line in lines]
    assert paths == [
        "resources.cpu", "trial.model.frames", "trial.model.attention[0].kind", "trial.train.epochs.choice[0]",
    ]  # fmt: skip


def test_many_problems_are_cut_short(problems: Problems) -> None:
    lines = problems("trial={" + ", ".join(f"k{i}: 1" for i in range(30)) + "}")

    assert len(lines) == 21
    assert lines[-1] == "spec.yaml: and 13 more problems"  # 30 unknown keys; data, model and train are missing


def test_an_error_has_a_line_for_each_distinct_problem_and_survives_pickling() -> None:
    error = SpecError.of(Path("spec.yaml"), [Problem(("a", 0), "must be b", "1"), Problem(("a", 0), "must be b", "2")])

    assert isinstance(error, UserError)
    assert error.lines == ("spec.yaml: a[0]: must be b (got 1)",)
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "spec.yaml: a[0]: must be b (got 1)"
