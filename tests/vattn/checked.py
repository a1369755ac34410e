"""Checks of the shapes in signatures, which jaxtyping applies to vattn during tests (tests/conftest.py)."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jaxtyping
from beartype import beartype
from beartype.roar import BeartypeDecorHintPep673Exception

_jaxtyped: Any = jaxtyping.jaxtyped


def checked(function: Callable) -> Callable:
    """Check arguments and results. Methods that return Self are skipped: beartype supports Self only in own classes."""
    try:
        return beartype(function)
    except BeartypeDecorHintPep673Exception:
        return function


def jaxtyped_if_shaped(function: Any = None, *, typechecker: Any) -> Any:
    """Do as `jaxtyping.jaxtyped`, but leave alone what has no shapes in its signature.

    The check of a call takes 40 microseconds, which would be most of the time of counting a space, and pyright checks
    types without shapes.
    """
    if function is None:
        return partial(jaxtyped_if_shaped, typechecker=typechecker)
    inner = function.fget if isinstance(function, property) else inspect.unwrap(getattr(function, "__func__", function))
    shaped = any("jaxtyping." in repr(hint) for hint in getattr(inner, "__annotations__", {}).values())
    return _jaxtyped(function, typechecker=typechecker) if shaped else function
