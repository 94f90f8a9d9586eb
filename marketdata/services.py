from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from audit import bus
from audit.valkey import connect
from marketdata.depth.heat import HeatMinute
from marketdata.depth.hot import HotDepth
from marketdata.depth.snapshots import Market
from marketdata.engine.detectors.detection import Detection as DetectionValue
from marketdata.engine.detectors.detection import plain_evidence
from marketdata.events import Candle as CandleEvent
from marketdata.events import FeedEvent as FeedEventValue
from marketdata.instruments import InstrumentRules
from marketdata.models import Candle, Detection, FeedEvent, Instrument

LATEST_KEY = f"{settings.REDIS_PREFIX}:market:latest"
SUMMARY_KEY = f"{settings.REDIS_PREFIX}:market:summary-rows"
# What nobody refreshes is not the market any more.
LATEST_SECONDS = 30
FEED_EVENTS_KEPT = timedelta(days=14)
CANDLES_A_STATEMENT = 2_000
CANDLE_VALUES = ("open", "high", "low", "close", "volume", "turnover")
# A past of 120,000 candles is stored while the market runs: through model instances it would take most of a minute of
# the engine's processor.
STORE_CANDLES = f"""
INSERT INTO {Candle._meta.db_table} (instrument_id, interval, start, {", ".join(CANDLE_VALUES)})
SELECT * FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[]{", %s::numeric[]" * len(CANDLE_VALUES)})
ON CONFLICT (instrument_id, interval, start)
DO UPDATE SET {", ".join(f"{name} = EXCLUDED.{name}" for name in CANDLE_VALUES)}
"""  # noqa: S608 - names of our own


@transaction.atomic
def instruments_sync(listed: Iterable[InstrumentRules], *, venue: str = "bybit") -> int:
    """Keep our instruments equal to what the venue lists; returns how many it listed. One that it no longer lists is
    closed, never deleted: orders and fills refer to it."""
    rows = [
        Instrument(
            venue=venue,
            category=rules.category,
            symbol=rules.symbol,
            status=rules.status,
            base_coin=rules.base_coin,
            quote_coin=rules.quote_coin,
            settle_coin=rules.settle_coin,
            tick_size=rules.tick_size,
            lot_size=rules.lot_size,
            min_quantity=rules.min_quantity,
            max_quantity=rules.max_quantity,
            max_market_quantity=rules.max_market_quantity,
            min_notional=rules.min_notional,
            min_price=rules.min_price,
            max_price=rules.max_price,
            max_leverage=rules.max_leverage,
            funding_interval_minutes=rules.funding_interval_minutes,
        )
        for rules in listed
    ]
    if not rows:
        return 0
    names = [field.name for field in Instrument._meta.concrete_fields if field.name not in ("id",)]
    keys = ["venue", "category", "symbol"]
    Instrument.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=keys, update_fields=[name for name in names if name not in keys]
    )
    for category in {row.category for row in rows}:
        symbols = [row.symbol for row in rows if row.category == category]
        gone = Instrument.objects.filter(venue=venue, category=category).exclude(symbol__in=symbols)
        gone.exclude(status=Instrument.Status.CLOSED).update(status=Instrument.Status.CLOSED)
    bus.engines_doorbell("instruments")
    return len(rows)


def candles_store(candles: Iterable[CandleEvent], instrument_ids: Mapping[str, int]) -> int:
    """Store closed candles of known instruments; one that is stored already is replaced by the venue's latest word."""
    newest = {
        (candle.symbol, candle.interval, candle.start_ms): candle
        for candle in candles
        if candle.closed and candle.symbol in instrument_ids
    }
    # In one order, or two that store the same candles at once may wait for each other.
    rows = [newest[key] for key in sorted(newest)]
    with connection.cursor() as cursor:
        for start in range(0, len(rows), CANDLES_A_STATEMENT):
            some = rows[start : start + CANDLES_A_STATEMENT]
            columns: list[Any] = [
                [instrument_ids[candle.symbol] for candle in some],
                [candle.interval for candle in some],
                [datetime.fromtimestamp(candle.start_ms / 1000, tz=UTC) for candle in some],
                *([getattr(candle, name) for candle in some] for name in CANDLE_VALUES),
            ]
            cursor.execute(STORE_CANDLES, columns)
    return len(rows)


def feed_events_store(events: Iterable[FeedEventValue]) -> int:
    """Store what happened to feeds; returns how many rows that made."""
    rows = [
        FeedEvent(
            kind=event.kind.value,
            venue=event.venue,
            market_type=event.market_type,
            symbol=event.symbol,
            # PostgreSQL's texts hold no NUL, and a refused frame may.
            message=event.message.replace("\0", ""),
            metadata=dict(event.metadata),
            happened_at=datetime.fromtimestamp(event.time_ns / 1e9, tz=UTC),
        )
        for event in events
    ]
    FeedEvent.objects.bulk_create(rows, batch_size=1_000)
    return len(rows)


def feed_events_prune() -> int:
    """Forget events older than they are kept; returns how many."""
    deleted, _ = FeedEvent.objects.filter(happened_at__lt=timezone.now() - FEED_EVENTS_KEPT).delete()
    return deleted


def detections_store(detections: Iterable[DetectionValue]) -> int:
    """Store what was detected, each event once; returns how many were given."""
    rows = [
        Detection(
            symbol=each.symbol,
            kind=each.kind.name,
            side=each.side,
            low=each.low,
            high=each.high,
            score=each.score,
            began_at=_moment(each.begin_ms),
            detected_at=_moment(each.detected_ms),
            evidence=plain_evidence(each.evidence),
            reason=each.reason,
        )
        for each in detections
    ]
    Detection.objects.bulk_create(rows, batch_size=1_000, ignore_conflicts=True)
    return len(rows)


def detections_prune() -> int:
    """Forget detections older than they are kept; returns how many."""
    kept = timedelta(days=settings.DETECTIONS_DAYS)
    deleted, _ = Detection.objects.filter(detected_at__lt=timezone.now() - kept).delete()
    return deleted


def _moment(venue_ms: int) -> datetime:
    return datetime.fromtimestamp(venue_ms / 1000, tz=UTC)


class LatestFrames:
    """Keeps each symbol's newest market frame in Valkey, for REST and for pages that open between two frames."""

    def __init__(self) -> None:
        self._redis = connect(settings.REDIS_URL)
        self._depth = HotDepth(self._redis, settings.REDIS_PREFIX)

    def store(
        self,
        frames: Mapping[str, str],
        summary_rows: Mapping[str, str] | None,
        depths: Mapping[tuple[Market, str], Mapping[str, Any]] | None = None,
        heats: Iterable[HeatMinute] = (),
    ) -> None:
        """Keep what changed, by symbol: other engines keep theirs beside it. ``depths``: books as depth analytics show
        them; ``heats``: what rests at which price, for the collector.

        Raises redis.RedisError while the cache is away; the next frames make up for it.
        """
        pipeline = self._redis.pipeline(transaction=False)
        if frames:
            pipeline.hset(LATEST_KEY, items=list(chain.from_iterable(frames.items())))
            pipeline.expire(LATEST_KEY, LATEST_SECONDS)
        if summary_rows:
            pipeline.hset(SUMMARY_KEY, items=list(chain.from_iterable(summary_rows.items())))
            pipeline.expire(SUMMARY_KEY, LATEST_SECONDS)
        pipeline.execute()
        self._depth.latest_put(depths or {})
        self._depth.heat_put(heats)
