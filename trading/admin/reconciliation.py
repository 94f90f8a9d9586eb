from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest

from audit.admin import ReadOnlyAdmin
from trading.admin.books import BooksAdmin, BooksFilter
from trading.admin.tenancy import OfAccounts
from trading.models import (
    AccountReconciliation,
    CoinBalance,
    Discrepancy,
    ForeignOrder,
    LedgerEntry,
    ReconciliationRun,
)
from trading.permissions import may_manage
from trading.services.ledger import coin_balance_accept
from trading.services.reconciliations import discrepancy_resolve, foreign_orders_set


@admin.register(ReconciliationRun)
class ReconciliationRunAdmin(OfAccounts, BooksAdmin, ReadOnlyAdmin):
    list_display = ("started_at", "account", "books", "trigger", "succeeded", "found", "error", "refusal")
    list_filter = (BooksFilter, "succeeded", "trigger", "account")
    date_hierarchy = "started_at"
    list_select_related = ("account",)

    @admin.display(description="differences")
    def found(self, run: ReconciliationRun) -> int:
        return len(run.differences)


@admin.register(Discrepancy)
class DiscrepancyAdmin(OfAccounts, ReadOnlyAdmin):
    list_display = (
        *("first_seen_at", "account", "kind", "subject", "ours", "theirs", "amount", "sightings"),
        *("resolved_at", "resolution"),
    )
    list_filter = ("kind", "account", ("resolved_at", admin.EmptyFieldListFilter))
    search_fields = ("subject",)
    date_hierarchy = "first_seen_at"
    list_select_related = ("account",)
    actions = ("resolve",)

    @admin.action(description="Settled: I know what it was", permissions=["view"])
    def resolve(self, request: HttpRequest, rows: QuerySet[Discrepancy]) -> None:
        for row in rows.select_related("account"):
            if not may_manage(request.user, row.account):
                self.message_user(request, f"only a manager of {row.account} may settle {row}", messages.ERROR)
                continue
            discrepancy_resolve(discrepancy=row, actor=request.user.get_username(), reason="settled in the admin")


@admin.register(AccountReconciliation)
class AccountReconciliationAdmin(OfAccounts):
    """What becomes of orders at the venue that are not ours; the rest tells how comparing goes."""

    list_display = ("account", "foreign_orders", "failures", "trouble", "hedge_mode", "ledger_compared_at")
    list_select_related = ("account",)
    fields = (
        *("account", "foreign_orders", "failures", "trouble", "hedge_mode", "asked_at"),
        *("ledger_read_through", "ledger_compared_at"),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        told = ("failures", "trouble", "hedge_mode", "asked_at", "ledger_read_through", "ledger_compared_at")
        return told if obj is None else ("account", *told)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: AccountReconciliation, form: Any, change: bool) -> None:
        if not may_manage(request.user, obj.account):
            raise PermissionDenied(f"only a manager of {obj.account} may choose what becomes of foreign orders")
        saved = foreign_orders_set(account=obj.account, policy=obj.foreign_orders, actor=request.user.get_username())
        obj.pk, obj._state.adding = saved.pk, False


@admin.register(ForeignOrder)
class ForeignOrderAdmin(OfAccounts, ReadOnlyAdmin):
    list_display = ("first_seen_at", "account", "instrument", "side", "amount", "filled_quantity", "price", "gone_at")
    list_filter = ("account", ("gone_at", admin.EmptyFieldListFilter))
    search_fields = ("venue_order_id", "client_order_id", "instrument__symbol")
    list_select_related = ("account", "instrument")


@admin.register(LedgerEntry)
class LedgerEntryAdmin(OfAccounts, ReadOnlyAdmin):
    list_display = ("booked_at", "account", "kind", "symbol", "currency", "change", "fee", "funding", "balance")
    list_filter = ("kind", "account", "currency")
    search_fields = ("venue_id", "execution_id", "client_order_id", "symbol")
    date_hierarchy = "booked_at"
    list_select_related = ("account",)


@admin.register(CoinBalance)
class CoinBalanceAdmin(OfAccounts, ReadOnlyAdmin):
    list_display = (
        *("account", "currency", "opening_balance", "explained_balance", "venue_balance"),
        *("unexplained_since", "compared_at"),
    )
    list_filter = ("account", ("unexplained_since", admin.EmptyFieldListFilter))
    list_select_related = ("account",)
    actions = ("accept",)

    @admin.action(description="Accept the venue's balance: I know where the rest comes from", permissions=["view"])
    def accept(self, request: HttpRequest, rows: QuerySet[CoinBalance]) -> None:
        for row in rows.select_related("account"):
            if not may_manage(request.user, row.account):
                self.message_user(request, f"only a manager of {row.account} may accept it", messages.ERROR)
                continue
            actor, reason = request.user.get_username(), "accepted in the admin"
            coin_balance_accept(account_id=row.account_id, currency=row.currency, actor=actor, reason=reason)
