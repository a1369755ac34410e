"""The compiler: names and labels of ranges, and one message for each malformed range."""

import pickle
from typing import Any

import pytest

from spaces.compiler import labels, texts
from spaces.domain import Choice, Int, Subset
from spaces.problem import SpaceError
from spaces.space import Space
from tests.spaces.support import MODEL
from vattn.errors import UserError


def test_names_and_domains_follow_the_keys_of_the_config() -> None:
    assert Space(MODEL).domains == {
        "model.frames": Choice(("4", "8")),
        "model.attention": Choice(("none", "tsm", "tam")),
        "model.attention/tsm/stages": Subset(("2", "3", "4", "5"), 1, 4),
        "model.attention/tam/alpha": Choice(("1", "2", "4")),
        "model.attention/tam/beta": Choice(("2", "4", "8")),
        "model.attention/tam/kernel_size": Choice(("3", "5")),
        "model.attention/tam/stages": Subset(("2", "3", "4", "5"), 1, 4),
    }


def test_names_do_not_depend_on_the_order_of_keys() -> None:
    reordered = {"model": dict(reversed(MODEL["model"].items()))}

    assert Space(reordered).domains == Space(MODEL).domains


def test_options_without_a_label_of_their_own_are_shown_by_their_values() -> None:
    def shown(options: list[Any]) -> tuple[str, ...]:
        return texts(options, labels(options))

    distilled = {"loss": "mars", "weight": 50}
    assert shown([[2], [3, 4], []]) == ("2", "3,4", "none")
    assert shown(["none", distilled]) == ("none", "loss mars weight 50")
    assert shown([[{"kind": "tam", "alpha": 1}], [{"kind": "tam", "alpha": 2}]]) == ("tam", "tam-2")
    assert shown([[[1, 2], [3]], list(range(50))]) == ("[1, 2],[3]", "1")  # the second is too long
    assert shown([["a,b"], ["a", "b"]]) == ("0", "1")  # they would look the same


def test_labels_of_options_with_the_same_kinds_are_distinct() -> None:
    tam, tsm = {"kind": "tam", "alpha": {"choice": [1, 2]}}, {"kind": "tsm", "div": {"int": [4, 8]}}
    space = Space({"a": {"choice": [[tam], [tam, tsm], [{"kind": "tam"}], "none", [], [1, 2], True]}})

    assert space.domains == {
        "a": Choice(("tam", "tam+tsm", "tam-2", "none", "none-2", "5", "true")),
        "a/tam/alpha": Choice(("1", "2")),
        "a/tam-tsm/tam.alpha": Choice(("1", "2")),
        "a/tam-tsm/tsm.div": Int(4, 8),
    }


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


def test_all_malformed_ranges_are_reported_at_once() -> None:
    with pytest.raises(SpaceError) as error:
        Space({"a": {"choice": []}, "b": [{"choice": [1, {"int": [2, 1]}]}]})

    assert [problem.path for problem in error.value.problems] == [("a", "choice"), ("b", 0, "choice", 1, "int")]


def test_a_space_error_is_a_user_error_and_survives_pickling() -> None:
    with pytest.raises(SpaceError) as error:
        Space({"a": {"choice": []}, "b": {"int": [2, 1]}})

    copy = pickle.loads(pickle.dumps(error.value))

    assert isinstance(copy, SpaceError)
    assert isinstance(copy, UserError)
    assert copy.problems == error.value.problems
    assert (
        str(copy)
        == str(error.value)
        == ("a.choice: has no options; list at least one (got [])\nb.int: is upside down; write [1, 2] (got [2, 1])")
    )
