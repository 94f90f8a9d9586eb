"""A kernel of one step that is written in a strategy's own file: compiled in each process anew, when asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from strategies.candle_strategy import ROW, CandleKernel
from strategies.kernels.signal_row import DECIDE, RUN


def kernel_of(step: Callable[..., bool], state_size: Callable[[NDArray[np.float64]], int]) -> CandleKernel:
    """``step(state, numbers, start_ms, open, high, low, close, volume, row) -> bool`` decides on one closed bar; see
    :class:`strategies.candle_strategy.CandleKernel`. It may call every indicator's update and helper of
    ``strategies.kernels.signal_row``. What is not compiled yet, ``run``, is when somebody first calls it."""
    decide: Any = numba.njit(DECIDE, nogil=True, error_model="numpy")(step)

    @cache
    def compiled_run() -> Any:
        # Not kept on disk: numba tells two closures apart by what they hold, and a kernel is another one each time.
        def over_arrays(state, numbers, start_ms, open_, high, low, close, volume, at, rows):
            row, found = np.zeros(ROW), 0
            for bar in range(len(close)):
                if decide(state, numbers, start_ms[bar], open_[bar], high[bar], low[bar], close[bar], volume[bar], row):
                    at[found] = bar
                    rows[found] = row
                    found += 1
            return found

        return numba.njit(RUN, nogil=True, error_model="numpy")(over_arrays)

    def run(*arguments: Any) -> int:
        return int(compiled_run()(*arguments))

    return CandleKernel(decide, run, state_size)
