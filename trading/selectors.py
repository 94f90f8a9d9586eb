from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Prefetch, QuerySet
from django.db.models.functions import Now

from audit.models import Alert
from audit.selectors import alerts_of
from marketdata.selectors import instruments
from strategies.models import Signal, StrategyConfig
from trading.lifecycle import LIVE
from trading.models import Account, EngineSession, EquitySnapshot, Fill, Lease, Order, Position
from trading.permissions import accounts_visible_to, is_staff

LIVE_STATES = sorted(str(state) for state in LIVE)
EQUITY_POINTS = 500


def visible_accounts(user: Any) -> QuerySet[Account]:
    return accounts_visible_to(user).select_related("wallet", "owner")


def visible_orders(user: Any) -> QuerySet[Order]:
    return Order.objects.filter(account__in=accounts_visible_to(user)).select_related("instrument", "account")


def visible_fills(user: Any) -> QuerySet[Fill]:
    return Fill.objects.filter(account__in=accounts_visible_to(user)).select_related("instrument", "order")


def visible_positions(user: Any) -> QuerySet[Position]:
    """Open positions of the accounts a user may see."""
    rows = Position.objects.filter(account__in=accounts_visible_to(user)).exclude(state=Position.State.CLOSED)
    return rows.select_related("instrument", "account")


def visible_signals(user: Any) -> QuerySet[Signal]:
    return Signal.objects.filter(account__in=accounts_visible_to(user))


def visible_strategies(user: Any) -> QuerySet[StrategyConfig]:
    return StrategyConfig.objects.filter(account__in=accounts_visible_to(user)).select_related("account")


def visible_alerts(user: Any) -> QuerySet[Alert]:
    """Alerts of the accounts a user may see; those of the platform are for staff."""
    return alerts_of(accounts_visible_to(user).values("pk"), platform=is_staff(user))


def live_orders(account: Account) -> QuerySet[Order]:
    return Order.objects.filter(account=account, state__in=LIVE_STATES).select_related("instrument", "account")


def equity_curve(account: Account, points: int = EQUITY_POINTS) -> list[EquitySnapshot]:
    """The newest points of the equity curve, oldest first."""
    return list(EquitySnapshot.objects.filter(account=account).order_by("-taken_at")[:points])[::-1]


def engine_sessions() -> QuerySet[EngineSession]:
    """Living engines with the leases that they hold."""
    living = EngineSession.objects.filter(ended=False, expires_at__gt=Now()).order_by("name", "pk")
    return living.prefetch_related(Prefetch("leases", queryset=Lease.objects.order_by("resource")))


def symbols_without_engine() -> list[str]:
    """Symbols that engines have followed and should follow, and none does now."""
    living = EngineSession.objects.filter(ended=False, expires_at__gt=Now())
    free = Lease.objects.exclude(session__in=living).filter(resource__startswith="symbol:")
    symbols = {resource.removeprefix("symbol:") for resource in free.values_list("resource", flat=True)}
    if symbols:
        listed = set(instruments().filter(symbol__in=symbols).values_list("symbol", flat=True))
        symbols = {symbol for symbol in listed if not settings.SYMBOLS or symbol in settings.SYMBOLS}
    return sorted(symbols)
