from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import models
from django.db.models import F, Q
from django_fsm import GET_STATE, FSMField, FSMModelMixin, transition

from marketdata.models import Instrument, PriceField
from strategies.models import Signal
from trading.lifecycle import BY_FILLED_QUANTITY, LIVE, TRANSITIONS, OrderEvent, OrderState
from trading.models.account import Account, mode_field


class Side(models.TextChoices):
    BUY = "Buy", "buy"
    SELL = "Sell", "sell"


def moves(event: OrderEvent) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A django-fsm transition whose sources and targets are the row of the life-cycle table."""
    table = TRANSITIONS[event]
    reached = set(table.values())
    if event in BY_FILLED_QUANTITY:
        reached |= {OrderState.PARTIALLY_FILLED, OrderState.FILLED, OrderState.PENDING_REPLACE}
    return transition(
        field="state",
        source=[str(source) for source in table],
        target=GET_STATE(
            lambda order, *_, **__: str(state_after(order, event)), states=sorted(str(state) for state in reached)
        ),
    )


def state_after(order: Order, event: OrderEvent) -> OrderState:
    """Where a legal event leads this order: what the table says, or what its filled quantity says."""
    reached = TRANSITIONS[event][OrderState(order.state)]
    if event not in BY_FILLED_QUANTITY:
        return reached
    if order.is_replacing:
        # Whether it is complete depends on the outcome.
        return OrderState.PENDING_REPLACE if reached == OrderState.ACKNOWLEDGED else reached
    if order.filled_quantity == order.quantity:
        return OrderState.FILLED
    if reached == OrderState.ACKNOWLEDGED and order.filled_quantity > 0:
        return OrderState.PARTIALLY_FILLED
    return reached


class Order(FSMModelMixin, models.Model):
    """One order, from intent to its end. Its state moves only by the table in trading/lifecycle.py."""

    class OrderType(models.TextChoices):
        MARKET = "Market", "market"
        LIMIT = "Limit", "limit"

    class TimeInForce(models.TextChoices):
        GTC = "GTC", "good till cancelled"
        IOC = "IOC", "immediate or cancel"
        FOK = "FOK", "fill or kill"
        POST_ONLY = "PostOnly", "post only"

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="orders")
    mode = mode_field()
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, related_name="+")
    signal = models.ForeignKey(Signal, null=True, blank=True, on_delete=models.SET_NULL, related_name="orders")
    client_order_id = models.CharField(max_length=36)
    venue_order_id = models.CharField(max_length=64, blank=True, db_index=True)
    strategy = models.CharField(max_length=40, default="manual")
    side = models.CharField(max_length=4, choices=Side.choices)
    order_type = models.CharField(max_length=8, choices=OrderType.choices)
    time_in_force = models.CharField(max_length=8, choices=TimeInForce.choices, default=TimeInForce.GTC)
    quantity = PriceField()
    price = PriceField(null=True, blank=True)
    take_profit = PriceField(null=True, blank=True)
    stop_loss = PriceField(null=True, blank=True)
    reduce_only = models.BooleanField(default=False)
    position_index = models.PositiveSmallIntegerField(
        default=0, help_text="0 in one-way mode; 1 and 2: the long and the short side of an account in hedge mode"
    )
    state = FSMField(
        default=OrderState.NEW, choices=[(str(s), s.value.replace("_", " ")) for s in OrderState], protected=True
    )
    # What an open amendment asks for; empty when there is none. The venue may have taken it already.
    replacing_quantity = PriceField(null=True, blank=True)
    replacing_price = PriceField(null=True, blank=True)
    # The venue's time of the newest report whose quantity and price were booked: older ones are news of the past.
    venue_updated_ms = models.BigIntegerField(default=0)
    filled_quantity = PriceField(default=0)
    average_price = PriceField(null=True, blank=True)
    fees = PriceField(default=0)
    reason = models.TextField(blank=True, help_text="why it was wanted")
    refusal = models.TextField(blank=True, help_text="why it was denied, rejected, cancelled or failed")
    actor = models.CharField(max_length=150, default="engine")
    trace_id = models.CharField(max_length=64, db_index=True)
    created_at = models.DateTimeField(db_index=True)
    # When the (last) request left, and until when the venue could still accept it: the proof that an UNKNOWN order
    # cannot exist any more needs both.
    sent_at = models.DateTimeField(null=True, blank=True)
    receive_window_ms = models.PositiveIntegerField(default=5000)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "client_order_id"], name="trading_order_id_once"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="trading_order_quantity_positive"),
            models.CheckConstraint(
                condition=Q(filled_quantity__gte=0, filled_quantity__lte=F("quantity")),
                name="trading_order_never_overfilled",
            ),
            models.CheckConstraint(
                condition=Q(order_type="Market") | Q(price__gt=0), name="trading_order_limit_has_price"
            ),
        ]
        indexes = [
            models.Index(
                fields=["account", "state"],
                name="trading_order_live",
                condition=Q(state__in=sorted(str(state) for state in LIVE)),
            ),
            models.Index(fields=["account", "-created_at"], name="trading_order_recent"),
        ]

    def __str__(self) -> str:
        return self.client_order_id

    @property
    def leaves_quantity(self) -> Any:
        """What can still fill; zero once the order has ended."""
        return self.quantity - self.filled_quantity if self.state in LIVE else self.quantity * 0

    @property
    def is_replacing(self) -> bool:
        return self.replacing_quantity is not None

    @property
    def largest_quantity(self) -> Any:
        """The most that it may come to fill, whatever becomes of its amendment."""
        return max(self.quantity, self.replacing_quantity or 0)

    @property
    def highest_price(self) -> Any:
        """What its open quantity is valued at, whatever becomes of its amendment; None for a market order."""
        return max((price for price in (self.price, self.replacing_price) if price is not None), default=None)

    @staticmethod
    def live_states() -> list[str]:
        """The states in which an order may still fill."""
        return sorted(str(state) for state in LIVE)

    @moves(OrderEvent.APPROVE)
    def approve(self) -> None:
        """Risk approved it; from its commit on it may be sent."""

    @moves(OrderEvent.DENY)
    def deny(self) -> None:
        """Risk denied it; it is never sent."""

    @moves(OrderEvent.EXPIRE)
    def expire(self) -> None:
        """The intent grew too old before anyone could send it."""

    @moves(OrderEvent.SUBMIT)
    def submit(self) -> None:
        """The venue answered that it took the request."""

    @moves(OrderEvent.LOSE)
    def lose(self) -> None:
        """The answer was lost: the order may or may not exist."""

    @moves(OrderEvent.ACKNOWLEDGE)
    def acknowledge(self) -> None:
        """The order is on the venue's book."""

    @moves(OrderEvent.FILL_PARTIALLY)
    def fill_partially(self) -> None:
        """An execution that leaves something open."""

    @moves(OrderEvent.FILL_COMPLETELY)
    def fill_completely(self) -> None:
        """The execution that leaves nothing open."""

    @moves(OrderEvent.REQUEST_CANCEL)
    def request_cancel(self) -> None:
        """Somebody wants it cancelled; the venue has not said yes yet."""

    @moves(OrderEvent.REQUEST_REPLACE)
    def request_replace(self) -> None:
        """Somebody wants other values; the venue has not said yes yet."""

    @moves(OrderEvent.REPLACE)
    def replace(self) -> None:
        """The venue's values are booked."""

    @moves(OrderEvent.REFUSE_REPLACE)
    def refuse_replace(self) -> None:
        """Proven not to have been replaced: the order is what it was before."""

    @moves(OrderEvent.REFUSE_CANCEL)
    def refuse_cancel(self) -> None:
        """The venue refused the cancel: the order is what it was before."""

    @moves(OrderEvent.CANCEL)
    def cancel(self) -> None:
        """The venue cancelled it (or its author, before it was sent)."""

    @moves(OrderEvent.REJECT)
    def reject(self) -> None:
        """The venue refused it."""

    @moves(OrderEvent.FAIL)
    def fail(self) -> None:
        """Proven never to have reached the venue."""


class OrderTransition(models.Model):
    """One step in an order's life: from where, to where, when, why, and what the venue said."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="transitions")
    event = models.CharField(max_length=24)
    source = models.CharField(max_length=24)
    target = models.CharField(max_length=24)
    cause = models.TextField(blank=True)
    payload = models.JSONField(default=dict)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return f"{self.order_id}: {self.source} -> {self.target}"


class OrderAmendment(models.Model):
    """One wish for another price or quantity of a working order: who, why, what was sent and what became of it.

    Committed before it is sent, and applied only when the venue's own report says so. At most one is open at a time.
    """

    class Outcome(models.TextChoices):
        REQUESTED = "requested", "requested"  # not yet taken by the account's owner
        SENT = "sent", "sent"
        UNKNOWN = "unknown", "unknown"  # the answer was lost: resolved by reading the order, never by sending again
        APPLIED = "applied", "applied"
        DENIED = "denied", "denied"  # by our risk checks, never sent
        REFUSED = "refused", "refused"  # by the venue
        FAILED = "failed", "failed"  # proven never to have taken effect
        EXPIRED = "expired", "expired"
        OVERTAKEN = "overtaken", "overtaken"  # the order ended, or a cancel was asked for, before it was applied

    OPEN = (Outcome.REQUESTED, Outcome.SENT, Outcome.UNKNOWN)

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="amendments")
    quantity = PriceField()
    price = PriceField()
    quantity_before = PriceField()
    price_before = PriceField()
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.REQUESTED)
    actor = models.CharField(max_length=150)
    reason = models.TextField(blank=True, help_text="why it was wanted")
    cause = models.TextField(blank=True, help_text="what decided it")
    created_at = models.DateTimeField()
    # When the request left, and how long the venue could still accept it: the proof that it can not take effect any
    # more needs both.
    sent_at = models.DateTimeField(null=True, blank=True)
    receive_window_ms = models.PositiveIntegerField(default=5000)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["order"],
                condition=Q(outcome__in=["requested", "sent", "unknown"]),
                name="trading_amendment_one_open",
            ),
            models.CheckConstraint(condition=Q(quantity__gt=0, price__gt=0), name="trading_amendment_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.order_id}: {self.quantity} at {self.price}, {self.outcome}"


class Fill(models.Model):
    """One execution of ours, booked exactly once. Its order is empty when the venue traded without one of ours
    (liquidation, auto-deleveraging, or a person at the venue)."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="fills")
    mode = mode_field()
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, related_name="+")
    order = models.ForeignKey(Order, null=True, blank=True, on_delete=models.PROTECT, related_name="fills")
    execution_id = models.CharField(max_length=64)
    execution_type = models.CharField(max_length=16, default="Trade")
    side = models.CharField(max_length=4, choices=Side.choices)
    price = PriceField()
    quantity = PriceField()
    fee = PriceField(default=0)
    fee_currency = models.CharField(max_length=16, default="USDT")
    is_maker = models.BooleanField(default=False)
    realised_pnl = PriceField(default=0)
    strategy = models.CharField(
        max_length=40, blank=True, default="", help_text="of its order; without one, of the position that it changed"
    )
    executed_at = models.DateTimeField()
    recorded_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-executed_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "mode", "execution_id"], name="trading_fill_once_a_mode"),
            models.CheckConstraint(condition=Q(quantity__gt=0, price__gt=0), name="trading_fill_positive"),
        ]
        indexes = [models.Index(fields=["account", "-executed_at"], name="trading_fill_recent")]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity} @ {self.price}"
