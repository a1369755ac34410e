"""Layouts of data sets, one file each; importing this package registers all of them."""

import importlib
import pkgutil

from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._rows import Row

for _file in pkgutil.iter_modules(__path__):
    if not _file.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_file.name}")

__all__ = ["LayoutConfig", "OneSplit", "Row"]
