"""Backbones, one file per family. Importing this package registers all of them."""

import importlib
import pkgutil

from vattn.backbones._base import Backbone, BackboneConfig, Part

for _file in pkgutil.iter_modules(__path__):
    if not _file.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_file.name}")

__all__ = ["Backbone", "BackboneConfig", "Part"]
