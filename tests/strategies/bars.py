"""Bars that strategies are tested on: walks, hostile ones, and the real market's."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.events import Candle
from strategies.base import parse_parameters
from strategies.candle_strategy import ROW, CandleStrategy
from strategies.library import STRATEGIES
from strategies.signals import Signal
from tests.recordings import recording


@dataclass(frozen=True)
class Bars:
    """Bars of one length, prices and volumes whole numbers of ``10 ** -decimals``."""

    minutes: int
    decimals: int
    start_ms: NDArray[np.int64]
    units: NDArray[np.int64]  # open, high, low, close
    volume: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start_ms)

    def __getitem__(self, part: slice) -> Bars:
        return Bars(self.minutes, self.decimals, self.start_ms[part], self.units[:, part], self.volume[part])

    def arrays(self) -> tuple[NDArray[Any], ...]:
        prices = self.units / 10.0**self.decimals
        columns = [np.ascontiguousarray(price) for price in prices]
        return (np.ascontiguousarray(self.start_ms), *columns, self.volume / 1000.0)

    def candle(self, number: int) -> Candle:
        prices = [Decimal(int(price)).scaleb(-self.decimals) for price in self.units[:, number]]
        volume = Decimal(int(self.volume[number])).scaleb(-3)
        return Candle("BTCUSDT", str(self.minutes), int(self.start_ms[number]), *prices, volume, volume, True)

    def candles(self) -> list[Candle]:
        return [self.candle(number) for number in range(len(self))]


def made(closes: NDArray[np.float64], reach: NDArray[np.float64], volume: Any, minutes: int, decimals: int) -> Bars:
    """Bars that open where the one before closed; ``reach`` is how far highs and lows are beyond, as a fraction."""
    opens = np.concatenate([closes[:1], closes[:-1]])
    highs, lows = np.maximum(opens, closes) * (1 + reach[0]), np.minimum(opens, closes) * (1 - reach[1])
    units = np.maximum(1, np.rint(np.array([opens, highs, lows, closes]) * 10.0**decimals)).astype(np.int64)
    starts = np.arange(len(closes), dtype=np.int64) * minutes * 60_000
    return Bars(minutes, decimals, starts, units, np.rint(volume * 1000).astype(np.int64))


def walk(count: int, seed: int, minutes: int = 1, volatility: float = 0.004, price: float = 100.0) -> Bars:
    """A random walk that wanders around its start, with calm and wild times."""
    rng = np.random.default_rng(seed)
    wild = volatility * np.exp(np.sin(np.arange(count) / 97.0 + rng.uniform(0, 6)))
    steps = rng.normal(0, 1, count) * wild
    position, closes = 0.0, np.empty(count)
    for number in range(count):
        position = 0.998 * position + steps[number]
        closes[number] = price * np.exp(position)
    reach = np.abs(rng.normal(0, 0.4, (2, count))) * wild
    decimals = max(1, 5 - round(np.log10(price)))
    return made(closes, reach, rng.lognormal(0, 0.6, count) * 50, minutes, decimals)


def hostile(count: int, seed: int, minutes: int = 1) -> Bars:
    """What no market should do: long flat stretches, jumps, silence, and a price anywhere from 1e-7 to a billion."""
    rng = np.random.default_rng(seed)
    price = 10.0 ** rng.choice([-7, -5, -2, 2, 5, 9])
    steps = rng.normal(0, 0.01, count)
    for _ in range(count // 40):
        start, length = int(rng.integers(count)), int(rng.integers(1, 60))
        steps[start : start + length] = rng.choice([0.0, 0.05, -0.05])
        steps[int(rng.integers(count))] = rng.choice([-1.5, 1.5, 0.4, -0.4])
    position, closes = 0.0, np.empty(count)
    for number in range(count):
        position = np.clip(position + steps[number], -4, 4)
        closes[number] = price * np.exp(position)
    reach = np.abs(rng.normal(0, 0.01, (2, count))) * rng.choice([0, 1], (2, count))
    reach[1] = np.minimum(reach[1], 0.5)
    volume = rng.lognormal(0, 2, count) * rng.choice([0, 1], count, p=[0.1, 0.9])
    # A tiny price has few steps: some coins trade at 4 of the smallest unit.
    return made(closes, reach, volume, minutes, int(max(1, 1 - np.log10(price)) + rng.integers(0, 3)))


def real(minutes: int, first: int = 0, count: int | None = None) -> Bars:
    """Bybit's BTCUSDT from 2023-11-29 on, made of its bars of 15 minutes (of 5 minutes: Binance's, from 2024-10-01)."""
    folder, name, source = "candles-bybit", "BTCUSDT_15m.csv.gz", 15
    if minutes < 15:
        folder, name, source = "candles-binance-usdm", "BTCUSDT_5m.csv.gz", 5
    with gzip.open(recording(folder, name), "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", skiprows=1, usecols=range(6))
    together = minutes // source
    table = table[int(np.argmax(table[:, 0] % (minutes * 60_000) == 0)) :]
    parts = table[: len(table) // together * together].reshape(-1, together, 6)
    prices = [parts[:, 0, 1], parts[:, :, 2].max(axis=1), parts[:, :, 3].min(axis=1), parts[:, -1, 4]]
    units = np.rint(np.array(prices) * 10).astype(np.int64)
    volume = np.rint(parts[:, :, 5].sum(axis=1) * 1000).astype(np.int64)
    whole = Bars(minutes, 1, parts[:, 0, 0].astype(np.int64), units, volume)
    return whole[first : None if count is None else first + count]


def strategy(key: str, bars: Bars, parameters: Mapping[str, Any]) -> CandleStrategy:
    kind: Any = STRATEGIES[key]
    typed = parse_parameters(kind.parameters, {**parameters, "timeframe": str(bars.minutes)})
    created: CandleStrategy = kind.create("BTCUSDT", typed)
    return created


def bar_by_bar(key: str, bars: Bars, parameters: Mapping[str, Any]) -> list[Signal]:
    running = strategy(key, bars, parameters)
    return [signal for candle in bars.candles() if (signal := running.on_candle(candle)) is not None]


def rows_at_once(
    key: str, bars: Bars, parameters: Mapping[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64], CandleStrategy]:
    """The bars that signal, and their rows."""
    running = strategy(key, bars, parameters)
    kernel = running.kernel()
    at, rows = np.zeros(len(bars), dtype=np.int64), np.zeros((len(bars), ROW))
    found = kernel.run(kernel.new_state(running.numbers), running.numbers, *bars.arrays(), at, rows)
    return at[:found], rows[:found], running


def at_once(key: str, bars: Bars, parameters: Mapping[str, Any]) -> list[Signal]:
    at, rows, running = rows_at_once(key, bars, parameters)
    return [running.signal(bars.candle(int(bar)), row) for bar, row in zip(at, rows, strict=True)]
