"""Samplers propose configs; one file per kind, and importing this package registers all of them."""

import importlib
import pkgutil

from search.samplers.base import SamplerConfig, SearchContext

for _file in pkgutil.iter_modules(__path__):
    if not _file.ispkg:
        importlib.import_module(f"{__name__}.{_file.name}")

__all__ = ["SamplerConfig", "SearchContext"]
