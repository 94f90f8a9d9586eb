"""How the kernels of compiled backtests are made: as those of strategies, but without counting who holds an array. They
make none, Python holds all that they are given, and counting took a third of their time."""

from __future__ import annotations

from pathlib import Path

from marketdata.engine.compiled import Kernels
from strategies.kernel_cache import cache_of

_KERNELS = Kernels(cache_of(Path(__file__).resolve().parent).made_folder(), _nrt=False)
kernel, inner = _KERNELS.compiled, _KERNELS.kernel
