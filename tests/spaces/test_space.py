"""Spaces: counts are worked out by hand, and properties hold for random trees."""

import json
import random
import re
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.space import Space
from tests.spaces.support import MODEL
from vattn.errors import UserError

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
def test_sampled_params_replay_to_the_same_tree_also_from_json(tree: Any, seed: int) -> None:
    space = Space(tree)

    params, resolved = space.sample(random.Random(seed))

    assert space.replay(json.loads(json.dumps(params))) == resolved
    assert not re.search(r'"(choice|int|float|subset|repeat)":', json.dumps(resolved))
    assert params.keys() <= space.domains.keys()


@given(tree=trees, seed=st.integers(0, 99))
@settings(max_examples=200)
def test_sampled_params_are_recovered_from_the_tree(tree: Any, seed: int) -> None:
    space = Space(tree)
    _, resolved = space.sample(random.Random(seed))
    resolved = json.loads(json.dumps(resolved))

    recovered = [space.replay(params) for params in islice(space.recover(resolved), 2_000)]

    assert resolved in recovered or len(recovered) == 2_000


def test_params_are_recovered_from_the_values_of_a_complete_config() -> None:
    space = Space(MODEL)
    tam = {"kind": "tam", "alpha": 4, "beta": 2, "kernel_size": 5, "stages": [2, 5], "every": 1, "position": "b"}
    tree = {"model": {"frames": 8, "size": 112, "attention": [tam]}, "train": {"epochs": 1}}

    assert list(space.recover(tree)) == [
        {
            "model.frames": 1, "model.attention": 2, "model.attention/tam/alpha": 2, "model.attention/tam/beta": 0,
            "model.attention/tam/kernel_size": 1, "model.attention/tam/stages": (0, 3),
        }
    ]  # fmt: skip
    # A value outside of its range, a mechanism with another fixed value, a missing key, a subset in another order.
    model = tree["model"]
    assert list(space.recover({"model": model | {"frames": 16}})) == []
    assert list(space.recover({"model": model | {"attention": [tam | {"every": 2}]}})) == []
    assert list(space.recover({"model": {"frames": 8}})) == []
    assert list(space.recover({"model": model | {"attention": [tam | {"stages": [5, 2]}]}})) == []


@given(tree=trees)
@settings(max_examples=200)
def test_enumeration_yields_each_combination_once_and_size_counts_them(tree: Any) -> None:
    space = Space(tree)
    size = space.size()
    assert size is not None
    if size > 2_000:
        return

    combinations = [json.dumps(params, sort_keys=True) for params, _ in space.enumerate()]

    assert len(combinations) == len(set(combinations)) == size
    sample = json.dumps(space.sample(random.Random(0))[0], sort_keys=True)
    assert sample in combinations


@given(tree=trees)
@settings(max_examples=200)
def test_names_are_valid_in_mlflow_and_the_one_at_a_time_design_visits_all(tree: Any) -> None:
    space = Space(tree)

    visited = set().union(*(params.keys() for params, _ in space.one_at_a_time()))

    assert all(re.fullmatch(r"[A-Za-z0-9_.\- /]+", name) for name in space.domains)
    # The elements of a repeat of length 0 are named but never active.
    if "repeat" not in json.dumps(tree):
        assert visited == space.domains.keys()


def test_size_is_the_number_counted_by_hand() -> None:
    # frames 2; attention: none 1, tsm 2^4 - 1 sets of stages, tam 3 * 3 * 2 * 15.
    assert Space(MODEL).size() == 2 * (1 + 15 + 270) == 572
    # Subsets of one or two of three items that have 1, 2 and 3 values: 1 + 2 + 3, and 1*2 + 1*3 + 2*3.
    items = [{"int": [0, n]} for n in range(3)]
    assert Space({"subset": items, "max": 2}).size() == 6 + 11
    # Lists of 0, 1, 2 or 3 elements of 3 values each.
    assert Space({"repeat": {"times": {"int": [0, 3]}, "of": {"choice": [1, 2, 4]}}}).size() == 1 + 3 + 9 + 27
    assert Space({"a": {"int": [2, 8], "step": 3}, "b": {"float": [0.1, 0.3], "step": 0.1}}).size() == 3 * 3
    assert Space({"a": {"choice": [0, {"float": [0, 1]}]}}).size() is None


def test_resolve_only_chooses_values_of_active_ranges() -> None:
    names: list[str] = []

    def choose_first(name: str, domain: Any) -> Any:
        names.append(name)
        return next(domain.values())

    tree = Space(MODEL).resolve(choose_first)

    assert names == ["model.frames", "model.attention"]
    assert tree == {"model": {"frames": 4, "size": 48, "attention": []}}


def test_each_element_of_a_repeat_has_a_value_of_its_own() -> None:
    space = Space({"dilations": {"repeat": {"times": {"int": [1, 3]}, "of": {"choice": [1, 2, 4]}}}})

    tree = space.replay({"dilations.times": 2, "dilations.0": 2, "dilations.1": 0})

    assert tree == {"dilations": [4, 1]}


def test_the_one_at_a_time_design_takes_every_value_of_every_range() -> None:
    seen: dict[str, set[Any]] = {}
    for params, _ in Space(MODEL).one_at_a_time():
        for name, value in params.items():
            seen.setdefault(name, set()).add(value)

    assert seen["model.frames"] == {0, 1}
    assert seen["model.attention/tam/kernel_size"] == {0, 1}
    assert len(seen["model.attention/tam/stages"]) == 15


def test_a_recorded_value_that_is_missing_or_not_in_its_domain_is_an_error_with_its_name() -> None:
    space = Space(MODEL)

    with pytest.raises(UserError, match=r"^model\.frames: must be the index of one of 4, 8 \(got 2\)$"):
        space.replay({"model.frames": 2})
    with pytest.raises(UserError, match=r"^model\.attention: has no recorded value; the space has changed since$"):
        space.replay({"model.frames": 0})
    assert not space.has({"model.frames": 0})
    assert space.has({"model.frames": 0, "model.attention": 0})


def test_a_chosen_value_that_is_not_in_its_domain_is_an_error_with_its_name() -> None:
    with pytest.raises(ValueError, match=r"^model\.frames: must be the index of one of 4, 8 \(got 2\)$") as error:
        Space(MODEL).resolve(lambda name, domain: 2)

    assert not isinstance(error.value, UserError)  # a bug of the caller


def test_a_resolved_value_is_located_in_the_tree_with_ranges() -> None:
    space = Space(MODEL)
    params = {"model.attention": 2, "model.attention/tam/kernel_size": 1, "model.attention/tam/stages": (1, 3)}

    def located(*path: str | int) -> str:
        return ".".join(map(str, space.locate(path, params)))

    assert located("model", "attention", 0, "kernel_size") == "model.attention.choice.2.0.kernel_size.choice.1"
    assert located("model", "attention", 0, "stages", 1) == "model.attention.choice.2.0.stages.subset.3"
    assert located("model", "attention", 0, "every") == "model.attention.choice.2.0.every"
    assert located("model", "missing") == "model.missing"
