"""Specs that are valid, and for each mistake the one line that a user reads."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.spec.messages import SpecError
from search.spec.schema import Spec
from search.spec.validation import load, load_config
from search.spec.yaml_reader import parse as parse_yaml
from vattn.config import TrialConfig

MINIMAL = """\
schema: 1
name: small
trial:
  data: {kind: motion}
  model: {frames: 4, size: 48, backbone: {kind: resnet, depth: 10}}
  train: {epochs: 2, batch: 4, lr: 0.1}
search: {budget: {trials: 2}}
"""
Problems = Callable[..., list[str]]


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(MINIMAL)
    return path


@pytest.fixture
def problems(spec_file: Path) -> Problems:
    """Return the lines of the error that a spec causes, without the folder of the file."""

    def problems(*sets: str, text: str = MINIMAL) -> list[str]:
        spec_file.write_text(text)
        with pytest.raises(SpecError) as error:
            load(spec_file, sets)
        return [line.replace(str(spec_file), "spec.yaml") for line in str(error.value).splitlines()]

    return problems


def test_a_minimal_spec_has_all_defaults(spec_file: Path) -> None:
    spec = load(spec_file)

    assert spec.objectives == {"top1": "max", "gflops": "min"}
    assert (spec.search.sampler.kind, spec.search.scheduler.kind) == ("tpe", "none")
    assert (spec.resources.workers, spec.resources.cpus, spec.resources.gpus) == (1, 1, 0)
    assert spec.output_dir() == Path("runs/small")
    assert spec.data.kind == "motion"
    assert spec.space.size() == 1


def test_a_spec_survives_its_own_tree(spec_file: Path) -> None:
    spec = load(spec_file, ["search.scheduler={kind: halving}", "constraints={gflops: {max: 1}}"])

    assert Spec.parse(spec.tree()).tree() == spec.tree()


def test_overrides_change_mappings_lists_and_ranges(spec_file: Path) -> None:
    spec = load(
        spec_file,
        [
            "trial.model.frames={choice: [4, 8]}",
            "trial.model.frames.choice[1]=16",
            "resources.cpus=2",
            "output=elsewhere",
            "trial.train.lr=1e-2",
        ],
    )

    assert spec.trial["model"]["frames"] == {"choice": [4, 16]}
    assert spec.resources.cpus == 2
    assert spec.output_dir() == Path("elsewhere")
    assert spec.trial["train"]["lr"] == 0.01


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("nonsense", "must be a path, =, and a value, such as search.budget.trials=8 or a.choice[0]=4"),
        ("a..b=1", "must be a path, =, and a value, such as search.budget.trials=8 or a.choice[0]=4"),
        (
            "trial.model.frames.x=1",
            "there is no key x: trial.model.frames is no mapping; set trial.model.frames itself",
        ),
        ("trial.model[0]=1", "there is no element 0: trial.model is no list"),
        ("name=[1", "line 1: is not YAML: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_an_override_of_a_path_that_does_not_exist_is_refused(problems: Problems, change: str, line: str) -> None:
    assert problems(change) == [f"--set {change}: {line}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: b: c", "line 1: is not YAML: mapping values are not allowed here"),
        ("a: 1\n\tb: 2", "line 2: is not YAML: found character '\\t' that cannot start any token"),
        ("", "must be a mapping, lines such as `name: value`"),
        ("- 1", "must be a mapping, lines such as `name: value`"),
        (MINIMAL + "name: again\n", "line 8: the key name is given twice; keep one of them"),
        ("a: {b: 1,\n b: 2}", "line 2: the key b is given twice; keep one of them"),
        ("1: 2", "line 1: a key must be a word; put it in quotes if it is meant"),
        ("a: 1e999", "line 1: a number is too large"),
        ("a: &x [*x]", "line 1: found unconstructable recursive node"),
        ("[" * 2_000, "is nested too deeply"),
    ],
)
def test_a_file_that_is_not_a_plain_yaml_mapping_is_refused_with_the_line(
    problems: Problems, text: str, line: str
) -> None:
    assert problems(text=text) == [f"spec.yaml: {line}"]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml: no such file or directory; name a file that can be read$"):
        load(tmp_path / "none.yaml")


def test_scalars_are_read_as_in_yaml_1_2() -> None:
    tree = parse_yaml("{a: 1e-4, b: no, c: 010, d: 1:30, e: 2024-01-01, f: ~, g: true, h: 0x10, i: .5, j: .inf, k: -3}")

    assert tree == {
        "a": 0.0001, "b": "no", "c": 10, "d": "1:30", "e": "2024-01-01", "f": None, "g": True, "h": 16, "i": 0.5,
        "j": ".inf", "k": -3,
    }  # fmt: skip
    assert type(tree["a"]) is float
    assert type(tree["c"]) is int


@given(number=st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_python_writes_them(number: float) -> None:
    assert parse_yaml(repr(number)) == number


ATTENTION = "trial.model.attention="


@pytest.mark.parametrize(
    ("change", "line"),
    [
        # keys
        ("resources.cpu=1", "resources.cpu: unknown key; did you mean cpus?"),
        ("trial.modle=1", "trial.modle: unknown key; known here: data, model, train"),
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
        # not built yet
        ("objectives={top1: max, latency_ms: min}", "objectives.latency_ms: not available yet; leave it out"),
        ("constraints={latency_ms: {max: 3}}", "constraints.latency_ms: not available yet; leave it out"),
        (
            "search.budget.gpu_hours=3",
            "search.budget.gpu_hours: is never spent, as trials have no GPU; set resources.gpus, or give hours instead "
            "(got 3)",
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


def test_a_problem_that_only_a_combination_has_is_reported(problems: Problems) -> None:
    # Each value is valid with the first value of the other range: bottlenecks have a position c, basic blocks have b.
    lines = problems(
        "trial.model.backbone.depth={choice: [50, 18]}", ATTENTION + "[{kind: tam, position: {choice: [b, c]}}]"
    )

    (line,) = lines
    where = "trial.model.attention[0].position.choice[1]"
    assert line.startswith(f"spec.yaml: {where}: a block of this resnet offers block, a, b, d")


def test_many_problems_are_cut_short(problems: Problems) -> None:
    lines = problems("trial={" + ", ".join(f"k{i}: 1" for i in range(30)) + "}")

    assert len(lines) == 21
    assert lines[-1] == "spec.yaml: and 13 more problems"  # 30 unknown keys; data, model and train are missing


def test_limits_are_inclusive_and_a_broken_one_is_named(spec_file: Path) -> None:
    spec = load(spec_file, ["constraints={gflops: {max: 1}, params_m: {min: 2}}"])

    assert spec.broken_limits({"gflops": 1.0, "params_m": 2.0}) == []
    assert spec.broken_limits({"gflops": 1.25, "params_m": 1.0}) == ["gflops 1.25 is above 1", "params_m 1 is below 2"]


def test_a_complete_config_is_read_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    path.write_text(
        "data: {kind: motion}\nmodel: {frames: 4, size: 48, backbone: {kind: resnet, depth: 10}}\n"
        "train: {epochs: 2, batch: 4, lr: 0.1}\n"
    )

    config = load_config(path, ["train.epochs=5"])

    assert isinstance(config, TrialConfig)
    assert config.train.epochs == 5
    with pytest.raises(SpecError, match=r"best\.yaml: train\.epochs: must be at least 1; try 1 \(got 0\)$"):
        load_config(path, ["train.epochs=0"])


def test_a_spec_in_place_of_a_config_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("schema: 1\nname: a\ntrial: {}\nsearch: {}\n")

    with pytest.raises(ValueError, match=r"spec\.yaml: must be one config, and is the spec of a search; run that"):
        load_config(path)


def test_reading_a_spec_imports_no_ray_optuna_or_mlflow() -> None:
    code = "import sys, search.spec.check; print(sorted({'ray', 'optuna', 'mlflow'} & sys.modules.keys()))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_frontier_kinds_take_one_measured_objective(problems: Problems) -> None:
    two = "objectives={top1: max, loss: min, gflops: min}"

    assert problems(two, "search.sampler.kind=frontier", "search.scheduler={kind: frontier}") == [
        "spec.yaml: objectives: search.sampler and search.scheduler of kind frontier forecast one that training "
        "measures; keep one of top1, loss"
    ]
