"""A strategy as a user writes one: long while the fast mean of closes is above the slow one, short while it is below.
Stop and target are so far away that no price meets them: the libraries that it is compared with have none here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from marketdata.events import Candle
from strategies.base import ParameterSpec
from strategies.candle_strategy import INTERVALS, CandleKernel, CandleStrategy, Slot
from strategies.compiled import inner, kernel

Floats = NDArray[np.float64]
FAST, SLOW = 1, 2
BARS, SIDE, FAST_SUM, SLOW_SUM, CLOSES = range(5)
DIRECTION, STRENGTH, TAKE_PROFIT, STOP_LOSS = (int(slot) for slot in list(Slot)[:4])
STOP, TARGET = 0.6, 0.95


@inner
def _means(
    closes: Floats, slow: int, close: float, fast_sum: float, slow_sum: float, fast_place: int, slow_place: int
) -> tuple[float, float, int, int]:
    """Both sums and where their oldest closes are. Places that were not written yet hold 0: nothing is taken off."""
    fast_sum += close - closes[fast_place]
    slow_sum += close - closes[slow_place]
    closes[slow_place] = close
    fast_place = fast_place + 1 if fast_place + 1 < slow else 0
    slow_place = slow_place + 1 if slow_place + 1 < slow else 0
    return fast_sum, slow_sum, fast_place, slow_place


@inner
def _write(row: Floats, side: float, close: float) -> None:
    row[DIRECTION], row[STRENGTH] = side, 1.0
    row[TAKE_PROFIT], row[STOP_LOSS] = close * (1.0 + side * TARGET), close * (1.0 - side * STOP)


@kernel(
    "int64(float64[::1], float64[::1], int64[::1], float64[::1], float64[::1], float64[::1], float64[::1], "
    "float64[::1], int64[::1], float64[:, ::1])"
)
def run(
    state: Floats,
    numbers: Floats,
    start_ms: NDArray[np.int64],
    open_: Floats,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    at: NDArray[np.int64],
    rows: Floats,
) -> int:
    fast, slow, closes = int(numbers[FAST]), int(numbers[SLOW]), state[CLOSES:]
    bars, side, fast_sum, slow_sum = int(state[BARS]), state[SIDE], state[FAST_SUM], state[SLOW_SUM]
    fast_place, slow_place = (bars + slow - fast) % slow, bars % slow
    found = 0
    for bar in range(len(close)):
        fast_sum, slow_sum, fast_place, slow_place = _means(
            closes, slow, close[bar], fast_sum, slow_sum, fast_place, slow_place
        )
        now = 1.0 if fast_sum * slow > slow_sum * fast else -1.0
        if now != side and bars + bar + 1 >= slow:
            if side != 0.0:
                at[found] = bar
                _write(rows[found], now, close[bar])
                found += 1
            side = now
    state[BARS], state[SIDE], state[FAST_SUM], state[SLOW_SUM] = bars + len(close), side, fast_sum, slow_sum
    return found


@kernel("boolean(float64[::1], float64[::1], int64, float64, float64, float64, float64, float64, float64[::1])")
def decide(
    state: Floats,
    numbers: Floats,
    start_ms: int,
    open_: float,
    high: float,
    low: float,
    close: float,
    volume: float,
    row: Floats,
) -> bool:
    fast, slow, bars = int(numbers[FAST]), int(numbers[SLOW]), int(state[BARS])
    state[FAST_SUM], state[SLOW_SUM], _, _ = _means(
        state[CLOSES:], slow, close, state[FAST_SUM], state[SLOW_SUM], (bars + slow - fast) % slow, bars % slow
    )
    state[BARS] = bars + 1
    now, side = 1.0 if state[FAST_SUM] * slow > state[SLOW_SUM] * fast else -1.0, state[SIDE]
    if now == side or bars + 1 < slow:
        return False
    state[SIDE] = now
    if side == 0.0:
        return False
    _write(row, now, close)
    return True


class SmaCross(CandleStrategy):
    name: ClassVar[str] = "sma_cross"
    title: ClassVar[str] = "Crossing means"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        ParameterSpec("timeframe", "choice", "1", "candles it watches", "minutes", choices=INTERVALS),
        ParameterSpec("fast", "int", 50, "bars of the fast mean", "bars", 1, 1_000),
        ParameterSpec("slow", "int", 200, "bars of the slow mean", "bars", 2, 2_000),
    )

    @classmethod
    def kernel(cls) -> CandleKernel:
        return CandleKernel(decide, run, lambda numbers: CLOSES + int(numbers[SLOW]))

    @property
    def warm_up(self) -> int:
        return int(self.settings["slow"])

    def reason(self, candle: Candle, side: str, notes: Mapping[str, float]) -> str:
        return "the means crossed"
