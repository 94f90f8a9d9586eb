"""Resting volume that pages can show: minutes that were stored, books as they are now, a collector that reports."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from audit.services import heartbeat_record
from marketdata.depth import selectors, services
from marketdata.depth.current import current_book
from marketdata.depth.snapshots import DEPTHS, MINUTE, DepthSnapshot, DepthVolume, Market, minute_of

PRICES = {"BTCUSDT": 84_000.0, "ETHUSDT": 3_100.0}
SHARE_OF_DEPTH = dict(zip(DEPTHS, (0.3, 0.5, 0.7, 0.8, 0.92, 1.0), strict=True))


def collect(symbols: Sequence[str], source: str = "rest") -> None:
    services.collector_symbols_add(symbols=symbols, source=source, actor="test")


def store_minutes(symbols: Sequence[str], markets: Sequence[Market], minutes: int, depths: Sequence[int] = DEPTHS) -> int:
    """Minutes until now in which all symbols breathe together and each wanders by itself; how many rows."""
    chance, now, rows = random.Random(7), minute_of(time.time()), []
    for at, symbol in enumerate(symbols):
        price, own = PRICES.get(symbol, 20.0 / (at + 1)), 0.0
        for step in range(minutes):
            own = 0.97 * own + chance.gauss(0, 0.03)
            tide = math.sin(step / 45) * (0.25 if at % 3 else -0.15)
            for market in markets:
                size = (2_000_000 / price) * (1 + tide + own) * (1.6 if market is Market.FUTURES else 1.0)
                minute = now - (minutes - 1 - step) * MINUTE
                rows += [DepthSnapshot(symbol, market, minute, _volume(depth, size, price, tide)) for depth in depths]
    for start in range(0, len(rows), 5_000):
        services.depth_rows_store(rows[start : start + 5_000])
    return len(rows)


def tell_book(market: Market, symbol: str, bid: float = 10.0, status: str = "CONNECTED", age: float = 0) -> dict[str, Any]:
    """What the collector says of a book now; ``bid`` coins rest on the bids of the widest depth."""
    price = PRICES.get(symbol, 20.0)
    step = price / 10_000
    bids = [[f"{price - step * level:.4f}", f"{bid / 30:.4f}"] for level in range(1, 21)]
    asks = [[f"{price + step * level:.4f}", f"{bid / 32:.4f}"] for level in range(1, 21)]
    volumes = [_volume(depth, bid, price, 0.08) for depth in DEPTHS]
    moment = int((time.time() - age) * 1000)
    book = current_book(market, symbol, (bids, asks), volumes, time_ms=moment, status=status)
    selectors.hot().latest_put({(market, symbol): book})
    return book


def report_collector(symbols: Sequence[str] = (), **changes: Any) -> None:
    """A sign of life of the collector process, as it gives one every few seconds."""
    now = time.time()
    market = {"requests": 1_240, "ok": 1_236, "failed": 4, "rounds": 31, "symbols": 4, "used_weight": 85}
    detail: dict[str, Any] = {
        "running": True,
        "began": now - 1_900,
        "requests": {"requests": 2_480, "ok": 2_472, "failed": 8},
        "last_collection": now - 12,
        "rest": {
            "SPOT": {**market, "last_collection": now - 12, "failing": {}},
            "FUTURES": {**market, "last_collection": now - 14, "failing": {"XRPUSDT": "the venue answered 500"}},
        },
        "streams": {
            name: {"connected": True, "books": dict.fromkeys(symbols, "LIVE"), "unlisted": [], "gaps": 1, "frames": 9}
            for name in ("SPOT", "FUTURES")
        },
        "writer": {"waiting": 24, "journal_bytes": 18_400, "breaker": "closed", "stored": 51_200, "dropped": 0},
        "snapshots": 51_224,
    }
    heartbeat_record(selectors.HEARTBEAT, "1", "ok", detail | changes)


def _volume(depth: int, size: float, price: float, lean: float) -> DepthVolume:
    share = size * SHARE_OF_DEPTH[depth]
    bid, ask = Decimal(f"{share * (1 + lean):.5f}"), Decimal(f"{share * (1 - lean):.5f}")
    at = Decimal(f"{price:.4f}")
    return DepthVolume(depth, bid, ask, bid * at, ask * at, bid_covered=depth < 150, ask_covered=depth < 150)
