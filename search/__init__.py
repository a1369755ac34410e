"""Chooses among models, and reports what it found. Ray Tune, Optuna and MLflow live here.

`Search` is what a notebook or a script uses: ``from search import Search``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.api import Search

__all__ = ["Search"]


def __getattr__(name: str) -> Any:
    """Import `Search` when it is asked for: the command line must not wait for what it imports."""
    if name == "Search":
        from search.api import Search

        return Search
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
