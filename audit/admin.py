from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from audit.models import AuditEvent, ComponentHeartbeat


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that only the platform writes: people look, search and filter."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "chain", "sequence", "action", "subject", "actor", "reason")
    list_filter = ("action", "chain")
    search_fields = ("subject", "actor", "reason", "trace_id", "action")
    date_hierarchy = "created_at"
    ordering = ("-created_at", "-sequence")


@admin.register(ComponentHeartbeat)
class ComponentHeartbeatAdmin(ReadOnlyAdmin):
    list_display = ("component", "instance", "status", "updated_at")
