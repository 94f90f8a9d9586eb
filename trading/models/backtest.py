from __future__ import annotations

from django.conf import settings
from django.db import models


class BacktestRun(models.Model):
    """A strategy tried on what was, as somebody asked for it. Its owner and staff see it.

    A worker that runs it renews ``heartbeat_at``; when it does not for too long another takes the run up under the
    next ``attempt``, and whatever the first still says is not heard.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "waits for a worker"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        STOPPED = "stopped", "stopped"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="backtests")
    name = models.CharField(max_length=80, blank=True)
    request = models.JSONField(help_text="see trading.backtest.request_json")
    state = models.CharField(max_length=7, choices=State.choices, default=State.QUEUED)
    stop_asked = models.BooleanField(default=False)
    progress = models.FloatField(default=0, help_text="0 to 1")
    events = models.BigIntegerField(default=0, help_text="bars, trades or book changes so far")
    words = models.CharField(max_length=200, blank=True, help_text="what it is doing")
    error = models.TextField(blank=True)
    attempt = models.PositiveIntegerField(default=0)
    worker = models.CharField(max_length=100, blank=True)
    heartbeat_at = models.DateTimeField(null=True)
    asked_at = models.DateTimeField()
    sent_at = models.DateTimeField(help_text="to the workers, for the last time")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    code = models.CharField(max_length=100, blank=True, help_text="version of the code")
    data = models.JSONField(default=dict, help_text="digests of what it was tested on, by name")
    summary = models.JSONField(default=dict, help_text="figures, monthly table and curves, see trading.backtest.report")
    compares = models.ForeignKey(
        "strategies.StrategyConfig",
        null=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="comparisons",
        help_text="whose live signals it is held against",
    )

    class Meta:
        ordering = ["-asked_at", "-id"]
        indexes = [
            models.Index(fields=["owner", "-asked_at"], name="trading_backtest_recent"),
            models.Index(
                fields=["heartbeat_at"],
                name="trading_backtest_unfinished",
                condition=models.Q(state__in=["queued", "running"]),
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"backtest {self.pk}"

    @property
    def is_over(self) -> bool:
        return self.state not in (self.State.QUEUED, self.State.RUNNING)


class BacktestPart(models.Model):
    """The rows of one kind that a run left, compressed (see trading.backtest.result_packing)."""

    class Kind(models.TextChoices):
        SIGNALS = "signals"
        FILLS = "fills"
        TRADES = "trades"
        EQUITY = "equity"
        PRICES = "prices"

    run = models.ForeignKey(BacktestRun, on_delete=models.CASCADE, related_name="parts")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    count = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "kind"], name="trading_backtest_part_once")]

    def __str__(self) -> str:
        return f"{self.count} {self.kind} of backtest {self.run_id}"
