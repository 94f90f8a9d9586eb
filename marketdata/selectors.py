from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

import orjson
import redis
from django.conf import settings
from django.db.models import QuerySet

from audit.valkey import connect
from marketdata.instruments import InstrumentRules
from marketdata.models import Candle, Detection, FeedEvent, Instrument
from marketdata.services import LATEST_KEY, SUMMARY_KEY

INTERVALS = ("1", "5", "15", "30", "60", "240")


class MarketUnavailable(Exception):
    """The cache that holds the newest market frames does not answer."""


def instruments(category: str = "linear") -> QuerySet[Instrument]:
    """Instruments that the venue lists now."""
    return Instrument.objects.filter(category=category).exclude(status=Instrument.Status.CLOSED)


def instrument_by_symbol(symbol: str) -> Instrument | None:
    return Instrument.objects.filter(category="linear", symbol=symbol).first()


def instrument_rules(symbol: str) -> InstrumentRules | None:
    instrument = instrument_by_symbol(symbol)
    return None if instrument is None else as_rules(instrument)


def as_rules(instrument: Instrument) -> InstrumentRules:
    return InstrumentRules(
        symbol=instrument.symbol,
        tick_size=instrument.tick_size,
        lot_size=instrument.lot_size,
        min_quantity=instrument.min_quantity,
        max_quantity=instrument.max_quantity,
        max_market_quantity=instrument.max_market_quantity,
        min_notional=instrument.min_notional,
        min_price=instrument.min_price,
        max_price=instrument.max_price,
        max_leverage=instrument.max_leverage,
        category=instrument.category,
        status=instrument.status,
        base_coin=instrument.base_coin,
        quote_coin=instrument.quote_coin,
        settle_coin=instrument.settle_coin,
        funding_interval_minutes=instrument.funding_interval_minutes,
    )


@cache
def valkey() -> redis.Redis:
    """This process's connections to Valkey; it raises redis.RedisError within two seconds."""
    return connect(settings.REDIS_URL)


def latest_frame(symbol: str) -> dict[str, Any] | None:
    """The newest market frame of a symbol (a ``market_data`` message), or None when no engine feeds it now.

    Raises:
        MarketUnavailable: Valkey does not answer.
    """
    try:
        body = valkey().hget(LATEST_KEY, symbol)
    except redis.RedisError as error:
        raise MarketUnavailable(f"market frames cannot be read: {error}") from error
    return None if body is None else orjson.loads(body)


def market_summary() -> dict[str, Any] | None:
    """The newest one-line-per-symbol summary of all engines (a ``market_summary`` message). Raises as
    :func:`latest_frame`."""
    try:
        rows = valkey().hgetall(SUMMARY_KEY)
    except redis.RedisError as error:
        raise MarketUnavailable(f"the market summary cannot be read: {error}") from error
    if not rows:
        return None
    data = [orjson.loads(rows[symbol]) for symbol in sorted(rows)]
    return {"type": "market_summary", "timestamp": time.time_ns() // 1_000_000, "data": data}


def reference_price(symbol: str) -> Decimal | None:
    """The mark price, or the last one, that market orders are valued at; None when the market is silent."""
    try:
        frame = latest_frame(symbol)
    except MarketUnavailable:
        return None
    data: Mapping[str, Any] = (frame or {}).get("data", {})
    price = data.get("mark") or data.get("last")
    return Decimal(str(price)) if price else None


def candles(symbol: str, interval: str, limit: int, before: datetime | None = None) -> list[Candle]:
    """The newest ``limit`` closed candles that start before a moment, oldest first."""
    rows = Candle.objects.filter(instrument__symbol=symbol, instrument__category="linear", interval=interval)
    if before is not None:
        rows = rows.filter(start__lt=before)
    return list(rows.order_by("-start")[:limit])[::-1]


def feed_events(symbol: str | None, kind: str | None, limit: int) -> list[FeedEvent]:
    """The newest events of feeds, newest first."""
    rows = FeedEvent.objects.all()
    if symbol is not None:
        rows = rows.filter(symbol=symbol)
    if kind is not None:
        rows = rows.filter(kind=kind)
    return list(rows[:limit])


def detections(symbol: str | None, kind: str | None, since: datetime | None) -> QuerySet[Detection]:
    """What was detected, newest first; ``since`` is the venue's time of the detection, included."""
    rows = Detection.objects.all()
    if symbol is not None:
        rows = rows.filter(symbol=symbol)
    if kind is not None:
        rows = rows.filter(kind=kind)
    if since is not None:
        rows = rows.filter(detected_at__gte=since)
    return rows
