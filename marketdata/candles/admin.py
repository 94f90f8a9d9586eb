from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import Count, Max, Min, QuerySet, Sum
from django.http import HttpRequest
from django.utils.html import format_html

from audit.admin import CappedPaginator, TracedAdmin
from audit.admin import ReadOnlyAdmin as ReadOnly
from marketdata.candles.findings import time_text
from marketdata.candles.models import ArchiveImport, ArchiveSeries


@admin.register(ArchiveSeries)
class ArchiveSeriesAdmin(ReadOnly):
    """Past bars and funding rates that backtests read; brought by `manage.py candles_import` and the API."""

    list_display = (
        "symbol",
        "interval",
        "market",
        "venue",
        "first",
        "last",
        "bars",
        "missing_bars",
        "updated_at",
    )
    list_filter = ("venue", "market", "interval")
    search_fields = ("symbol",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ArchiveSeries]:
        sums = {"first_ms": Min, "last_ms": Max, "count": Sum, "missing": Sum}
        named = {f"found_{name}": kind(f"months__{name}") for name, kind in sums.items()}
        return super().get_queryset(request).annotate(months_stored=Count("months"), **named)

    @admin.display(description="from", ordering="found_first_ms")
    def first(self, row: ArchiveSeries) -> str:
        return _time(row.found_first_ms)  # type: ignore[attr-defined]

    @admin.display(description="to", ordering="found_last_ms")
    def last(self, row: ArchiveSeries) -> str:
        return _time(row.found_last_ms)  # type: ignore[attr-defined]

    @admin.display(ordering="found_count")
    def bars(self, row: ArchiveSeries) -> int:
        return row.found_count or 0  # type: ignore[attr-defined]

    @admin.display(description="missing within months", ordering="found_missing")
    def missing_bars(self, row: ArchiveSeries) -> int:
        return row.found_missing or 0  # type: ignore[attr-defined]


@admin.register(ArchiveImport)
class ArchiveImportAdmin(TracedAdmin):
    """Who brought what into the archive, and what was wrong with it."""

    list_display = ("created_at", "actor", "symbol", "interval", "market", "venue", "source", "outcome", "rows", "bars")
    list_filter = ("outcome", "venue", "market", "interval")
    search_fields = ("symbol", "actor", "source")
    fields = (*list_display, "shown_report", "trace")
    readonly_fields = ("shown_report", "trace")  # type: ignore[assignment]
    paginator = CappedPaginator
    show_full_result_count = False

    @admin.display(description="report")
    def shown_report(self, row: ArchiveImport) -> str:
        return format_html("<pre>{}</pre>", json.dumps(row.report, indent=2))


def _time(at_ms: int | None) -> str:
    return "" if at_ms is None else time_text(at_ms)
