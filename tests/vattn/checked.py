"""The type checker that jaxtyping applies to every function of vattn during tests (tests/conftest.py)."""

from collections.abc import Callable

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep673Exception


def checked(function: Callable) -> Callable:
    """Check arguments and results. Methods that return Self are skipped: beartype supports Self only in own classes."""
    try:
        return beartype(function)
    except BeartypeDecorHintPep673Exception:
        return function
