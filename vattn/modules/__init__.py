"""Attention and motion mechanisms, one file each. Importing this package registers all of them."""

import importlib
import pkgutil

from vattn.modules._base import Layer, ModuleConfig, Pathway, Position, Site, choose, selects

for _file in pkgutil.iter_modules(__path__):
    if not _file.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_file.name}")

__all__ = ["Layer", "ModuleConfig", "Pathway", "Position", "Site", "choose", "selects"]
