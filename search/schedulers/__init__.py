"""Schedulers stop trials early; one file per kind, and importing this package registers all of them."""

import importlib
import pkgutil

from search.schedulers.base import Scheduler, SchedulerConfig

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

__all__ = ["Scheduler", "SchedulerConfig"]
