"""Bars for all who are compared: a random walk in steps of 0.1, each open the close before."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import MINUTE_MS, CandleSeries
from marketdata.instruments import InstrumentRules

START_MS = 1_700_006_400_000
# A deviation of 0.07 % a minute is one of 50 % a year.
STEP = 0.0007
FEE, QUANTITY, SEED = 0.0005, 0.01, 7


@dataclass(frozen=True, slots=True)
class Bars:
    """Quote coin and base coin, as floats, and the same exactly in ``series``."""

    series: CandleSeries
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]


def series_of(symbol: str, count: int, seed: int) -> CandleSeries:
    random = np.random.default_rng(seed)
    closes = np.rint(600_000.0 * np.exp(np.cumsum(random.normal(0.0, STEP, count)))).astype(np.int64)
    opens = np.concatenate([[600_000], closes[:-1]])
    reach = np.rint(np.abs(random.normal(0.0, STEP / 2, (2, count))) * closes).astype(np.int64)
    return CandleSeries(
        venue="bybit",
        symbol=symbol,
        interval="1",
        price_decimals=1,
        volume_decimals=3,
        start_ms=START_MS + np.arange(count, dtype=np.int64) * MINUTE_MS,
        open=opens,
        high=np.maximum(opens, closes) + reach[0],
        low=np.minimum(opens, closes) - reach[1],
        close=closes,
        volume=random.integers(1_000, 100_000, count),
    )


def bars_of(count: int, seed: int = SEED) -> Bars:
    series = series_of("BTCUSDT", count, seed)
    prices = (series.prices(each) for each in (series.open, series.high, series.low, series.close))
    return Bars(series, *prices, series.volumes())


def rules_of(symbol: str) -> InstrumentRules:
    """The smallest order is the quantity that all trade."""
    figures: dict[str, Any] = {
        "tick_size": "0.1",
        "lot_size": "0.001",
        "min_quantity": str(QUANTITY),
        "max_quantity": "100",
        "max_market_quantity": "100",
        "min_notional": "5",
        "min_price": "0.1",
        "max_price": "1999999",
        "max_leverage": "100",
    }
    return InstrumentRules(symbol, **{name: Decimal(each) for name, each in figures.items()})
