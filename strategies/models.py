from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from marketdata.models import PriceField


class StrategyConfig(models.Model):
    """One strategy run on one account: which rule, on which symbols, with which parameters and size."""

    class Sizing(models.TextChoices):
        PERCENT_OF_BALANCE = "percent", "percent of balance"
        FIXED_USD = "fixed_usd", "fixed amount (USD)"
        MINIMUM = "minimum", "smallest allowed"

    account = models.ForeignKey("trading.Account", on_delete=models.CASCADE, related_name="strategies")
    name = models.SlugField(max_length=40)
    strategy = models.CharField(max_length=40, help_text="key in strategies.registry.STRATEGIES")
    symbols = models.JSONField(default=list, help_text='list of symbols, e.g. ["BTCUSDT"]')
    parameters = models.JSONField(default=dict, blank=True)
    sizing_mode = models.CharField(max_length=16, choices=Sizing.choices, default=Sizing.PERCENT_OF_BALANCE)
    sizing_value = PriceField(default=1, help_text="percent, or USD, by the sizing mode")
    leverage = PriceField(default=10)
    size_by_confidence = models.BooleanField(
        default=False, help_text="a weak signal gets less: from the smallest order to the mode's size"
    )
    adaptive_leverage = models.BooleanField(
        default=False, help_text="leverage by the symbol's volatility instead, see the account's position policy"
    )
    allow_reversal = models.BooleanField(default=True, help_text="an opposite signal closes and opens the other way")
    enabled = models.BooleanField(default=False)
    code = models.CharField(
        max_length=64,
        blank=True,
        default="",
        editable=False,
        help_text="SHA-256 of the strategy's file when it was enabled; empty for built-in ones",
    )
    version = models.PositiveIntegerField(default=1)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "name"], name="strategies_config_name_once")]
        ordering = ["account_id", "name"]

    def __str__(self) -> str:
        return self.name


class Signal(models.Model):
    """What a strategy wanted, and what became of it: vetoed by validation, denied by risk, or ordered. Pending when
    it was made by another engine than the account's owner, until the owner has judged it."""

    class Outcome(models.TextChoices):
        PENDING = "pending", "waits for the account's owner"
        VETOED = "vetoed", "vetoed by validation"
        DENIED = "denied", "denied by risk"
        ORDERED = "ordered", "ordered"

    account = models.ForeignKey("trading.Account", on_delete=models.CASCADE, related_name="signals")
    mode = models.CharField(max_length=5, default="real", editable=False, help_text="the account's, when it was made")
    config = models.ForeignKey(StrategyConfig, null=True, on_delete=models.SET_NULL, related_name="signals")
    strategy = models.CharField(max_length=40)
    code = models.CharField(max_length=64, blank=True, default="", help_text="of the file that made it, as above")
    symbol = models.CharField(max_length=32)
    side = models.CharField(max_length=4)
    strength = models.FloatField()
    entry_price = PriceField()
    take_profit = PriceField()
    stop_loss = PriceField()
    reason = models.TextField()
    metadata = models.JSONField(default=dict)
    signalled_at = models.DateTimeField(db_index=True)
    outcome = models.CharField(max_length=8, choices=Outcome.choices)
    verdict = models.JSONField(default=dict)
    refusals = models.JSONField(default=list)
    trace_id = models.CharField(max_length=64, unique=True)
    recorded_at = models.DateTimeField(default=timezone.now)
    lease_epoch = models.BigIntegerField(null=True, help_text="of the symbol's lease, under which it was made")
    reference_price = PriceField(null=True, help_text="what the symbol was worth when it was made")

    class Meta:
        ordering = ["-signalled_at", "-id"]
        indexes = [
            models.Index(fields=["account", "-signalled_at"], name="strategies_signal_recent"),
            models.Index(fields=["account"], name="strategies_signal_pending", condition=models.Q(outcome="pending")),
        ]

    def __str__(self) -> str:
        return f"{self.strategy} {self.side} {self.symbol}"


class StrategySpan(models.Model):
    """A stretch of time in which an engine told a strategy every bar of a symbol and its signals counted. What it then
    said depends on the bars since ``first_bar`` and on ``settings`` alone: a test of these says the same.
    """

    config = models.ForeignKey(StrategyConfig, on_delete=models.CASCADE, related_name="spans")
    version = models.PositiveIntegerField()
    code = models.CharField(max_length=64, blank=True, default="", help_text="of the file, as above")
    settings = models.JSONField(help_text="strategy, parameters and sizing, as that version had them")
    symbol = models.CharField(max_length=32)
    interval = models.CharField(max_length=4)
    engine = models.CharField(max_length=64)
    first_bar = models.DateTimeField(help_text="the start of the first bar that it was told, to warm up")
    begun = models.DateTimeField(help_text="the start of the first bar whose signal counted")
    until = models.DateTimeField(help_text="the end of the last such bar, as far as the database was told")

    class Meta:
        ordering = ["begun", "symbol"]
        indexes = [models.Index(fields=["config", "begun"], name="strategies_span_of_config")]

    def __str__(self) -> str:
        return f"{self.symbol} {self.begun:%Y-%m-%d %H:%M} to {self.until:%H:%M}"


class SignalPerformance(models.Model):
    """What an engine knows of the results of an account's strategies on a symbol, by which their signals are weighted
    (``strategies.weights``). Nobody but the engine that follows the symbol writes it."""

    account = models.ForeignKey("trading.Account", on_delete=models.CASCADE, related_name="+")
    symbol = models.CharField(max_length=32)
    rules = models.JSONField(help_text="strategies.weights.Combining that it was learnt by; under others it is void")
    state = models.JSONField(help_text="strategies.weights.Performance.state")
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "symbol"], name="strategies_performance_once")]

    def __str__(self) -> str:
        return f"performance on {self.symbol}"
