"""Layouts of data sets, one file each; importing this package registers all of them."""

import importlib
import pkgutil

for _file in pkgutil.iter_modules(__path__):
    if not _file.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_file.name}")
