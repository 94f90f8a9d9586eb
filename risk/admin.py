from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from risk.models import RiskLimit
from risk.services import LIMIT_FIELDS, risk_limit_set


@admin.register(RiskLimit)
class RiskLimitAdmin(admin.ModelAdmin):
    """Limits take effect in every engine at once; each change is on the audit trail."""

    list_display = (
        "level",
        "subject",
        "trading_enabled",
        "max_order_notional",
        "max_position_notional",
        "max_positions",
        "max_daily_loss_percent",
        "max_leverage",
        "updated_at",
    )
    list_filter = ("level", "trading_enabled")
    fields = ("level", "user", "account", "strategy", *LIMIT_FIELDS)
    autocomplete_fields = ("user", "account", "strategy")

    @admin.display(description="applies to")
    def subject(self, limit: RiskLimit) -> str:
        return str(limit.user or limit.account or limit.strategy or "everything")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # What a limit applies to is its identity; another subject is another limit.
        return ("level", "user", "account", "strategy") if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: RiskLimit, form: Any, change: bool) -> None:
        saved = risk_limit_set(
            level=obj.level,
            actor=request.user.get_username(),
            user=obj.user,
            account=obj.account,
            strategy=obj.strategy,
            **{name: getattr(obj, name) for name in LIMIT_FIELDS},
        )
        obj.pk = saved.pk

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Empty its fields instead: then the trail shows what was lifted.
        return False
