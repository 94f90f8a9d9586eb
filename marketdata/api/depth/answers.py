"""What the depth endpoints answer: values as plain JSON, and answers that are kept for a while."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson
import redis
from django.conf import settings
from django.http import HttpResponse
from numpy.typing import NDArray
from rest_framework.request import Request

from marketdata.depth import selectors
from marketdata.depth.current import is_stale, volumes_of
from marketdata.depth.heat import HeatMap
from marketdata.depth.indicators import GroupVolume, group_volumes, market_difference_percent
from marketdata.depth.models import VOLUMES, DepthAggregate
from marketdata.depth.snapshots import MINUTE, DepthVolume, Market
from marketdata.selectors import valkey

log = logging.getLogger(__name__)

HISTORY_SECONDS, STATS_SECONDS, GROUPS_SECONDS = 30, 60, 1
NAMES = dict(zip(VOLUMES, ("bidVolume", "askVolume", "bidVolumeUsd", "askVolumeUsd"), strict=True))


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, by a name that is the same for the same answer; ``read`` finds it, as JSON already or to be
    written as JSON. It is kept for so many seconds."""

    name: str
    seconds: int
    read: Callable[[], Any]

    @property
    def key(self) -> str:
        return f"{settings.REDIS_PREFIX}:depth:answer:{self.name}"

    def answer(self, told: bytes | None, *, may_keep: bool) -> bytes:
        """``told`` is what Valkey has of it; without Valkey it is read anew every time."""
        if told is not None:
            return told
        found = self.read()
        body = found if isinstance(found, bytes) else orjson.dumps(found, option=orjson.OPT_UTC_Z)
        if may_keep:
            with suppress(redis.RedisError):
                valkey().set(self.key, body, ex=self.seconds)
        return body


def ready(request: Request, body: bytes) -> HttpResponse:
    """An answer that is JSON already; nothing but "as before" where the client has it."""
    tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    # Clients and proxies send the tags that they know as a list, each perhaps marked as weak.
    if tag in (each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")):
        return HttpResponse(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return HttpResponse(body, content_type="application/json", headers=headers)


def plain(number: Decimal | None) -> str | None:
    return None if number is None else f"{number:f}"


def side_value(volume: DepthVolume, side: str) -> float:
    """For charts, which draw floats; ``both`` is the mean of the sides."""
    return side_of(float(volume.bid_volume), float(volume.ask_volume), side)


def side_of(bid: float, ask: float, side: str) -> float:
    if side == "bid":
        return bid
    return ask if side == "ask" else (bid + ask) / 2


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
    found |= {"bidCovered": row.bid_covered, "askCovered": row.ask_covered}
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


def groups_now(market: Market, depths: Collection[int]) -> dict[int, dict[str, Any]]:
    """TOTAL and its kin of each depth, made of all fresh books of a market; ``unreadable`` names the symbols whose book
    cannot be read, which are left out.

    Raises:
        redis.RedisError: Valkey, which holds the books, is away.
    """
    now = time.time()
    books = selectors.hot().all_latest(market)
    fresh: dict[str, dict[int, DepthVolume]] = {}
    unreadable = []
    for name, book in sorted(books.items()):
        try:
            if not is_stale(book["timestamp"], now * 1000):
                volumes = {volume.depth: volume for volume in volumes_of(book)}
                fresh[name] = {depth: volumes[depth] for depth in depths}
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            log.error("the book of %s in Valkey cannot be read: %s: %s", name, type(error).__name__, error)
            unreadable.append(name)
    found = {}
    for depth in depths:
        groups = group_volumes({name: volumes[depth] for name, volumes in fresh.items()})
        found[depth] = {"time": int(now), "groups": [group(each) for each in groups], "unreadable": unreadable}
    return found


def spread(time: int, spot: DepthVolume, futures: DepthVolume) -> dict[str, Any]:
    return {
        "time": time,
        "spotBid": plain(spot.bid_volume),
        "spotAsk": plain(spot.ask_volume),
        "futuresBid": plain(futures.bid_volume),
        "futuresAsk": plain(futures.ask_volume),
        "bidPercent": plain(market_difference_percent(spot.bid_volume, futures.bid_volume)),
        "askPercent": plain(market_difference_percent(spot.ask_volume, futures.ask_volume)),
        "percent": plain(
            market_difference_percent(spot.bid_volume + spot.ask_volume, futures.bid_volume + futures.ask_volume)
        ),
    }


def heatmap(found: HeatMap | None) -> dict[str, Any]:
    """For a canvas, which draws floats: volumes have five digits, and NaN becomes null."""
    if found is None:
        return {"interval": MINUTE, "step": None, "times": [], "prices": [], "known": [], "bids": [], "asks": []}
    return {
        "interval": found.seconds,
        "step": float(found.step),
        "times": list(found.times),
        "prices": [float(price) for price in found.prices],
        "known": [[float(low), float(high)] for low, high in found.known],
        "bids": _five_digits(found.bids),
        "asks": _five_digits(found.asks),
    }


def _five_digits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.floor(np.log10(np.where(values > 0, values, 1.0)))
    # A number times a whole power of ten, and by it again, has the fewest digits as text.
    scale = 10.0 ** np.clip(4 - power, -300, 300)
    return np.ascontiguousarray(np.round(values * scale) / scale)


def minute_text(moment: datetime) -> str:
    """For names of cached answers: a span to now moves with every second; what is in it does not."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M")


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
            "bidCovered": True,
            "askCovered": False,
            **{name: {"avg": "1100.5", "min": "990.1", "max": "1190.77"} for name in NAMES.values()},
        }
    ],
}
SPREAD_EXAMPLE = {
    "symbol": "BTCUSDT",
    "depth": "5",
    "interval": "1m",
    "results": [
        {
            "time": 1789473600,
            "spotBid": "1184.25113",
            "spotAsk": "997.80400",
            "futuresBid": "2210.013",
            "futuresAsk": "2080.440",
            "bidPercent": "86.617000",
            "askPercent": "108.502000",
            "percent": "96.624100",
        }
    ],
}
HEATMAP_EXAMPLE = {
    "symbol": "BTCUSDT",
    "marketType": "SPOT",
    "interval": 60,
    "step": 50.0,
    "times": [1789473600, 1789473660],
    "prices": [59900.0, 59950.0, 60000.0],
    "known": [[59950.0, 60050.0], [59950.0, 60050.0]],
    "bids": [[12.5, 3.25, 0.8], [12.5, 3.3, None]],
    "asks": [[None, None, 4.1], [None, 2.75, 4.2]],
}
