"""What names a line of the archive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from marketdata.candles.series import INTERVALS, interval_ms

FUNDING = "funding"
VENUES = ("bybit", "binance")
# As spreadsheets and other tools name them.
_OTHER_NAMES = {
    **{f"{minutes}m": str(minutes) for minutes in (1, 3, 5, 15, 30)},
    **{f"{hours}h": str(60 * hours) for hours in (1, 2, 4, 6, 8, 12)},
    "1d": "D",
    "1440": "D",
}
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9_.-]{0,31}")
_VENUE = re.compile(r"[a-z0-9][a-z0-9-]{0,15}")


class PriceOf(StrEnum):
    """What the prices are of. Bars of mark prices have no volume."""

    LINEAR = "linear"
    SPOT = "spot"
    INVERSE = "inverse"
    MARK = "mark"


def interval_named(text: str) -> str:
    """An interval in our words, of ours or of the usual others (``15m``, ``1h``, ``1d``).

    Raises:
        ValueError: it is none.
    """
    name = _OTHER_NAMES.get(text.strip().lower(), text.strip())
    interval_ms(name)
    return name


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """``interval`` is one of bars, or ``funding``: rates. Raises ValueError for what names nothing."""

    venue: str
    symbol: str
    interval: str
    market: str = PriceOf.LINEAR

    def __post_init__(self) -> None:
        if not _VENUE.fullmatch(self.venue):
            raise ValueError(f"venue {self.venue[:50]!r}; expected a name like {' or '.join(VENUES)}")
        if not _SYMBOL.fullmatch(self.symbol):
            raise ValueError(f"symbol {self.symbol[:50]!r}; expected capital letters and digits, like BTCUSDT")
        if self.market not in tuple(PriceOf):
            raise ValueError(f"market {self.market[:50]!r}; expected one of {', '.join(PriceOf)}")
        if self.interval != FUNDING and self.interval not in INTERVALS:
            raise ValueError(f"interval {self.interval[:50]!r}; expected one of {', '.join(INTERVALS)}, or {FUNDING}")

    def __str__(self) -> str:
        return f"{self.venue} {self.market} {self.symbol} {self.interval}"

    @property
    def is_funding(self) -> bool:
        return self.interval == FUNDING

    @property
    def has_volume(self) -> bool:
        return self.market != PriceOf.MARK and not self.is_funding

    @property
    def step_ms(self) -> int:
        """The length of a bar. Raises ValueError for funding."""
        return interval_ms(self.interval)
