from __future__ import annotations

from django.db import models

from marketdata.candles.series import INTERVALS
from marketdata.candles.series_key import FUNDING, PriceOf, SeriesKey


class ArchiveSeries(models.Model):
    """One line of the archive: past bars of one length, or funding rates, of one symbol."""

    id = models.AutoField(primary_key=True)
    venue = models.CharField(max_length=16)
    market = models.CharField(max_length=8, choices=[(each.value, each.value) for each in PriceOf])
    symbol = models.CharField(max_length=32)
    interval = models.CharField(max_length=8, choices=[(each, each) for each in (*INTERVALS, FUNDING)])
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["venue", "market", "symbol", "interval"], name="marketdata_archive_series_once"
            )
        ]
        ordering = ["venue", "market", "symbol", "interval"]
        verbose_name_plural = "archive series"

    def __str__(self) -> str:
        return str(self.key)

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(self.venue, self.symbol, self.interval, self.market)


class ArchiveMonth(models.Model):
    """A calendar month (UTC) of one line, packed (``marketdata.candles.packing``). ``missing``: how many bars are not
    there between its first and its last one. ``digest``: SHA-256 of the body."""

    pk = models.CompositePrimaryKey("series_id", "month")
    series = models.ForeignKey(ArchiveSeries, on_delete=models.CASCADE, related_name="months", db_index=False)
    month = models.DateField()
    first_ms = models.BigIntegerField()
    last_ms = models.BigIntegerField()
    count = models.IntegerField()
    missing = models.IntegerField()
    price_decimals = models.SmallIntegerField()
    volume_decimals = models.SmallIntegerField()
    digest = models.BinaryField(max_length=32)
    body = models.BinaryField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(count__gt=0, last_ms__gte=models.F("first_ms")), name="marketdata_archive_month_has"
            )
        ]

    def __str__(self) -> str:
        return f"series {self.series_id} {self.month:%Y-%m}"


class ArchiveImport(models.Model):
    """Who brought what into the archive, when and from where, and what was wrong with it. Of a refused one nothing was
    stored."""

    class Outcome(models.TextChoices):
        STORED = "stored", "stored"
        REFUSED = "refused", "refused"

    created_at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=150)
    source = models.CharField(max_length=255)
    venue = models.CharField(max_length=16)
    market = models.CharField(max_length=8)
    symbol = models.CharField(max_length=32)
    interval = models.CharField(max_length=8)
    outcome = models.CharField(max_length=8, choices=Outcome.choices)
    rows = models.IntegerField(help_text="read")
    bars = models.IntegerField(help_text="new or replaced")
    report = models.JSONField()
    trace_id = models.CharField(max_length=64, blank=True)

    class Meta:
        indexes = [models.Index(fields=["-created_at", "-id"], name="marketdata_archive_newest")]
        ordering = ["-created_at", "-pk"]
        permissions = [("import_candles", "Can bring past bars and funding rates into the archive")]

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M} {self.symbol} {self.interval} {self.outcome}"
