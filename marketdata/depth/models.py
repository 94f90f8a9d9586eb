from __future__ import annotations

from typing import Any

from django.core.validators import RegexValidator
from django.db import models

from marketdata.depth.snapshots import DEPTHS, Market

VOLUMES = ("bid_volume", "ask_volume", "bid_volume_usd", "ask_volume_usd")
MARKETS = [(market.value, market.value.lower()) for market in Market]


class NumericField(models.Field):
    """A decimal of any length, exact, without a column's fixed number of decimals."""

    description = "decimal"

    def db_type(self, connection: Any) -> str:
        return "numeric"


class DepthSeries(models.Model):
    """One line of history: one depth of one symbol's book of one market. Rows of minutes name it by its number, which
    is a quarter of their size."""

    id = models.AutoField(primary_key=True)
    symbol = models.CharField(max_length=32)
    market_type = models.CharField(max_length=8, choices=MARKETS)
    depth = models.SmallIntegerField(choices=[(depth, f"{depth / 10:g} %") for depth in DEPTHS], help_text="per mille")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["symbol", "market_type", "depth"], name="marketdata_depth_series_once")
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.market_type} {self.depth / 10:g} %"


class DepthRow(models.Model):
    """One minute of one series. Partitioned by day in the database (``marketdata.depth.partitions``); old days are
    packed, so read through ``marketdata.depth.selectors``."""

    pk = models.CompositePrimaryKey("series_id", "minute")
    series = models.ForeignKey(DepthSeries, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False)
    minute = models.DateTimeField()
    bid_volume = NumericField()
    ask_volume = NumericField()
    bid_volume_usd = NumericField()
    ask_volume_usd = NumericField()
    bid_covered = models.BooleanField()
    ask_covered = models.BooleanField()

    def __str__(self) -> str:
        return f"series {self.series_id} {self.minute:%Y-%m-%d %H:%M}"


class DepthPack(models.Model):
    """A day of one series, packed (``marketdata.depth.packing``)."""

    pk = models.CompositePrimaryKey("series_id", "day")
    series = models.ForeignKey(DepthSeries, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False)
    day = models.DateField(db_index=True)
    rows = models.SmallIntegerField()
    body = models.BinaryField()

    def __str__(self) -> str:
        return f"series {self.series_id} {self.day}"


class DepthAggregate(models.Model):
    """A series over a longer time: how many minutes, and of each volume the sum, the least and the largest. Means are
    made of the sums, so that days of hours are exact. ``bid_covered_count``: in how many minutes every bid of the depth
    was known."""

    pk = models.CompositePrimaryKey("series_id", "start")
    series = models.ForeignKey(DepthSeries, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False)
    start = models.DateTimeField(db_index=True)
    count = models.IntegerField()
    bid_covered_count = models.IntegerField(default=0)
    ask_covered_count = models.IntegerField(default=0)
    bid_volume_sum = NumericField()
    bid_volume_min = NumericField()
    bid_volume_max = NumericField()
    ask_volume_sum = NumericField()
    ask_volume_min = NumericField()
    ask_volume_max = NumericField()
    bid_volume_usd_sum = NumericField()
    bid_volume_usd_min = NumericField()
    bid_volume_usd_max = NumericField()
    ask_volume_usd_sum = NumericField()
    ask_volume_usd_min = NumericField()
    ask_volume_usd_max = NumericField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"series {self.series_id} {self.start:%Y-%m-%d %H:%M}"

    @property
    def bid_covered(self) -> bool:
        """Whether no bid was unknown in any minute."""
        return self.bid_covered_count == self.count

    @property
    def ask_covered(self) -> bool:
        return self.ask_covered_count == self.count


class DepthHour(DepthAggregate):
    """An hour of minutes."""


class DepthDay(DepthAggregate):
    """A day of hours."""


class DepthHeatMinute(models.Model):
    """One minute of a book's volume by price (``marketdata.depth.heat_packing``), until its hour is packed."""

    pk = models.CompositePrimaryKey("symbol", "market_type", "minute")
    symbol = models.CharField(max_length=32)
    market_type = models.CharField(max_length=8, choices=MARKETS)
    minute = models.DateTimeField(db_index=True)
    body = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.symbol} {self.market_type} {self.minute:%Y-%m-%d %H:%M}"


class DepthHeatHour(models.Model):
    """An hour of those, packed."""

    pk = models.CompositePrimaryKey("symbol", "market_type", "hour")
    symbol = models.CharField(max_length=32)
    market_type = models.CharField(max_length=8, choices=MARKETS)
    hour = models.DateTimeField(db_index=True)
    minutes = models.SmallIntegerField()
    body = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.symbol} {self.market_type} {self.hour:%Y-%m-%d %H}"


class DepthStaleHour(models.Model):
    """An hour that got rows since its aggregates were made."""

    hour = models.DateTimeField(primary_key=True)
    marks = models.BigIntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:%M}"


class DepthCollector(models.Model):
    """What the collector process shall do, and which process it is. There is one row."""

    is_running = models.BooleanField(default=True)
    holder = models.CharField(max_length=64, blank=True)
    holder_until = models.DateTimeField(null=True)
    changed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="marketdata_depth_collector_one")]
        permissions = [("operate_depth_collector", "Can start and stop the depth collector and choose its symbols")]

    def __str__(self) -> str:
        return "running" if self.is_running else "stopped"


class DepthSymbol(models.Model):
    """A symbol whose books are collected, on spot and on futures where both list it."""

    class Source(models.TextChoices):
        REST = "rest", "REST, once a minute"
        STREAM = "stream", "websocket, every change"

    symbol = models.CharField(max_length=20, unique=True, validators=[RegexValidator(r"^[A-Z0-9]{5,20}\Z")])
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.REST)
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["symbol"]

    def __str__(self) -> str:
        return self.symbol
