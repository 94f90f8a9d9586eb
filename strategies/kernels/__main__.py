"""``python -m strategies.kernels [PACKAGE ...]``: compile every indicator and kernel of a strategy that is not in the
cache yet, and those of the packages that are named.

Once, instead of in each process that needs them at the same time.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import walk_packages

from strategies.kernel_cache import STRATEGIES

OURS = ("strategies.indicators", "strategies.kernels")

# Kernels are compiled when their module is imported.
for name in (*OURS, *sys.argv[1:]):
    package = import_module(name)
    for module in walk_packages(getattr(package, "__path__", ()), f"{name}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
STRATEGIES.note_filled()
