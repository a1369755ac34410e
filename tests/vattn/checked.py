"""The type checker that jaxtyping puts on every function of vattn while tests run (tests/conftest.py)."""

from collections.abc import Callable

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep673Exception


def checked(function: Callable) -> Callable:
    """Check arguments and results; all but methods that return Self, which beartype knows in its own classes only."""
    try:
        return beartype(function)
    except BeartypeDecorHintPep673Exception:
        return function
