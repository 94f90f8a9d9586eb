from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from audit.models import Alert, AuditEvent, ComponentHeartbeat
from audit.services import alert_acknowledge


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


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    list_display = ("last_raised_at", "level", "kind", "account_id", "message", "count", "acknowledged_by")
    list_filter = ("level", ("acknowledged_at", admin.EmptyFieldListFilter), "kind")
    search_fields = ("message", "key", "kind")
    date_hierarchy = "raised_at"
    actions = ("acknowledge",)

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("audit.acknowledge_alert")

    @admin.action(description="Acknowledge the chosen alerts", permissions=["acknowledge"])
    def acknowledge(self, request: HttpRequest, rows: QuerySet[Alert]) -> None:
        for alert in rows.filter(acknowledged_at=None):
            alert_acknowledge(alert_id=alert.pk, actor=request.user.get_username())
        self.message_user(request, "The chosen alerts are acknowledged.")
