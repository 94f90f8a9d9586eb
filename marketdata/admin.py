from __future__ import annotations

from django.contrib import admin

from audit.admin import ReadOnlyAdmin
from marketdata.candles.admin import ArchiveImportAdmin, ArchiveSeriesAdmin
from marketdata.depth.admin import DepthCollectorAdmin, DepthSymbolAdmin
from marketdata.models import Detection, FeedEvent, Instrument

__all__ = [
    "ArchiveImportAdmin",
    "ArchiveSeriesAdmin",
    "DepthCollectorAdmin",
    "DepthSymbolAdmin",
    "DetectionAdmin",
    "FeedEventAdmin",
    "InstrumentAdmin",
]


@admin.register(Instrument)
class InstrumentAdmin(ReadOnlyAdmin):
    """Listed by the venue; written by the engine alone."""

    list_display = ("symbol", "category", "status", "tick_size", "lot_size", "min_notional", "max_leverage")
    list_filter = ("venue", "category", "status")
    search_fields = ("symbol", "base_coin")


@admin.register(FeedEvent)
class FeedEventAdmin(ReadOnlyAdmin):
    """What happened to market feeds, kept for 14 days."""

    list_display = ("happened_at", "kind", "venue", "market_type", "symbol", "message")
    list_filter = ("kind", "venue", "market_type")
    search_fields = ("symbol", "message")
    date_hierarchy = "happened_at"
    show_full_result_count = False


@admin.register(Detection)
class DetectionAdmin(ReadOnlyAdmin):
    """What the engine saw in books and trades, kept for ``DETECTIONS_DAYS``."""

    list_display = ("detected_at", "kind", "symbol", "side", "low", "high", "score", "reason")
    list_filter = ("kind", "side")
    search_fields = ("symbol",)
    date_hierarchy = "detected_at"
    show_full_result_count = False
