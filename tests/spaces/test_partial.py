"""Configs that are named by some of their values."""

from typing import Any

import pytest

from spaces.partial import complete
from spaces.space import Space, SpaceError
from tests.spaces.support import MODEL

SPACE = Space(MODEL)


def tree(**partial: Any) -> Any:
    return SPACE.replay(complete(SPACE, partial))["model"]


def test_what_is_not_named_is_as_in_the_baseline() -> None:
    assert complete(SPACE, {}) == SPACE.plain()[0]
    assert tree(**{"model.frames": 8}) == {"frames": 8, "size": 48, "attention": []}


def test_a_value_of_an_option_selects_the_option() -> None:
    (tam,) = tree(**{"model.attention/tam/alpha": 4, "model.attention/tam/stages": [5, 3]})["attention"]

    assert tam == {"kind": "tam", "alpha": 4, "beta": 2, "kernel_size": 3, "stages": [3, 5], "every": 1}


def test_options_are_named_by_their_label_and_names_may_be_nested() -> None:
    assert tree(model={"attention": "tsm", "frames": 8}) == {
        "frames": 8, "size": 48, "attention": [{"kind": "tsm", "stages": [2, 3, 4, 5]}],
    }  # fmt: skip
    assert tree(model={"attention": []}) == tree(model={"attention": "none"}) == tree()


def test_a_value_of_an_item_selects_the_item() -> None:
    items = [{"kind": "a", "size": {"int": [1, 3]}}, {"kind": "b", "size": {"int": [1, 3]}}, {"kind": "c"}]
    space = Space({"x": {"subset": items, "min": 2, "max": 2}})

    params = complete(space, {"x/b/size": 3})

    assert space.replay(params)["x"] == [{"kind": "a", "size": 2}, {"kind": "b", "size": 3}]


@pytest.mark.parametrize(
    ("partial", "line"),
    [
        ({"model.frame": 8}, "s.model.frame: is no range of the space; did you mean model.frames?"),
        ({"frames": 8}, "s.frames: is no range of the space; did you mean model.frames?"),
        ({"model.frames": 6}, "s.model.frames: is no value of this range; take one of 4, 8 (got 6)"),
        ({"model.attention": [{"kind": "tam"}]},
         's.model.attention: is no value of this range; take one of none, tsm, tam (got [{"kind": "tam"}])'),
        ({"model.attention/tsm/stages": []},
         "s.model.attention/tsm/stages: must be a list of 1 to 4 of 2, 3, 4, 5 (got [])"),
        ({"model.attention": "tsm", "model.attention/tam/alpha": 2},
         "s.model.attention/tam/alpha: is not part of this config: another value excludes it; leave one of them out"),
    ],
)  # fmt: skip
def test_a_config_outside_of_the_space_is_refused(partial: dict[str, Any], line: str) -> None:
    with pytest.raises(SpaceError) as error:
        complete(SPACE, partial, ("s",))

    assert str(error.value) == line
