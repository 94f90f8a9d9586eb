from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models

from marketdata.candles.models import ArchiveImport, ArchiveMonth, ArchiveSeries
from marketdata.depth.models import (
    DepthCollector,
    DepthDay,
    DepthHeatHour,
    DepthHeatMinute,
    DepthHour,
    DepthPack,
    DepthRow,
    DepthSeries,
    DepthStaleHour,
    DepthSymbol,
)
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.events import FeedEventKind

__all__ = [
    "ArchiveImport",
    "ArchiveMonth",
    "ArchiveSeries",
    "Candle",
    "DepthCollector",
    "DepthDay",
    "DepthHeatHour",
    "DepthHeatMinute",
    "DepthHour",
    "DepthPack",
    "DepthRow",
    "DepthSeries",
    "DepthStaleHour",
    "DepthSymbol",
    "Detection",
    "FeedEvent",
    "Instrument",
]


def without_trailing_zeros(value: Decimal | None) -> Decimal | None:
    """A column's value as people write it: 0.5, not 0.500000000000000000."""
    if value is None:
        return None
    exponent = value.normalize()
    return exponent.quantize(Decimal(1)) if exponent.as_tuple().exponent > 0 else exponent  # type: ignore[operator]


class PriceField(models.DecimalField):
    """A price, quantity or amount of money: exact, with room for the smallest tick and the largest notional."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("max_digits", 36)
        options.setdefault("decimal_places", 18)
        super().__init__(*args, **options)

    def from_db_value(self, value: Decimal | None, *_: Any) -> Decimal | None:
        return without_trailing_zeros(value)


class Instrument(models.Model):
    """A contract that a venue lists, with the grid and limits that orders on it must keep."""

    class Status(models.TextChoices):
        TRADING = "Trading", "trading"
        PRE_LAUNCH = "PreLaunch", "pre-launch"
        DELIVERING = "Delivering", "delivering"
        CLOSED = "Closed", "closed"

    venue = models.CharField(max_length=16, default="bybit")
    category = models.CharField(max_length=16, default="linear")
    symbol = models.CharField(max_length=32)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.TRADING)
    base_coin = models.CharField(max_length=16)
    quote_coin = models.CharField(max_length=16)
    settle_coin = models.CharField(max_length=16)
    tick_size = PriceField()
    lot_size = PriceField()
    min_quantity = PriceField()
    max_quantity = PriceField()
    max_market_quantity = PriceField()
    min_notional = PriceField()
    min_price = PriceField()
    max_price = PriceField()
    max_leverage = PriceField()
    funding_interval_minutes = models.PositiveIntegerField(default=480)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["venue", "category", "symbol"], name="marketdata_instrument_once"),
            models.CheckConstraint(
                condition=models.Q(tick_size__gt=0, lot_size__gt=0), name="marketdata_instrument_grid_positive"
            ),
        ]
        ordering = ["symbol"]

    def __str__(self) -> str:
        return self.symbol


class Candle(models.Model):
    """One closed bar of one instrument, as the venue reported it."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="candles")
    interval = models.CharField(max_length=4)
    start = models.DateTimeField()
    open = PriceField()
    high = PriceField()
    low = PriceField()
    close = PriceField()
    volume = PriceField()
    turnover = PriceField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["instrument", "interval", "start"], name="marketdata_candle_once")
        ]

    def __str__(self) -> str:
        return f"{self.instrument_id} {self.interval} {self.start:%Y-%m-%d %H:%M}"


class FeedEvent(models.Model):
    """One thing that happened to a market feed: what was missed is known, and why a book was not traded on."""

    kind = models.CharField(max_length=16, choices=[(kind.value, kind.value) for kind in FeedEventKind])
    venue = models.CharField(max_length=16)
    market_type = models.CharField(max_length=16)
    symbol = models.CharField(max_length=32, blank=True)
    message = models.TextField()
    metadata = models.JSONField(default=dict)
    happened_at = models.DateTimeField(db_index=True)

    class Meta:
        # Serves the list of one symbol, newest first.
        indexes = [models.Index(fields=["symbol", "-happened_at"], name="marketdata_feed_event_symbol")]
        ordering = ["-happened_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.kind} {self.venue} {self.market_type} {self.symbol}"


class Detection(models.Model):
    """One thing that the engine saw in a book or its trades, with the evidence. ``side`` is the side of the book that
    it stands on; of flows (HOT_SPOT, TOXICITY, EXPLOSION) bid means that buyers press, ask that sellers do. Times are
    the venue's; ``score`` is 0 to 1: how far beyond the thresholds, not a probability."""

    class Side(models.TextChoices):
        BID = "bid", "bid"
        ASK = "ask", "ask"

    symbol = models.CharField(max_length=32)
    kind = models.CharField(max_length=16, choices=[(kind.name, kind.name) for kind in DetectionKind])
    side = models.CharField(max_length=3, choices=Side.choices)
    low = PriceField()
    high = PriceField()
    score = models.FloatField()
    began_at = models.DateTimeField()
    detected_at = models.DateTimeField()
    evidence = models.JSONField(default=dict)
    reason = models.TextField()

    class Meta:
        constraints = [
            # Also serves the list of one symbol, newest first.
            models.UniqueConstraint(
                fields=["symbol", "detected_at", "kind", "side", "low"], name="marketdata_detection_once"
            )
        ]
        indexes = [
            models.Index(fields=["-detected_at", "-id"], name="marketdata_detection_newest"),
            models.Index(fields=["kind", "-detected_at", "-id"], name="marketdata_detection_kind"),
        ]
        ordering = ["-detected_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.kind} {self.symbol} {self.side} {self.low:f}"
