from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketdata.models import Instrument, PriceField
from trading.models.account import Account, mode_field
from trading.models.order import Side


class Position(models.Model):
    """One position from its opening to its close (one-way mode); a new row begins with the next opening."""

    class State(models.TextChoices):
        OPENING = "opening", "opening"
        OPEN = "open", "open"
        CLOSING = "closing", "closing"
        CLOSED = "closed", "closed"

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="positions")
    mode = mode_field()
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, related_name="+")
    side = models.CharField(max_length=4, choices=Side.choices)
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    quantity = PriceField()
    entry_price = PriceField()
    leverage = PriceField(default=10)
    mark_price = PriceField(null=True, blank=True)
    liquidation_price = PriceField(null=True, blank=True)
    take_profit = PriceField(null=True, blank=True)
    stop_loss = PriceField(null=True, blank=True)
    realised_pnl = PriceField(default=0, help_text="before fees")
    fees = PriceField(default=0)
    funding = PriceField(default=0, help_text="received (positive) and paid, apart from the realised PnL")
    strategy = models.CharField(max_length=40, default="manual")
    trace_id = models.CharField(max_length=64, blank=True, help_text="of the order that opened it")
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "instrument"], condition=~Q(state="closed"), name="trading_position_one_open"
            ),
            models.CheckConstraint(condition=Q(quantity__gte=0), name="trading_position_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity} {self.instrument_id}"


class ReconciliationRun(models.Model):
    """One comparison of our records with the venue's, and what differed."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="reconciliations")
    mode = mode_field()
    trigger = models.CharField(max_length=16)
    started_at = models.DateTimeField(db_index=True)
    finished_at = models.DateTimeField()
    succeeded = models.BooleanField()
    error = models.TextField(blank=True)
    refusal = models.TextField(blank=True, help_text="why the account must not trade although the venue answered")
    differences = models.JSONField(default=list)
    complete = models.BooleanField(default=True, help_text="off: one thing that the stream told, nothing was compared")

    class Meta:
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return f"{self.account_id} {self.trigger} {len(self.differences)} differences"
