from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from audit.admin import TracedAdmin, trace_links
from trading.admin.books import BooksAdmin, BooksFilter
from trading.admin.tenancy import OfAccounts
from trading.models import Fill, Order, OrderAmendment, OrderTransition, Position
from trading.permissions import may_trade
from trading.services.order_refusals import OrderNotCancellable
from trading.services.orders import order_cancel_request


class ReadOnlyInline(admin.TabularInline):
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TransitionInline(ReadOnlyInline):
    model = OrderTransition
    fields = readonly_fields = ("created_at", "event", "source", "target", "cause", "payload")


class AmendmentInline(ReadOnlyInline):
    model = OrderAmendment
    fields = readonly_fields = (
        "created_at",
        "quantity_before",
        "price_before",
        "quantity",
        "price",
        "outcome",
        "actor",
        "cause",
        "sent_at",
        "decided_at",
    )


@admin.register(Order)
class OrderAdmin(OfAccounts, BooksAdmin, TracedAdmin):
    list_display = (
        "created_at",
        "account",
        "books",
        "instrument",
        "side",
        "order_type",
        "quantity",
        "price",
        "filled_quantity",
        "state",
        "strategy",
        "refusal",
    )
    list_filter = (BooksFilter, "state", "side", "order_type", "strategy", "account")
    search_fields = ("client_order_id", "venue_order_id", "trace_id", "instrument__symbol")
    date_hierarchy = "created_at"
    list_select_related = ("account", "instrument")
    inlines = (AmendmentInline, TransitionInline)
    actions = ("cancel_orders",)

    @admin.action(description="Cancel the chosen orders", permissions=["view"])
    def cancel_orders(self, request: HttpRequest, rows: QuerySet[Order]) -> None:
        asked = 0
        for order in rows.select_related("account"):
            # Orders cannot be changed here, so Django's permission to change them says nothing.
            if not may_trade(request.user, order.account):
                self.message_user(request, f"{order}: you may not trade on {order.account}", messages.ERROR)
                continue
            try:
                order_cancel_request(order=order, actor=request.user.get_username(), reason="cancelled in the admin")
                asked += 1
            except OrderNotCancellable as error:
                self.message_user(request, str(error), messages.WARNING)
        self.message_user(request, f"Cancels asked for: {asked}.")


@admin.register(Fill)
class FillAdmin(OfAccounts, BooksAdmin, TracedAdmin):
    list_display = (
        "executed_at",
        "account",
        "books",
        "instrument",
        "side",
        "price",
        "quantity",
        "fee",
        "realised_pnl",
        "is_maker",
    )
    list_filter = (BooksFilter, "account", "side", "is_maker", "execution_type")
    search_fields = ("execution_id", "order__client_order_id", "instrument__symbol")
    date_hierarchy = "executed_at"
    list_select_related = ("account", "instrument")

    @admin.display(description="trace")
    def trace(self, fill: Fill) -> str:
        return trace_links(fill.order.trace_id if fill.order else "")


@admin.register(Position)
class PositionAdmin(OfAccounts, BooksAdmin, TracedAdmin):
    list_display = (
        "opened_at",
        "account",
        "books",
        "instrument",
        "side",
        "quantity",
        "entry_price",
        "realised_pnl",
        "state",
    )
    list_filter = (BooksFilter, "state", "account", "side")
    search_fields = ("instrument__symbol",)
    list_select_related = ("account", "instrument")
