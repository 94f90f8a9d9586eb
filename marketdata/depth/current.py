"""One book as the API shows it now: plain JSON with numbers as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from marketdata.depth.snapshots import DEPTH_BY_TEXT, DEPTH_TEXTS, DepthVolume, Market, reach_percent

TOP_LEVELS = 20
# A book by REST is a minute old before the next one comes, and a round may take longer.
STALE_MS = 150_000
TYPES = {Market.SPOT: "spot", Market.FUTURES: "futures", Market.BYBIT: "bybit"}


def current_book(
    market: Market,
    symbol: str,
    ladder: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]],
    volumes: Sequence[DepthVolume],
    *,
    time_ms: int,
    status: str,
    furthest: tuple[Decimal, Decimal] | None = None,
) -> dict[str, Any]:
    """``ladder``: bids and asks as price and quantity texts, best first, neither empty. ``furthest``: the last bid and
    the last ask that are known."""
    bids, asks = ladder
    bid, ask = Decimal(bids[0][0]), Decimal(asks[0][0])
    book: dict[str, Any] = {
        "type": TYPES[market],
        "symbol": symbol,
        "timestamp": time_ms,
        "midPrice": f"{(bid + ask) / 2:f}",
        "spread": f"{ask - bid:f}",
        "bestBid": f"{bid:f}",
        "bestAsk": f"{ask:f}",
        "bids": [list(level) for level in bids[:TOP_LEVELS]],
        "asks": [list(level) for level in asks[:TOP_LEVELS]],
        "depthVolumes": [_volume(each) for each in volumes],
        "diffs": [
            {"depth": DEPTH_TEXTS[each.depth], "diff": f"{each.diff:f}", "percentage": f"{each.percentage:f}"}
            for each in volumes
        ],
        "wsStatus": status,
    }
    if furthest is not None:
        reach = {
            "bid": f"{reach_percent(bid, furthest[0]):f}",
            "ask": f"{reach_percent(ask, furthest[1]):f}",
        }
        book["knownReachPercent"] = reach
    return book


def is_stale(time_ms: float, now_ms: float) -> bool:
    """Whether a book of a moment is not the market any more."""
    return now_ms - time_ms > STALE_MS


def as_of(book: dict[str, Any], now_ms: float) -> dict[str, Any]:
    """The book as it is to be shown at a moment: one that nobody told of for long is STALE."""
    return book | {"wsStatus": "STALE"} if is_stale(book["timestamp"], now_ms) else book


def _volume(volume: DepthVolume) -> dict[str, Any]:
    return {
        "depth": DEPTH_TEXTS[volume.depth],
        "bidVolume": f"{volume.bid_volume:f}",
        "askVolume": f"{volume.ask_volume:f}",
        "bidVolumeUsd": f"{volume.bid_volume_usd:f}",
        "askVolumeUsd": f"{volume.ask_volume_usd:f}",
        "bidCovered": volume.bid_covered,
        "askCovered": volume.ask_covered,
    }


def volumes_of(book: Mapping[str, Any]) -> list[DepthVolume]:
    """The depths that a book was shown with."""
    return [
        DepthVolume(
            DEPTH_BY_TEXT[row["depth"]],
            Decimal(row["bidVolume"]),
            Decimal(row["askVolume"]),
            Decimal(row["bidVolumeUsd"]),
            Decimal(row["askVolumeUsd"]),
            bid_covered=row["bidCovered"],
            ask_covered=row["askCovered"],
        )
        for row in book["depthVolumes"]
    ]
