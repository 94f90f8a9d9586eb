"""A market that is made up, for checks that need one: the same for the same seed."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from marketdata.candles.series import interval_ms
from marketdata.engine.feature_table import FEATURES
from marketdata.events import BookView, Candle, Trade

START_MS = 1_704_067_200_000  # 2024-01-01
TICK = Decimal("0.1")
BOOK_STEP_NS = 100_000_000


def sample_candles(symbol: str, interval: str, count: int, seed: int = 7) -> list[Candle]:
    """Closed bars of a random walk whose trend and volatility change every few dozen bars."""
    rng = np.random.default_rng(seed)
    spans = rng.integers(20, 120, size=count // 20 + 2)
    trends = np.repeat(rng.normal(0, 0.0008, size=len(spans)), spans)[:count]
    widths = np.repeat(rng.choice([0.0005, 0.002, 0.006], size=len(spans)), spans)[:count]
    closes = 50_000 * np.exp(np.cumsum(trends + widths * rng.normal(size=count)))
    opens = np.concatenate([[50_000.0], closes[:-1]])
    highs = np.maximum(opens, closes) * (1 + widths * rng.exponential(0.5, size=count))
    lows = np.minimum(opens, closes) * (1 - widths * rng.exponential(0.5, size=count))
    volumes = rng.lognormal(3, 0.8, size=count) * (1 + widths / 0.002)
    step = interval_ms(interval)
    return [
        _bar(symbol, interval, START_MS + n * step, *values)
        for n, values in enumerate(zip(opens, highs, lows, closes, volumes, strict=True))
    ]


def _bar(
    symbol: str, interval: str, start_ms: int, open_: float, high: float, low: float, close: float, volume: float
) -> Candle:
    first, top, bottom, last = (Decimal(repr(round(float(price), 1))) for price in (open_, high, low, close))
    quantity = Decimal(repr(round(float(volume), 3)))
    return Candle(symbol, interval, start_ms, first, top, bottom, last, quantity, quantity * last, True)


def sample_books(symbol: str, count: int, seed: int = 7) -> list[BookView | Trade]:
    """Books ten times a second with trades between them. Features are smooth noise from -1 to 1: no book's, but
    thresholds are passed sometimes."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, len(FEATURES)))
    kernel = np.ones(12) / 12
    smooth = np.apply_along_axis(lambda column: np.convolve(column, kernel, mode="same"), 0, noise)
    features = np.clip(smooth * 1.8, -1.0, 1.0)
    middles = 50_000 * np.exp(np.cumsum(rng.normal(0, 0.00002, size=count)))
    made: list[BookView | Trade] = []
    for n in range(count):
        at_ns = START_MS * 1_000_000 + n * BOOK_STEP_NS
        bid = Decimal(round(float(middles[n]) * 10)) * TICK
        ask = bid + TICK * int(rng.integers(1, 4))
        made.append(BookView(symbol, "LIVE", at_ns, at_ns, n + 1, bid, ask, features[n]))
        if n % 3 == 0:
            side = "Buy" if rng.random() < 0.5 else "Sell"
            quantity = Decimal(repr(round(float(rng.exponential(0.2)) + 0.001, 3)))
            made.append(Trade(symbol, str(n), ask if side == "Buy" else bid, quantity, side, at_ns + 1, at_ns + 1))
    return made
