from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from audit.admin import ReadOnlyAdmin
from marketdata.depth.models import DepthCollector, DepthSymbol
from marketdata.depth.services import collector_switch, collector_symbols_add, collector_symbols_remove


@admin.register(DepthSymbol)
class DepthSymbolAdmin(admin.ModelAdmin):
    """The symbols that are collected. Everything goes through the services, and so onto the audit trail."""

    list_display = ("symbol", "source", "added_at")
    list_filter = ("source",)
    search_fields = ("symbol",)
    fields = ("symbol", "source")

    def get_readonly_fields(self, request: HttpRequest, obj: DepthSymbol | None = None) -> tuple[str, ...]:
        return ("symbol",) if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: DepthSymbol, form: Any, change: bool) -> None:
        actor = request.user.get_username()
        collector_symbols_add(symbols=[obj.symbol], source=obj.source, actor=actor)
        obj.pk = DepthSymbol.objects.get(symbol=obj.symbol).pk

    def delete_model(self, request: HttpRequest, obj: DepthSymbol) -> None:
        collector_symbols_remove(symbols=[obj.symbol], actor=request.user.get_username())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[DepthSymbol]) -> None:
        symbols = list(queryset.values_list("symbol", flat=True))
        collector_symbols_remove(symbols=symbols, actor=request.user.get_username())


@admin.register(DepthCollector)
class DepthCollectorAdmin(ReadOnlyAdmin):
    """Whether it shall collect, and which process does."""

    list_display = ("__str__", "holder", "holder_until", "changed_at")
    actions = ("start", "stop")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("marketdata.operate_depth_collector")

    @admin.action(description="Start collecting", permissions=["operate"])
    def start(self, request: HttpRequest, rows: QuerySet[DepthCollector]) -> None:
        collector_switch(running=True, actor=request.user.get_username())

    @admin.action(description="Stop collecting", permissions=["operate"])
    def stop(self, request: HttpRequest, rows: QuerySet[DepthCollector]) -> None:
        collector_switch(running=False, actor=request.user.get_username())
