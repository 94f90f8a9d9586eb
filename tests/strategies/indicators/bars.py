"""Bars to compute indicators on: made up, and recorded."""

from __future__ import annotations

import gzip
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.recordings import recording

RECORDED = ("BTCUSDT_5m", "ETHUSDT_1h", "WIFUSDT_15m")
MADE_UP = ("calm", "wild", "cents")


@dataclass(frozen=True, slots=True)
class Bars:
    start_ms: NDArray[np.int64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]

    def part(self, wanted: slice | NDArray[np.int64]) -> Bars:
        arrays = (self.start_ms, self.high, self.low, self.close, self.volume)
        return Bars(*(np.ascontiguousarray(array[wanted]) for array in arrays))


def made_up(kind: str, count: int = 3_000) -> Bars:
    """A random walk with gaps between bars; minutes."""
    rng = np.random.default_rng(MADE_UP.index(kind))
    price, step = {"calm": (60_000.0, 0.0003), "wild": (100.0, 0.02), "cents": (0.0123, 0.004)}[kind]
    close = price * np.exp(np.cumsum(rng.normal(0, step, count)))
    opened = np.roll(close, 1) * np.exp(rng.normal(0, step / 5, count))
    opened[0] = price
    high = np.maximum(opened, close) * (1 + rng.random(count) * step)
    low = np.minimum(opened, close) * (1 - rng.random(count) * step)
    return Bars(np.arange(count) * 60_000, high, low, close, rng.gamma(2, 10, count))


def recorded(name: str) -> Bars:
    """Bybit's linear perpetuals, tens of thousands of bars; skips where they are absent."""
    with gzip.open(recording("candles-bybit", f"{name}.csv.gz")) as lines:
        rows = np.loadtxt(lines, delimiter=",", skiprows=1)
    columns = [np.ascontiguousarray(rows[:, column]) for column in (2, 3, 4, 5)]
    return Bars(rows[:, 0].astype(np.int64), *columns)
