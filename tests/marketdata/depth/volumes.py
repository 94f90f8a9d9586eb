"""Values that tests of depth analytics need."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np

from marketdata.depth.heat import EVERY_ASK, EVERY_BID, BookLevels, HeatMinute, heat_rows
from marketdata.depth.heat_packing import packed_minute
from marketdata.depth.snapshots import DepthSnapshot, DepthVolume, Market

NOON = int(datetime(2026, 9, 15, 12, tzinfo=UTC).timestamp())


def volume(depth: int = 50, bid: str = "10", ask: str = "8", price: str = "100", covered: bool = True) -> DepthVolume:
    bids, asks, at = Decimal(bid), Decimal(ask), Decimal(price)
    return DepthVolume(depth, bids, asks, bids * at, asks * at, bid_covered=covered, ask_covered=covered)


def snapshot(
    minute: int = NOON,
    bid: str = "10",
    symbol: str = "BTCUSDT",
    market: Market = Market.SPOT,
    depth: int = 50,
    *,
    covered: bool = True,
) -> DepthSnapshot:
    return DepthSnapshot(symbol, market, minute, volume(depth, bid, covered=covered))


def book_of(
    bids: Mapping[str, str],
    asks: Mapping[str, str],
    tick: str = "0.1",
    lot: str = "0.001",
    reach: tuple[Decimal, Decimal] = (EVERY_BID, EVERY_ASK),
) -> BookLevels:
    """A book of prices and quantities."""
    sides = [
        np.array(
            [(int(Decimal(price) / Decimal(tick)), int(Decimal(size) / Decimal(lot))) for price, size in side.items()],
            dtype=np.int64,
        ).reshape(-1, 2)
        for side in (bids, asks)
    ]
    return BookLevels(*sides, Decimal(tick), Decimal(lot), reach)


def heat_minute(
    minute: int = NOON, bid: str = "10", symbol: str = "BTCUSDT", market: Market = Market.SPOT
) -> HeatMinute:
    """A book with one bid at 100 and one ask of 8 at 101."""
    return packed_minute(symbol, market, minute, heat_rows(book_of({"100": bid}, {"101": "8"})))


def walk(minutes: Iterable[int], depth: int = 50, seed: int = 1, lot: int = -5, price: int = -7) -> list[DepthSnapshot]:
    """A volume that wanders, as a real one does: some tenths of a percent a minute, of a thousand coins."""
    chance = random.Random(seed)
    bid, ask, at = 1_000.0, 900.0, 60_000.0
    found = []
    for minute in minutes:
        bid, ask, at = (
            each * (1 + chance.gauss(0, spread)) for each, spread in ((bid, 0.004), (ask, 0.004), (at, 3e-4))
        )
        bids, asks = (Decimal(round(each * 10**-lot)).scaleb(lot) for each in (bid, ask))
        worth = [Decimal(round(float(each) * at * 0.98 * 10**-price)).scaleb(price) for each in (bids, asks)]
        found.append(DepthSnapshot("BTCUSDT", Market.SPOT, minute, DepthVolume(depth, bids, asks, worth[0], worth[1])))
    return found
