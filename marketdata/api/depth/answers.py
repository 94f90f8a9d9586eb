"""What the depth endpoints answer: values as plain JSON, and answers that are kept for a while."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import redis
from django.core.cache import cache
from numpy.typing import NDArray

from marketdata.depth import selectors
from marketdata.depth.current import is_stale, volumes_of
from marketdata.depth.indicators import GroupVolume, average, group_volumes
from marketdata.depth.models import VOLUMES, DepthAggregate
from marketdata.depth.snapshots import DepthVolume, Market

HISTORY_SECONDS, STATS_SECONDS = 30, 60
NAMES = dict(zip(VOLUMES, ("bidVolume", "askVolume", "bidVolumeUsd", "askVolumeUsd"), strict=True))

Answer = TypeVar("Answer")


def cached(key: str, seconds: int, read: Callable[[], Answer]) -> Answer:
    """From Valkey while it is new enough; without Valkey every time anew."""
    name = f"depth:{key}"
    try:
        found = cache.get(name)
    except redis.RedisError:
        return read()
    if found is None:
        found = read()
        try:
            cache.set(name, found, seconds)
        except redis.RedisError:
            return found
    return found


def plain(number: Decimal | None) -> str | None:
    return None if number is None else f"{number:f}"


def side_value(volume: DepthVolume, side: str) -> float:
    """For charts, which draw floats; ``both`` is the mean of the sides."""
    if side == "bid":
        return float(volume.bid_volume)
    if side == "ask":
        return float(volume.ask_volume)
    return float(average([volume.bid_volume, volume.ask_volume]) or 0)


def volume_in(book: Mapping[str, Any], depth: int) -> DepthVolume:
    return next(volume for volume in volumes_of(book) if volume.depth == depth)


def market_depth(book: Mapping[str, Any], volume: DepthVolume) -> dict[str, Any]:
    return {
        "type": book["type"],
        "timestamp": book["timestamp"],
        "bid": plain(volume.bid_volume),
        "ask": plain(volume.ask_volume),
        "diff": plain(volume.diff),
        "percentage": plain(volume.percentage),
        "totalBidValue": plain(volume.bid_volume_usd),
        "totalAskValue": plain(volume.ask_volume_usd),
        "covered": volume.bid_covered and volume.ask_covered,
    }


def snapshot(minute: int, volume: DepthVolume) -> dict[str, Any]:
    row: dict[str, Any] = {"timestamp": datetime.fromtimestamp(minute, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    row |= {NAMES[name]: plain(value) for name, value in zip(VOLUMES, volume.volumes, strict=True)}
    return row | {"bidCovered": volume.bid_covered, "askCovered": volume.ask_covered}


def bucket(row: DepthAggregate) -> dict[str, Any]:
    found: dict[str, Any] = {"start": row.start, "count": row.count}
    for name, shown in NAMES.items():
        mean = getattr(row, f"{name}_sum") / row.count
        # As many decimals as the volumes have, and some.
        found[shown] = {
            "avg": f"{mean:.12f}".rstrip("0").rstrip("."),
            "min": plain(getattr(row, f"{name}_min")),
            "max": plain(getattr(row, f"{name}_max")),
        }
    return found


def group(each: GroupVolume) -> dict[str, Any]:
    return {
        "name": each.name,
        "symbols": each.symbols,
        "bidUsd": plain(each.bid_usd),
        "askUsd": plain(each.ask_usd),
        "diffUsd": plain(each.diff_usd),
        "percentage": plain(each.percentage),
        "covered": each.covered,
    }


def groups_now(market: Market, depths: Iterable[int]) -> dict[int, dict[str, Any]]:
    """TOTAL and its kin of each depth, made of all fresh books of a market.

    Raises:
        redis.RedisError: Valkey, which holds the books, is away.
    """
    now = time.time()
    books = selectors.hot().all_latest(market)
    fresh = {name: book for name, book in books.items() if not is_stale(book["timestamp"], now * 1000)}
    found = {}
    for depth in depths:
        groups = group_volumes({name: volume_in(book, depth) for name, book in fresh.items()})
        found[depth] = {"time": int(now), "groups": [group(each) for each in groups]}
    return found


def matrix(values: NDArray[Any]) -> list[list[float | None]]:
    """JSON has no NaN."""
    return [[None if math.isnan(value) else round(value, 6) for value in row] for row in values.tolist()]


_VOLUME = {
    "depth": "5",
    "bidVolume": "1184.25113",
    "askVolume": "997.80400",
    "bidVolumeUsd": "69871234.5562210",
    "askVolumeUsd": "60211876.0012300",
    "bidCovered": True,
    "askCovered": False,
}
BOOK_EXAMPLE = {
    "type": "spot",
    "symbol": "BTCUSDT",
    "timestamp": 1789473600250,
    "midPrice": "60000.005",
    "spread": "0.01",
    "bestBid": "60000.00",
    "bestAsk": "60000.01",
    "bids": [["60000.00", "1.20000"]],
    "asks": [["60000.01", "0.80000"]],
    "depthVolumes": [_VOLUME],
    "diffs": [{"depth": "5", "diff": "186.44713", "percentage": "8.544500"}],
    "wsStatus": "CONNECTED",
    "knownReachPercent": {"bid": "6.1042", "ask": "4.8810"},
}
DEPTH_EXAMPLE = {
    "symbol": "BTCUSDT",
    "depth": "5",
    "markets": [
        {
            "type": "spot",
            "timestamp": 1789473600250,
            "bid": "1184.25113",
            "ask": "997.80400",
            "diff": "186.44713",
            "percentage": "8.544500",
            "totalBidValue": "69871234.5562210",
            "totalAskValue": "60211876.0012300",
            "covered": False,
        }
    ],
}
_ROW = {
    "timestamp": "2026-09-15T12:00:00Z",
    **{name: value for name, value in _VOLUME.items() if name != "depth"},
}
PAGE_EXAMPLE = {"symbol": "BTCUSDT", "marketType": "SPOT", "depth": "5", "results": [_ROW], "next": None}
INGEST_EXAMPLE = {"snapshots": [{"symbol": "BTCUSDT", "marketType": "SPOT", **_VOLUME, "timestamp": _ROW["timestamp"]}]}
HISTORY_EXAMPLE = {
    "symbol": "BTCUSDT",
    "marketType": "SPOT",
    "depth": "5",
    "interval": "1h",
    "results": [
        {
            "start": "2026-09-15T12:00:00Z",
            "count": 60,
            **{name: {"avg": "1100.5", "min": "990.1", "max": "1190.77"} for name in NAMES.values()},
        }
    ],
}
