"""Where the machine code of indicators and of strategies' kernels is kept. Needs no compiler."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from marketdata.engine.kernel_cache import KernelCache

_HERE = Path(__file__).parent
_ROOT = _HERE.parent
_FOLDERS = (_HERE / "indicators", _HERE / "kernels")
_SOURCES = (
    *_FOLDERS,
    _HERE / "candle_strategy.py",
    _HERE / "signals.py",
    _HERE / "compiled.py",
    _HERE / "kernel_cache.py",
    _ROOT / "marketdata/candles/series.py",
    _ROOT / "marketdata/engine/compiled.py",
    _ROOT / "marketdata/engine/memory.py",
)
# Filled by ``python -m strategies.kernels``.
STRATEGIES = KernelCache(_ROOT, _SOURCES, _HERE / "__pycache__", "strategies")


@cache
def cache_of(folder: Path) -> KernelCache:
    """The cache of the kernels in a folder, ours or one that a user names in the settings: made anew when any file of
    it changes, or of the indicators, which are part of all kernels."""
    if any(folder.is_relative_to(ours) for ours in _FOLDERS):
        return STRATEGIES
    root = _ROOT if folder.is_relative_to(_ROOT) else Path("/")
    name = "-".join(folder.relative_to(root).parts)
    return KernelCache(Path("/"), (*_SOURCES, folder), folder / "__pycache__", name)
