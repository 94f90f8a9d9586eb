"""``python -m marketdata.engine``: compile every kernel of the engine that is not in its cache yet.

Half a minute once, instead of in each process that needs them at the same time.
"""

from __future__ import annotations

from importlib import import_module

from marketdata.engine.kernel_cache import ENGINE

# Kernels are compiled when their module is imported; these two import all others.
for module in ("marketdata.engine.book", "marketdata.engine.detectors.symbol"):
    import_module(module)
ENGINE.note_filled()
