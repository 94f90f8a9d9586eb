"""Depth rows, aggregates and books that the pages show, put where the collector puts them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from marketdata.depth import selectors, services
from marketdata.depth.current import current_book
from marketdata.depth.models import DepthAggregate, DepthDay, DepthHour, DepthSeries
from marketdata.depth.snapshots import DEPTHS, MINUTE, DepthSnapshot, DepthVolume, Market, minute_of

LENGTHS = {DepthHour: timedelta(hours=1), DepthDay: timedelta(days=1)}


def volume_at(seconds: int, depth: int, coins: float = 1_000, price: float = 60_000) -> DepthVolume:
    """What rested within a depth at a time: waves of hours and days, the same each time it is asked."""
    chance = random.Random(seconds * 31 + depth)
    reach = math.sqrt(depth / 50)
    slow, quick = math.sin(seconds / 40_000), math.sin(seconds / 3_000 + depth)
    bid = coins * reach * (1 + 0.25 * slow + 0.06 * quick + chance.gauss(0, 0.008))
    ask = coins * reach * (0.95 - 0.2 * slow + 0.05 * math.cos(seconds / 2_300) + chance.gauss(0, 0.008))
    bids, asks = (Decimal(f"{each:.5f}") for each in (bid, ask))
    at = Decimal(str(price))
    return DepthVolume(depth, bids, asks, bids * at, asks * at, bid_covered=depth <= 50, ask_covered=depth <= 50)


def store_minutes(
    symbol: str,
    market: Market,
    minutes: Iterable[int],
    *,
    depths: Sequence[int] = DEPTHS,
    coins: float = 1_000,
    price: float = 60_000,
) -> list[DepthSnapshot]:
    rows = [
        DepthSnapshot(symbol, market, minute, volume_at(minute, depth, coins, price))
        for minute in minutes
        for depth in depths
    ]
    for at in range(0, len(rows), 5_000):
        services.depth_rows_store(rows[at : at + 5_000])
    return rows


def last_minutes(count: int) -> range:
    """Of the ``count`` minutes until now."""
    now = minute_of(time.time())
    return range(now - (count - 1) * MINUTE, now + 1, MINUTE)


def store_aggregates(symbol: str, market: Market, depth: int, kind: type[DepthAggregate], count: int) -> None:
    """Hours or days until now, as if each had sixty minutes of one volume."""
    series, _ = DepthSeries.objects.get_or_create(symbol=symbol, market_type=market.value, depth=depth)
    length = LENGTHS[kind]
    newest = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    newest = newest.replace(hour=0) if kind is DepthDay else newest
    made = []
    for number in range(count):
        start = newest - number * length
        values: dict[str, Decimal] = {}
        names = ("bid_volume", "ask_volume", "bid_volume_usd", "ask_volume_usd")
        for name, value in zip(names, volume_at(int(start.timestamp()), depth).volumes, strict=True):
            low, high = value * Decimal("0.9"), value * Decimal("1.1")
            values |= {f"{name}_sum": value * 60, f"{name}_min": low, f"{name}_max": high}
        made.append(kind(series_id=series.pk, start=start, count=60, **values))
    kind._default_manager.bulk_create(made, ignore_conflicts=True)


def tell_book(
    symbol: str = "BTCUSDT",
    market: Market = Market.SPOT,
    *,
    volumes: Sequence[DepthVolume] | None = None,
    status: str = "CONNECTED",
    age: float = 0,
    price: float = 60_000,
) -> None:
    """A book as the collector tells it: twenty levels a side, a tick of 0.5 apart."""
    now = time.time() - age
    chance = random.Random(int(now))
    sides = [
        [[f"{price + side * (0.25 + 0.5 * level):.2f}", f"{chance.uniform(0.01, 3):.5f}"] for level in range(20)]
        for side in (-1, 1)
    ]
    found = volumes or [volume_at(int(now), depth, price=price) for depth in DEPTHS]
    furthest = Decimal(str(price * 0.945)), Decimal(str(price * 1.055))
    book = current_book(
        market, symbol, (sides[0], sides[1]), found, time_ms=int(now * 1_000), status=status, furthest=furthest
    )
    selectors.hot().latest_put({(market, symbol): book})
