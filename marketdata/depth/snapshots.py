"""Resting volume by distance from the best price, as values: the words of depth analytics.

Depths are per mille of the best bid and of the best ask (15 is 1.5 %); minutes are seconds since 1970, multiples of 60.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from enum import StrEnum

from marketdata.engine.layout import BAND_PER_MILLE

DEPTHS = BAND_PER_MILLE
DEPTH_TEXTS = {depth: f"{depth / 10:g}" for depth in DEPTHS}
DEPTH_BY_TEXT = {text: depth for depth, text in DEPTH_TEXTS.items()}
MINUTE, HOUR, DAY = 60, 3_600, 86_400
# Volumes have at most this many digits before and after the point: more is no market.
MOST_DIGITS = 38
PERCENT_DECIMALS = 6
LARGEST = Decimal(10) ** MOST_DIGITS


class Market(StrEnum):
    """Where a book is from. Bybit's perpetuals are kept apart: they are another venue's."""

    SPOT = "SPOT"
    FUTURES = "FUTURES"
    BYBIT = "BYBIT"


class SnapshotError(ValueError):
    """A snapshot that cannot be: the sentence says which value, and what was expected."""


def difference(bids: Decimal, asks: Decimal) -> Decimal:
    with localcontext(prec=4 * MOST_DIGITS):
        return bids - asks


def difference_percent(bids: Decimal, asks: Decimal) -> Decimal:
    """``(bids - asks) / (bids + asks) * 100``, rounded to six decimals; 0 where both are 0."""
    with localcontext(prec=4 * MOST_DIGITS):
        both = bids + asks
        percent = (bids - asks) / both * 100 if both else Decimal(0)
        return percent.quantize(Decimal(1).scaleb(-PERCENT_DECIMALS))


def reach_percent(best: Decimal, furthest: Decimal) -> Decimal:
    """How far a book is known, in percent of its best price; 100 where it is known that far or further."""
    return min(abs(furthest - best) / best * 100, Decimal(100)).quantize(Decimal("0.0001"))


@dataclass(frozen=True, slots=True)
class DepthVolume:
    """What rests within one depth: coins, and their value in quote coins. ``covered``: every level of that side that
    could be in it is known."""

    depth: int
    bid_volume: Decimal
    ask_volume: Decimal
    bid_volume_usd: Decimal
    ask_volume_usd: Decimal
    bid_covered: bool = True
    ask_covered: bool = True

    @property
    def volumes(self) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        return self.bid_volume, self.ask_volume, self.bid_volume_usd, self.ask_volume_usd

    @property
    def diff(self) -> Decimal:
        return difference(self.bid_volume, self.ask_volume)

    @property
    def percentage(self) -> Decimal:
        return difference_percent(self.bid_volume, self.ask_volume)


@dataclass(frozen=True, slots=True)
class DepthSnapshot:
    """One depth of one book in one minute.

    Raises:
        SnapshotError: a depth that is none of the six, a time that is no minute, a volume below 0 or without end.
    """

    symbol: str
    market: Market
    minute: int
    volume: DepthVolume

    def __post_init__(self) -> None:
        if self.volume.depth not in DEPTH_TEXTS:
            expected = ", ".join(map(str, DEPTHS))
            raise SnapshotError(f"the depth is {self.volume.depth} per mille; expected one of {expected}")
        if self.minute % MINUTE or self.minute <= 0:
            raise SnapshotError(f"the time is {self.minute} s; expected a whole minute since 1970")
        for volume in self.volume.volumes:
            if not volume.is_finite() or volume < 0 or volume >= LARGEST:
                raise SnapshotError(f"a volume is {volume}; expected 0 or more, below 10**{MOST_DIGITS}")

    @property
    def key(self) -> tuple[str, Market, int, int]:
        """What there can be only one of."""
        return self.symbol, self.market, self.volume.depth, self.minute


def minute_of(seconds: float) -> int:
    """The minute that a moment lies in."""
    return int(seconds // MINUTE) * MINUTE
