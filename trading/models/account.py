from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models

from marketdata.models import PriceField


class Mode(models.TextChoices):
    """Which books something belongs to, and where orders go: to the account's venue, or to the paper venue, which
    follows the real market and fills in a simulator."""

    PAPER = "paper", "PAPER"
    REAL = "real", "real"


def mode_field(**options: Any) -> models.CharField:
    """The mode in which a row was made; the database refuses another than its account's (migration paper_accounts)."""
    return models.CharField(max_length=5, choices=Mode.choices, default=Mode.REAL, editable=False, **options)


class Account(models.Model):
    """One trading account at a venue: who owns it, where it is, and its encrypted keys."""

    class Environment(models.TextChoices):
        SIMULATOR = "simulator", "simulator"
        TESTNET = "testnet", "testnet"
        LIVE = "live", "LIVE"

    class TradingState(models.TextChoices):
        ACTIVE = "active", "active"
        HALTED = "halted", "halted"

    name = models.CharField(max_length=60, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="owned_accounts")
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Membership", related_name="accounts")
    venue = models.CharField(max_length=16, default="bybit")
    environment = models.CharField(max_length=16, choices=Environment.choices, default=Environment.SIMULATOR)
    # Paper is what nobody regrets: real trading has to be asked for.
    mode = models.CharField(max_length=5, choices=Mode.choices, default=Mode.PAPER, editable=False)
    live_opt_in = models.BooleanField(default=False, help_text="must be set by a person before a LIVE account trades")
    api_key_encrypted = models.BinaryField(default=bytes, editable=False)
    api_secret_encrypted = models.BinaryField(default=bytes, editable=False)
    # Of the paper venue; nothing that is on paper reads the two above.
    paper_key_encrypted = models.BinaryField(default=bytes, editable=False)
    paper_secret_encrypted = models.BinaryField(default=bytes, editable=False)
    trading_state = models.CharField(max_length=8, choices=TradingState.choices, default=TradingState.ACTIVE)
    halt_reason = models.TextField(blank=True)
    reconciled_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.label

    @property
    def badge(self) -> str:
        """The word that goes with the account's name wherever people read it."""
        return "PAPER" if self.mode == Mode.PAPER else self.environment.upper()

    @property
    def tag(self) -> str:
        """Before a sentence about the account. A simulator's needs none: it can be neither."""
        return "" if self.badge == "SIMULATOR" else f"[{self.badge}] "

    @property
    def label(self) -> str:
        """The name as sentences, lists and choices have it."""
        return f"{self.tag}{self.name}"


class Membership(models.Model):
    """What a user may do on an account."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "viewer (sees)"
        TRADER = "trader", "trader (sees, orders)"
        MANAGER = "manager", "manager (sees, orders, configures)"

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role.choices, default=Role.VIEWER)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "user"], name="trading_membership_once")]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.account}"


class Wallet(models.Model):
    """The account's balances as the venue last reported them."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="wallet")
    equity = PriceField(default=0)
    wallet_balance = PriceField(default=0)
    available_balance = PriceField(default=0)
    initial_margin = PriceField(default=0)
    maintenance_margin = PriceField(default=0)
    day_start_equity = PriceField(default=0, help_text="equity at the first report of the UTC day")
    day = models.DateField(null=True)
    peak_equity = PriceField(default=0, help_text="the highest seen, or since a person began anew")
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.account}: {self.equity}"


class ParkedWallet(models.Model):
    """The wallet of the mode that an account is not in: its values as text, until it is switched back."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="parked_wallets")
    mode = models.CharField(max_length=5, choices=Mode.choices)
    values = models.JSONField()
    parked_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "mode"], name="trading_parked_wallet_once")]

    def __str__(self) -> str:
        return f"{self.account_id} {self.mode}"


class EquitySnapshot(models.Model):
    """One point of the equity curve."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="equity_curve")
    mode = mode_field()
    taken_at = models.DateTimeField()
    equity = PriceField()
    wallet_balance = PriceField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "taken_at"], name="trading_equity_once")]
        ordering = ["taken_at"]

    def __str__(self) -> str:
        return f"{self.account_id} {self.taken_at:%H:%M:%S} {self.equity}"
