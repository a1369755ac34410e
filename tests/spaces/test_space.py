import json
import random
import re
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.space import Choice, Float, Int, Space, SpaceError, Subset

ATTENTION = {
    "choice": [
        [],
        [{"kind": "tsm", "stages": {"subset": [2, 3, 4, 5]}}],
        [
            {
                "kind": "tam", "alpha": {"choice": [1, 2, 4]}, "beta": {"choice": [2, 4, 8]},
                "kernel_size": {"choice": [3, 5]}, "stages": {"subset": [2, 3, 4, 5]}, "every": 1,
            }
        ],
    ]
}  # fmt: skip
MODEL = {"model": {"frames": {"choice": [4, 8]}, "size": 48, "attention": ATTENTION}}

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["a", "b", "a/b", "tam", "0.5"])
ends = st.tuples(st.integers(-3, 3), st.integers(0, 3)).map(lambda pair: [pair[0], pair[0] + pair[1]])


def _distinct(options: list[Any]) -> list[Any]:
    return list({json.dumps(option, sort_keys=True): option for option in options}.values())


def _ranges(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3).map(_distinct)
    return st.one_of(
        several.map(lambda options: {"choice": options}),
        ends.map(lambda pair: {"int": pair}),
        ends.map(lambda pair: {"float": pair, "step": 0.5}),
        several.map(lambda items: {"subset": items, "min": 0}),
        st.tuples(st.just({"int": [0, 2]}) | st.integers(0, 2), inner).map(
            lambda pair: {"repeat": {"times": pair[0], "of": pair[1]}}
        ),
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["kind", "alpha", "x-1", "times", "0"]), inner, max_size=2),
    )


trees = st.recursive(scalars, _ranges, max_leaves=6)


@given(tree=trees, seed=st.integers(0, 99))
@settings(max_examples=200)
def test_what_was_sampled_is_replayed_exactly_also_from_json(tree: Any, seed: int) -> None:
    space = Space(tree)

    params, resolved = space.sample(random.Random(seed))

    assert space.replay(json.loads(json.dumps(params))) == resolved
    assert not re.search(r'"(choice|int|float|subset|repeat)":', json.dumps(resolved))
    assert params.keys() <= space.domains.keys()


@given(tree=trees, seed=st.integers(0, 99))
@settings(max_examples=200)
def test_what_was_sampled_is_recovered_from_the_tree_alone(tree: Any, seed: int) -> None:
    space = Space(tree)
    _, resolved = space.sample(random.Random(seed))
    resolved = json.loads(json.dumps(resolved))

    found = [space.replay(params) for params in islice(space.recover(resolved), 2_000)]

    assert resolved in found or len(found) == 2_000


def test_a_complete_config_is_recovered_from_the_values_at_the_places_of_ranges() -> None:
    space = Space(MODEL)
    tam = {"kind": "tam", "alpha": 4, "beta": 2, "kernel_size": 5, "stages": [2, 5], "every": 1, "position": "b"}
    tree = {"model": {"frames": 8, "size": 112, "attention": [tam]}, "train": {"epochs": 1}}

    assert list(space.recover(tree)) == [
        {
            "model.frames": 1, "model.attention": 2, "model.attention/tam/alpha": 2, "model.attention/tam/beta": 0,
            "model.attention/tam/kernel_size": 1, "model.attention/tam/stages": (0, 3),
        }
    ]  # fmt: skip
    # A value that no range has, a mechanism that differs in what is fixed, a key that is missing, another order.
    model = tree["model"]
    assert list(space.recover({"model": model | {"frames": 16}})) == []
    assert list(space.recover({"model": model | {"attention": [tam | {"every": 2}]}})) == []
    assert list(space.recover({"model": {"frames": 8}})) == []
    assert list(space.recover({"model": model | {"attention": [tam | {"stages": [5, 2]}]}})) == []


@given(tree=trees)
@settings(max_examples=200)
def test_a_finite_space_enumerates_exactly_its_size_each_combination_once(tree: Any) -> None:
    space = Space(tree)
    size = space.size()
    assert size is not None
    if size > 2_000:
        return

    every = [json.dumps(params, sort_keys=True) for params, _ in space.enumerate()]

    assert len(every) == len(set(every)) == size
    sample = json.dumps(space.sample(random.Random(0))[0], sort_keys=True)
    assert sample in every


@given(tree=trees)
@settings(max_examples=200)
def test_names_are_those_that_mlflow_takes_and_corners_visit_all_of_them(tree: Any) -> None:
    space = Space(tree)

    visited = set().union(*(params.keys() for params, _ in space.one_at_a_time()))

    assert all(re.fullmatch(r"[A-Za-z0-9_.\- /]+", name) for name in space.domains)
    # What no choice can make active is never asked for: the elements of a repeat that takes place no times.
    if "repeat" not in json.dumps(tree):
        assert visited == space.domains.keys()


def test_names_and_domains_read_as_the_config_does() -> None:
    assert Space(MODEL).domains == {
        "model.frames": Choice(("4", "8")),
        "model.attention": Choice(("none", "tsm", "tam")),
        "model.attention/tsm/stages": Subset(("2", "3", "4", "5"), 1, 4),
        "model.attention/tam/alpha": Choice(("1", "2", "4")),
        "model.attention/tam/beta": Choice(("2", "4", "8")),
        "model.attention/tam/kernel_size": Choice(("3", "5")),
        "model.attention/tam/stages": Subset(("2", "3", "4", "5"), 1, 4),
    }


def test_names_do_not_depend_on_the_order_of_other_keys() -> None:
    turned = {"model": dict(reversed(MODEL["model"].items()))}

    assert Space(turned).domains == Space(MODEL).domains


def test_options_of_one_kind_and_lists_of_several_have_labels_of_their_own() -> None:
    tam, tsm = {"kind": "tam", "alpha": {"choice": [1, 2]}}, {"kind": "tsm", "div": {"int": [4, 8]}}
    space = Space({"a": {"choice": [[tam], [tam, tsm], [{"kind": "tam"}], "none", [], [1, 2], True]}})

    assert space.domains == {
        "a": Choice(("tam", "tam+tsm", "tam-2", "none", "none-2", "5", "true")),
        "a/tam/alpha": Choice(("1", "2")),
        "a/tam-tsm/tam.alpha": Choice(("1", "2")),
        "a/tam-tsm/tsm.div": Int(4, 8),
    }


def test_size_is_the_count_by_hand() -> None:
    # frames 2; attention: nothing 1, tsm 2^4 - 1 sets of stages, tam 3 * 3 * 2 * 15.
    assert Space(MODEL).size() == 2 * (1 + 15 + 270) == 572
    # Of three items with 1, 2 and 3 variants, those of one or two: 1 + 2 + 3, and 1*2 + 1*3 + 2*3.
    items = [{"int": [0, n]} for n in range(3)]
    assert Space({"subset": items, "max": 2}).size() == 6 + 11
    # Lists of 0, 1, 2 or 3 elements of 3 values each.
    assert Space({"repeat": {"times": {"int": [0, 3]}, "of": {"choice": [1, 2, 4]}}}).size() == 1 + 3 + 9 + 27
    assert Space({"a": {"int": [2, 8], "step": 3}, "b": {"float": [0.1, 0.3], "step": 0.1}}).size() == 3 * 3
    assert Space({"a": {"choice": [0, {"float": [0, 1]}]}}).size() is None


def test_a_range_is_asked_for_only_where_a_choice_makes_it_active() -> None:
    asked: list[str] = []

    def first(name: str, domain: Any) -> Any:
        asked.append(name)
        return next(domain.values())

    tree = Space(MODEL).resolve(first)

    assert asked == ["model.frames", "model.attention"]
    assert tree == {"model": {"frames": 4, "size": 48, "attention": []}}


def test_each_element_of_a_repeat_is_chosen_for_itself() -> None:
    space = Space({"dilations": {"repeat": {"times": {"int": [1, 3]}, "of": {"choice": [1, 2, 4]}}}})

    tree = space.replay({"dilations.times": 2, "dilations.0": 2, "dilations.1": 0})

    assert tree == {"dilations": [4, 1]}


def test_corners_take_every_value_of_every_range() -> None:
    seen: dict[str, set[Any]] = {}
    for params, _ in Space(MODEL).one_at_a_time():
        for name, value in params.items():
            seen.setdefault(name, set()).add(value)

    assert seen["model.frames"] == {0, 1}
    assert seen["model.attention/tam/kernel_size"] == {0, 1}
    assert len(seen["model.attention/tam/stages"]) == 15


def test_corners_of_long_ranges_are_both_ends_and_their_neighbours() -> None:
    assert list(Int(0, 10_000, step=2).probes()) == [0, 2, 9_998, 10_000]
    assert list(Float(0.5, 2.0).probes()) == [0.5, 2.0]
    assert list(Float(0.0, 2_000.0, step=1.0).probes()) == [0, 1, 1_999, 2_000]
    many = Subset(tuple(map(str, range(12))), 1, 12)
    assert list(many.probes()) == [*((i,) for i in range(12)), tuple(range(12))]


def test_steps_of_a_float_are_the_decimals_that_a_user_writes() -> None:
    domain = Float(0.1, 0.7, step=0.2)

    assert list(domain.values()) == [0.1, 0.3, 0.5, 0.7]
    assert domain.member(0.1 + 0.2) == 0.3  # binary: 0.30000000000000004


@given(lo=st.integers(1, 50), width=st.integers(0, 50), seed=st.integers(0, 99))
@settings(max_examples=100)
def test_samples_of_numbers_stay_inside(lo: int, width: int, seed: int) -> None:
    rng = random.Random(seed)
    for domain in (Int(lo, lo + width, log=True), Float(lo, lo + width, log=True), Float(lo, lo + width)):
        assert domain.member(domain.sample(rng)) in (
            range(lo, lo + width + 1) if isinstance(domain, Int) else [pytest.approx(lo, abs=width)]
        )


def test_a_log_range_gives_each_decade_the_same_chance() -> None:
    rng, domain = random.Random(0), Float(0.001, 1.0, log=True)

    low = sum(domain.sample(rng) < 0.01 for _ in range(3_000))

    assert low == pytest.approx(1_000, abs=4 * (3_000 * 2 / 9) ** 0.5)  # four standard errors of a third


def test_the_plain_value_is_the_first_option_the_middle_of_numbers_and_the_largest_subset() -> None:
    assert Choice(("none", "tsm", "tam")).plain() == 0
    assert (Int(1, 9).plain(), Int(2, 6, step=2).plain(), Int(1, 100, log=True).plain()) == (5, 4, 10)
    assert (Float(0.0, 1.0).plain(), Float(0.1, 0.3, step=0.1).plain()) == (0.5, 0.2)
    assert Float(0.01, 1.0, log=True).plain() == pytest.approx(0.1)
    assert Subset(("2", "3", "4", "5"), min=1, max=3).plain() == (0, 1, 2)


def test_a_value_that_is_not_in_its_domain_is_refused_by_name() -> None:
    space = Space(MODEL)

    with pytest.raises(ValueError, match=r"^model\.frames: must be the index of one of 4, 8 \(got 2\)$"):
        space.replay({"model.frames": 2})
    with pytest.raises(ValueError, match=r"^model\.attention: has no recorded value"):
        space.replay({"model.frames": 0})


def test_a_resolved_value_is_found_where_the_file_has_it() -> None:
    space = Space(MODEL)
    params = {"model.attention": 2, "model.attention/tam/kernel_size": 1, "model.attention/tam/stages": (1, 3)}

    def located(*path: str | int) -> str:
        return ".".join(map(str, space.locate(path, params)))

    assert located("model", "attention", 0, "kernel_size") == "model.attention.choice.2.0.kernel_size.choice.1"
    assert located("model", "attention", 0, "stages", 1) == "model.attention.choice.2.0.stages.subset.3"
    assert located("model", "attention", 0, "every") == "model.attention.choice.2.0.every"
    assert located("model", "missing") == "model.missing"


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"choice": []}, "a.choice: has no options; list at least one (got [])"),
        ({"choice": 3}, "a.choice: must be a list of options, such as [a, b] (got 3)"),
        ({"choice": [4, 8, 4]}, "a.choice: lists an option twice; list each once (got 4)"),
        ({"choice": [4], "log": True}, "a.log: is unknown beside choice, which takes nothing; remove it (got true)"),
        ({"choice": [4], "int": [1, 2]}, "a: holds 2 ranges, choice and int; keep one of them"),
        ({"int": [3, 1]}, "a.int: is upside down; write [1, 3] (got [3, 1])"),
        ({"int": [1, 2.5]}, "a.int: must be two whole numbers, [lowest, highest] (got [1, 2.5])"),
        ({"int": [True, 2]}, "a.int: must be two whole numbers, [lowest, highest] (got [true, 2])"),
        ({"float": [1]}, "a.float: must be two numbers, [lowest, highest] (got [1])"),
        (
            {"float": [0, 1], "log": True},
            "a.float: must begin above 0 on a log scale; raise the lowest, or remove log (got [0, 1])",
        ),
        ({"float": [0, 1], "log": 1}, "a.log: must be true or false (got 1)"),
        ({"int": [1, 9], "log": True, "step": 2}, "a: has both log and step; keep one of them"),
        ({"int": [1, 9], "step": 0}, "a.step: must be a whole number above 0 (got 0)"),
        (
            {"int": [1, 9], "step": 3},
            "a.step: does not lead from 1 to 9; end the range at 7, or choose another step (got 3)",
        ),
        ({"float": [0, 1], "step": -0.5}, "a.step: must be a number above 0 (got -0.5)"),
        ({"float": [0, 1], "by": 2}, "a.by: is unknown beside float, which takes log and step; remove it (got 2)"),
        ({"subset": []}, "a.subset: is a subset of nothing; list at least one item (got [])"),
        ({"subset": [2, 3, 2]}, "a.subset: lists an item twice; list each once (got 2)"),
        ({"subset": [2, 3], "min": 3}, "a.min: must be a whole number from 0 to 2, the number of items (got 3)"),
        (
            {"subset": [2, 3], "max": "most"},
            'a.max: must be all, or a whole number from 0 to 2, the number of items (got "most")',
        ),
        ({"subset": [2, 3], "min": 2, "max": 1}, "a: has min 2 above max 1; lower min or raise max"),
        (
            {"repeat": {"times": 2}},
            'a.repeat: must be {times: ..., of: ...}: how often, and a value or range (got {"times": 2})',
        ),
        (
            {"repeat": {"times": {"float": [1, 2]}, "of": 1}},
            "a.repeat.times: must be a whole number from 0 to 1000, or an int range or choice of such "
            '(got {"float": [1, 2]})',
        ),
        (
            {"repeat": {"times": 3, "of": {"choice": []}}},
            "a.repeat.of.choice: has no options; list at least one (got [])",
        ),
        ({"b/c": 1}, 'a: a key is made of letters, digits, _ and -; rename it (got "b/c")'),
    ],
)
def test_a_malformed_range_is_one_line_with_path_rule_and_way_out(tree: Any, line: str) -> None:
    with pytest.raises(SpaceError) as error:
        Space({"a": tree})

    assert str(error.value) == line


def test_all_malformed_ranges_are_told_at_once() -> None:
    with pytest.raises(SpaceError) as error:
        Space({"a": {"choice": []}, "b": [{"choice": [1, {"int": [2, 1]}]}]})

    assert [problem.path for problem in error.value.problems] == [("a", "choice"), ("b", 0, "choice", 1, "int")]
