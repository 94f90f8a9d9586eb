"""Past bars as arrays: what strategies are tested on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

MINUTE_MS = 60_000
DAY_MS = 1_440 * MINUTE_MS
INTERVALS = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "480", "720", "D")


def interval_ms(interval: str) -> int:
    """How long a bar is. Intervals in Bybit's words: minutes, or D (and 480, which Binance has).

    Raises:
        ValueError: an interval that is none.
    """
    if interval not in INTERVALS:
        raise ValueError(f"interval {interval!r}; expected one of {', '.join(INTERVALS)}")
    return DAY_MS if interval == "D" else int(interval) * MINUTE_MS


@dataclass(frozen=True, slots=True)
class CandleSeries:
    """Closed bars of one symbol, oldest first, no start twice; int64 arrays of one length.

    ``start_ms`` is milliseconds since 1970 (UTC), a multiple of the interval. Prices are in units of
    ``10 ** -price_decimals`` quote coin, volumes of ``10 ** -volume_decimals`` base coin, so that nothing is rounded.
    """

    venue: str
    symbol: str
    interval: str
    price_decimals: int
    volume_decimals: int
    start_ms: NDArray[np.int64]
    open: NDArray[np.int64]
    high: NDArray[np.int64]
    low: NDArray[np.int64]
    close: NDArray[np.int64]
    volume: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start_ms)

    @property
    def interval_ms(self) -> int:
        return interval_ms(self.interval)

    def price(self, units: int) -> Decimal:
        return Decimal(int(units)).scaleb(-self.price_decimals)

    def prices(self, units: NDArray[np.int64]) -> NDArray[np.float64]:
        """As floats. A division by a power of ten is rounded once: the same floats as ``float("60000.1")`` gives, which
        multiplying by 0.1 would not."""
        return units / 10.0**self.price_decimals

    def volumes(self) -> NDArray[np.float64]:
        """Base coin, as floats."""
        return self.volume / 10.0**self.volume_decimals

    def between(self, start_ms: int, end_ms: int) -> CandleSeries:
        """The bars that start in ``[start_ms, end_ms)``; views of the same arrays."""
        first, last = (int(at) for at in np.searchsorted(self.start_ms, [start_ms, end_ms]))
        arrays = (self.start_ms, self.open, self.high, self.low, self.close, self.volume)
        return CandleSeries(
            self.venue,
            self.symbol,
            self.interval,
            self.price_decimals,
            self.volume_decimals,
            *(array[first:last] for array in arrays),
        )

    def digest(self) -> str:
        """A name for exactly these bars: SHA-256 of all there is, hexadecimal."""
        found = hashlib.sha256(
            f"{self.venue}/{self.symbol}/{self.interval}/{self.price_decimals}/{self.volume_decimals}/".encode()
        )
        for array in (self.start_ms, self.open, self.high, self.low, self.close, self.volume):
            found.update(np.ascontiguousarray(array).astype("<i8", copy=False).tobytes())
        return found.hexdigest()


@dataclass(frozen=True, slots=True)
class FundingSeries:
    """Funding rates of one symbol, oldest first: ``time_ms`` int64 and ``rate`` float64 (a fraction of the position's
    worth, paid by longs when above 0)."""

    venue: str
    symbol: str
    time_ms: NDArray[np.int64]
    rate: NDArray[np.float64]
