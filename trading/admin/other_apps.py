"""What apps below this one show of accounts: they do not know who may see which."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from audit.admin import AlertAdmin, AuditEventAdmin
from audit.models import Alert, AuditEvent
from risk.admin import PositionPolicyAdmin, RiskLimitAdmin
from risk.models import PositionPolicy, RiskLimit
from strategies.admin import SignalAdmin, StrategyConfigAdmin
from strategies.models import Signal, StrategyConfig
from trading.admin.tenancy import OfAccounts
from trading.models import Account
from trading.permissions import accounts_visible_to
from trading.selectors import visible_alerts, visible_events


@admin.register(AuditEvent)
class TrailAdmin(AuditEventAdmin):
    """Staff see the trail of the accounts that they may see; the platform's with the permission for it."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        return visible_events(request.user)


@admin.register(Alert)
class AlertsOfAccountsAdmin(AlertAdmin):
    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        return visible_alerts(request.user)


@admin.register(StrategyConfig)
class StrategiesOfAccountsAdmin(OfAccounts, StrategyConfigAdmin):
    pass


@admin.register(Signal)
class SignalsOfAccountsAdmin(OfAccounts, SignalAdmin):
    pass


@admin.register(RiskLimit)
class LimitsOfAccountsAdmin(OfAccounts, RiskLimitAdmin):
    """The platform's limits are everybody's to know, a user's are theirs."""

    def visible(self, rows: QuerySet[RiskLimit], user: Any) -> QuerySet[RiskLimit]:
        own = accounts_visible_to(user)
        shared = Q(level=RiskLimit.Level.PLATFORM) | Q(user=user)
        return rows.filter(shared | Q(account__in=own) | Q(strategy__account__in=own))

    def account_of(self, row: RiskLimit) -> Account | None:
        return row.account if row.strategy is None else row.strategy.account


@admin.register(PositionPolicy)
class PoliciesOfAccountsAdmin(OfAccounts, PositionPolicyAdmin):
    """The one without an account holds for all that have none of their own."""

    def visible(self, rows: QuerySet[PositionPolicy], user: Any) -> QuerySet[PositionPolicy]:
        return rows.filter(Q(account=None) | Q(account__in=accounts_visible_to(user)))
