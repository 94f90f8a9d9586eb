from __future__ import annotations

from django.contrib import admin

from audit.admin import ReadOnlyAdmin
from marketdata.models import Instrument


@admin.register(Instrument)
class InstrumentAdmin(ReadOnlyAdmin):
    """Listed by the venue; written by the engine alone."""

    list_display = ("symbol", "category", "status", "tick_size", "lot_size", "min_notional", "max_leverage")
    list_filter = ("venue", "category", "status")
    search_fields = ("symbol", "base_coin")
