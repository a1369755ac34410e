"""Versions of what a result depends on."""

import platform
from importlib.metadata import version

#: the packages whose versions are recorded
PACKAGES = ("vattn-search", "torch", "ray", "optuna", "mlflow", "pyarrow", "av", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the main packages."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}
