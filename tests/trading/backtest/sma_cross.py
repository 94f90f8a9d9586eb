"""A strategy as a user would write one: buys when the fast mean of closes crosses the slow one upwards, sells when it
crosses downwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from marketdata.events import Candle
from strategies.base import ParameterSpec
from strategies.candle_strategy import INTERVALS, CandleKernel, CandleStrategy, Slot
from strategies.compiled import inner, kernel

FAST, SLOW, STOP, REWARD = 1, 2, 3, 4
BARS, SIDE, FAST_SUM, SLOW_SUM, CLOSES = range(5)
DIRECTION, STRENGTH, TAKE_PROFIT, STOP_LOSS, NOTES = (int(each) for each in Slot)


@inner
def _decide(state, numbers, close, row):
    fast, slow, bars = int(numbers[FAST]), int(numbers[SLOW]), int(state[BARS])
    place = bars % slow
    if bars >= fast:
        state[FAST_SUM] -= state[CLOSES + (bars - fast) % slow]
    if bars >= slow:
        state[SLOW_SUM] -= state[CLOSES + place]
    state[CLOSES + place] = close
    state[FAST_SUM] += close
    state[SLOW_SUM] += close
    state[BARS] = bars + 1
    if bars + 1 < slow:
        return False
    side = 1.0 if state[FAST_SUM] / fast > state[SLOW_SUM] / slow else -1.0
    before, state[SIDE] = state[SIDE], side
    if before == 0.0 or before == side:
        return False
    row[DIRECTION] = side
    row[STRENGTH] = 0.5
    row[TAKE_PROFIT] = close * (1.0 + side * numbers[STOP] * numbers[REWARD] / 100.0)
    row[STOP_LOSS] = close * (1.0 - side * numbers[STOP] / 100.0)
    row[NOTES] = state[FAST_SUM] / fast
    row[NOTES + 1] = state[SLOW_SUM] / slow
    return True


@kernel("boolean(float64[::1], float64[::1], int64, float64, float64, float64, float64, float64, float64[::1])")
def decide(state, numbers, start_ms, opened, high, low, close, volume, row):
    return _decide(state, numbers, close, row)


@kernel(
    "int64(float64[::1], float64[::1], int64[::1], float64[::1], float64[::1], float64[::1], float64[::1],"
    " float64[::1], int64[::1], float64[:, ::1])"
)
def run(state, numbers, start_ms, opened, high, low, close, volume, at, rows):
    found = 0
    for index in range(len(close)):
        if _decide(state, numbers, close[index], rows[found]):
            at[found] = index
            found += 1
            if found == len(at):
                break
    return found


class SmaCross(CandleStrategy):
    name: ClassVar[str] = "sma_cross"
    title: ClassVar[str] = "Crossing means"
    notes: ClassVar[tuple[str, ...]] = ("fast", "slow")
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        ParameterSpec("timeframe", "choice", "1", "candles it watches", "minutes", choices=INTERVALS),
        ParameterSpec("fast", "int", 10, "bars of the fast mean", "bars", 1, 1_000),
        ParameterSpec("slow", "int", 30, "bars of the slow mean", "bars", 2, 2_000),
        ParameterSpec("stop", "float", 1.0, "distance of the stop", "% of price", 0.01, 50),
        ParameterSpec("reward", "float", 2.0, "target distance over stop distance", "", 1.5, 20),
    )

    @classmethod
    def kernel(cls) -> CandleKernel:
        return CandleKernel(decide, run, lambda numbers: CLOSES + int(numbers[SLOW]))

    @property
    def warm_up(self) -> int:
        return int(self.settings["slow"])

    def reason(self, candle: Candle, side: str, notes: Mapping[str, float]) -> str:
        return f"mean {notes['fast']:.8g} crossed {notes['slow']:.8g}"


def made(symbol: str, **parameters: Any) -> SmaCross:
    return SmaCross(symbol, parameters)


def walk(seed: int, bars: int, start: float = 60_000.0, step: float = 0.0005) -> dict[str, np.ndarray]:
    """A random walk in units of 0.1: bars whose open is the close before."""
    random = np.random.default_rng(seed)
    closes = np.rint(start * 10 * np.exp(np.cumsum(random.normal(0.0, step, bars)))).astype(np.int64)
    opens = np.concatenate([[int(start * 10)], closes[:-1]])
    reach = np.rint(np.abs(random.normal(0.0, step / 2, (2, bars))) * closes).astype(np.int64)
    return {
        "open": opens,
        "high": np.maximum(opens, closes) + reach[0],
        "low": np.minimum(opens, closes) - reach[1],
        "close": closes,
        "volume": random.integers(1_000, 100_000, bars),
    }
