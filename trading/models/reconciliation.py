from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketdata.models import Instrument, PriceField
from trading.models.account import Account, mode_field
from trading.models.order import Fill, Order, Side
from trading.models.position import Position, ReconciliationRun


class AccountReconciliation(models.Model):
    """How an account is compared with its venue in one mode: what its managers chose, and how far it has come."""

    class ForeignOrders(models.TextChoices):
        ADOPT = "adopt", "adopt: into our books, as ours to cancel"
        FLAG = "flag", "flag: told and counted as exposure, left to whoever placed them"

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="comparisons")
    mode = mode_field()
    foreign_orders = models.CharField(max_length=8, choices=ForeignOrders.choices, default=ForeignOrders.ADOPT)
    failures = models.PositiveIntegerField(default=0, editable=False, help_text="comparisons failed in a row")
    trouble = models.TextField(blank=True, editable=False, help_text="why the last one failed")
    hedge_mode = models.BooleanField(default=False, editable=False)
    asked_at = models.DateTimeField(null=True, editable=False, help_text="when somebody last wanted a comparison")
    ledger_read_through = models.DateTimeField(null=True, editable=False)
    ledger_compared_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["account", "mode"]
        constraints = [models.UniqueConstraint(fields=["account", "mode"], name="trading_reconciliation_once")]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.foreign_orders} foreign orders"


class Discrepancy(models.Model):
    """One difference between our records and the venue's. Open (``resolved_at`` is empty) while it lasts; what the
    comparison itself put right is closed from the start."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="discrepancies")
    mode = mode_field()
    run = models.ForeignKey(ReconciliationRun, on_delete=models.CASCADE, related_name="found")
    kind = models.CharField(max_length=24)
    subject = models.CharField(max_length=100)
    ours = models.TextField()
    theirs = models.TextField()
    amount = PriceField(null=True, blank=True, help_text="theirs less ours, where it is an amount")
    first_seen_at = models.DateTimeField(db_index=True)
    last_seen_at = models.DateTimeField()
    sightings = models.PositiveIntegerField(default=1)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolution = models.TextField(blank=True)

    class Meta:
        ordering = ["-last_seen_at", "-id"]
        verbose_name_plural = "discrepancies"
        constraints = [
            models.UniqueConstraint(
                fields=["account", "mode", "kind", "subject"],
                condition=Q(resolved_at=None),
                name="trading_discrepancy_open_once",
            )
        ]
        indexes = [models.Index(fields=["account", "-last_seen_at"], name="trading_discrepancy_recent")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


class ForeignOrder(models.Model):
    """A working order of the venue that is not ours and was not adopted. It may still fill: it counts as exposure until
    it is gone. One with the quantity 0 closes what the position is when its price comes: it cannot be adopted before,
    and can add nothing to what is at stake."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="foreign_orders")
    mode = mode_field()
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, related_name="+")
    venue_order_id = models.CharField(max_length=64)
    client_order_id = models.CharField(max_length=64, blank=True)
    side = models.CharField(max_length=4, choices=Side.choices)
    order_type = models.CharField(max_length=8)
    time_in_force = models.CharField(max_length=8)
    quantity = PriceField()
    filled_quantity = PriceField(default=0)
    price = PriceField(null=True, blank=True)
    reduce_only = models.BooleanField(default=False)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-first_seen_at"]
        constraints = [
            models.UniqueConstraint(fields=["account", "mode", "venue_order_id"], name="trading_foreign_order_once")
        ]
        indexes = [
            models.Index(fields=["account"], name="trading_foreign_order_open", condition=Q(gone_at=None)),
        ]

    @property
    def amount(self) -> str:
        """Its quantity as people read it."""
        return f"{self.quantity:f}" if self.quantity else "the whole position"

    def __str__(self) -> str:
        return self.client_order_id or self.venue_order_id


class LedgerEntry(models.Model):
    """One movement of money as the venue booked it, kept exactly once. ``change = cash_flow + funding - fee``, in
    ``currency``; ``balance`` is the coin's after it."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="ledger")
    mode = mode_field()
    venue_id = models.CharField(max_length=128)
    kind = models.CharField(max_length=40, help_text="the venue's word: TRADE, SETTLEMENT (funding), TRANSFER_IN, ...")
    category = models.CharField(max_length=16, blank=True)
    symbol = models.CharField(max_length=32, blank=True)
    side = models.CharField(max_length=8, blank=True)
    currency = models.CharField(max_length=16)
    quantity = PriceField(default=0)
    price = PriceField(default=0)
    cash_flow = PriceField(default=0)
    funding = PriceField(default=0, help_text="positive: received")
    fee = PriceField(default=0, help_text="positive: paid")
    change = PriceField()
    balance = PriceField(null=True)
    execution_id = models.CharField(max_length=64, blank=True, db_index=True)
    venue_order_id = models.CharField(max_length=64, blank=True)
    client_order_id = models.CharField(max_length=64, blank=True)
    fill = models.ForeignKey(Fill, null=True, blank=True, on_delete=models.PROTECT, related_name="ledger_entries")
    position = models.ForeignKey(Position, null=True, blank=True, on_delete=models.PROTECT, related_name="funding_paid")
    booked_at = models.DateTimeField(help_text="by the venue")
    recorded_at = models.DateTimeField(auto_now_add=True)
    compared = models.BooleanField(default=False, help_text="with the fill or the position that it belongs to")

    class Meta:
        ordering = ["-booked_at", "-id"]
        verbose_name_plural = "ledger entries"
        constraints = [
            models.UniqueConstraint(fields=["account", "mode", "venue_id"], name="trading_ledger_entry_once")
        ]
        indexes = [
            models.Index(fields=["account", "-booked_at"], name="trading_ledger_recent"),
            models.Index(fields=["account"], name="trading_ledger_uncompared", condition=Q(compared=False)),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.change:f} {self.currency}"


class CoinBalance(models.Model):
    """How a coin's balance is explained: what was there before the first entry that we know, and all entries since."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="coin_balances")
    mode = mode_field()
    currency = models.CharField(max_length=16)
    opening_balance = PriceField()
    opened_at = models.DateTimeField()
    explained_balance = PriceField()
    venue_balance = PriceField()
    unexplained_since = models.DateTimeField(null=True, blank=True)
    compared_at = models.DateTimeField()

    class Meta:
        ordering = ["currency"]
        constraints = [
            models.UniqueConstraint(fields=["account", "mode", "currency"], name="trading_coin_balance_once")
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.venue_balance:f} {self.currency}"


class AbsenceReading(models.Model):
    """How often, and since when, the venue says of an order of unknown fate that it has none such; counted only after
    it could not accept it any more."""

    order = models.OneToOneField(Order, on_delete=models.CASCADE, related_name="absence")
    reads = models.PositiveIntegerField(default=0)
    first_read_at = models.DateTimeField()
    last_read_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.order_id}: {self.reads}"
