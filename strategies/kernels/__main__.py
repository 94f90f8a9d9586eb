"""``python -m strategies.kernels [PACKAGE ...]``: compile every indicator and kernel of a strategy that is not in the
cache yet, and those of the packages that are named.

Once, instead of in each process that needs them at the same time.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

from strategies.kernel_cache import cache_of

OURS = ("strategies.indicators", "strategies.kernels")

packages = [import_module(name) for name in (*OURS, *sys.argv[1:])]
# Kernels are compiled when their module is imported.
for package in packages:
    for module in walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
for package in packages:
    cache_of(Path(str(package.__file__)).resolve().parent).note_filled()
