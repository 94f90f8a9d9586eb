from __future__ import annotations

from django.conf import settings
from django.db import models


class Search(models.Model):
    """A search for a strategy's parameters, as somebody asked for it. Its owner and staff see it.

    It lives as a backtest does (see ``BacktestRun``), but nothing is lost with a worker: each trial is stored when it
    is done, and the next worker goes on with the one after. It also gives way: between two trials it goes back into
    the queue where others wait.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "waits for a worker"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        STOPPED = "stopped", "stopped"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="searches")
    name = models.CharField(max_length=80, blank=True)
    request = models.JSONField(help_text="see trading.backtest.search_request")
    state = models.CharField(max_length=7, choices=State.choices, default=State.QUEUED)
    stop_asked = models.BooleanField(default=False)
    total = models.PositiveIntegerField(help_text="trials in all trainings")
    done = models.PositiveIntegerField(default=0, help_text="trials so far")
    words = models.CharField(max_length=200, blank=True, help_text="what it is doing")
    error = models.TextField(blank=True)
    attempt = models.PositiveIntegerField(default=0)
    fruitless = models.PositiveIntegerField(default=0, help_text="workers in a row that ended before the next trial")
    worker = models.CharField(max_length=100, blank=True)
    heartbeat_at = models.DateTimeField(null=True)
    asked_at = models.DateTimeField()
    sent_at = models.DateTimeField(help_text="to the workers, for the last time")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    summary = models.JSONField(default=dict, help_text="what was found, see trading.backtest.search_report")

    class Meta:
        ordering = ["-asked_at", "-id"]
        verbose_name_plural = "searches"
        indexes = [
            models.Index(fields=["owner", "-asked_at"], name="trading_search_recent"),
            models.Index(
                fields=["heartbeat_at"],
                name="trading_search_unfinished",
                condition=models.Q(state__in=["queued", "running"]),
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"search {self.pk}"

    @property
    def is_over(self) -> bool:
        return self.state not in (self.State.QUEUED, self.State.RUNNING)

    @property
    def progress(self) -> float:
        """0 to 1."""
        return self.done / self.total if self.total else 0.0


class SearchTrial(models.Model):
    """One set of parameters that was tried. ``training`` 0 is all of the time, the others those of walk-forward."""

    class Outcome(models.TextChoices):
        COMPLETE = "complete", "carried through"
        SCARCE = "scarce", "too few trades to be judged"
        PRUNED = "pruned", "given up in the middle"
        FAILED = "failed", "broke"

    search = models.ForeignKey(Search, on_delete=models.CASCADE, related_name="trials")
    training = models.PositiveSmallIntegerField()
    number = models.PositiveIntegerField()
    parameters = models.JSONField()
    outcome = models.CharField(max_length=8, choices=Outcome.choices)
    values = models.JSONField(help_text="the objective after each fold")
    value = models.FloatField(null=True, help_text="the objective; none where it is not judged")
    sharpe = models.FloatField(null=True, help_text="of the daily returns, a year")
    total_return = models.FloatField(null=True)
    max_drawdown = models.FloatField(null=True, help_text="of the equity at the days' ends")
    trades = models.PositiveIntegerField()
    profit = models.FloatField(help_text="USDT, of all folds")
    returns = models.BinaryField(help_text="daily, float64, compressed")
    words = models.CharField(max_length=400, blank=True)
    seconds = models.FloatField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["search", "training", "number"], name="trading_search_trial_once")
        ]

    def __str__(self) -> str:
        return f"trial {self.number} of search {self.search_id}"
