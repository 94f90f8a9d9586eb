from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from risk.models import PositionPolicy, RiskLimit, SymbolGroup
from risk.services import (
    GROUP_FIELDS,
    LIMIT_FIELDS,
    POLICY_FIELDS,
    position_policy_set,
    risk_limit_set,
    symbol_group_set,
)


class RiskLimitAdmin(admin.ModelAdmin):
    """Limits take effect in every engine at once; each change is on the audit trail."""

    list_display = (
        "level",
        "subject",
        "trading_enabled",
        "max_order_notional",
        "max_position_notional",
        "max_positions",
        "max_total_risk_percent",
        "max_daily_loss_percent",
        "max_drawdown_percent",
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


@admin.register(SymbolGroup)
class SymbolGroupAdmin(admin.ModelAdmin):
    """Groups of symbols with limits of their own; each change is on the audit trail."""

    list_display = ("name", "symbols", "max_positions", "max_notional", "updated_at")
    fields = ("name", *GROUP_FIELDS)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name",) if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: SymbolGroup, form: Any, change: bool) -> None:
        values = {name: getattr(obj, name) for name in GROUP_FIELDS}
        obj.pk = symbol_group_set(name=obj.name, actor=request.user.get_username(), **values).pk

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Empty its symbols instead: then the trail shows what was lifted.
        return False


class PositionPolicyAdmin(admin.ModelAdmin):
    """How positions end; engines take a change up at once, for open positions too."""

    list_display = ("__str__", "enabled", "max_loss_percent", "trailing_take_profit", "trailing_stop", "reversal")
    fields = ("account", *POLICY_FIELDS)
    autocomplete_fields = ("account",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("account",) if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: PositionPolicy, form: Any, change: bool) -> None:
        values = {name: getattr(obj, name) for name in POLICY_FIELDS}
        obj.pk = position_policy_set(actor=request.user.get_username(), account=obj.account, **values).pk

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
