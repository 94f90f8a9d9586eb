from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce

from trading.models.account import Account


class KillSwitch(models.Model):
    """One stop of an account, or of the whole platform (``account`` is empty): from the moment when it was engaged
    until a person re-armed trading. While it is engaged only orders that reduce a position pass."""

    account = models.ForeignKey(
        Account, null=True, blank=True, on_delete=models.PROTECT, related_name="kill_switches", help_text="empty: all"
    )
    closes_positions = models.BooleanField(default=True, help_text="off: orders are cancelled, positions stay")
    engaged_at = models.DateTimeField()
    engaged_by = models.CharField(max_length=150)
    reason = models.TextField()
    rearmed_at = models.DateTimeField(null=True, blank=True)
    rearmed_by = models.CharField(max_length=150, blank=True)
    rearm_reason = models.TextField(blank=True)

    class Meta:
        ordering = ["-engaged_at", "-id"]
        permissions = [("operate_platform_kill_switch", "Can stop and re-arm the whole platform")]
        constraints = [
            # Coalesce: for a unique constraint two empty accounts would be two different ones.
            models.UniqueConstraint(
                Coalesce("account_id", 0), condition=Q(rearmed_at=None), name="trading_kill_switch_one_engaged"
            ),
        ]

    def __str__(self) -> str:
        return f"kill switch {self.pk} of {self.account or 'the platform'}"

    @property
    def trace_id(self) -> str:
        """Of everything that it brings about, whichever process does it."""
        return f"kill-switch-{self.pk}"

    @property
    def scope(self) -> str:
        return "platform" if self.account_id is None else "account"

    @property
    def sentence(self) -> str:
        """Why an order does not pass."""
        what = "the whole platform is" if self.account_id is None else "the account is"
        return (
            f"{what} stopped by the kill switch ({self.engaged_by}: {self.reason}); only orders that reduce a position "
            "pass until a person re-arms it"
        )


class KillSwitchTask(models.Model):
    """What a kill switch has to do on one account, and how far it is. Whoever owns the account goes on with it."""

    class Phase(models.TextChoices):
        ENGAGED = "engaged", "engaged, not begun"
        CANCELLING = "cancelling", "cancelling orders"
        CLOSING = "closing", "closing positions"
        VERIFYING = "verifying", "waiting for proof"
        DONE = "done", "done"

    switch = models.ForeignKey(KillSwitch, on_delete=models.CASCADE, related_name="tasks")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="kill_switch_tasks")
    phase = models.CharField(max_length=10, choices=Phase.choices, default=Phase.ENGAGED)
    open_orders = models.PositiveIntegerField(null=True, help_text="at the venue, when it was last asked")
    open_positions = models.PositiveIntegerField(null=True, help_text="at the venue, when it was last asked")
    rounds = models.PositiveIntegerField(default=0)
    trouble = models.TextField(blank=True, help_text="what went wrong in the last round")
    closer = models.CharField(max_length=64, blank=True, help_text="who does it")
    updated_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["switch", "account"], name="trading_kill_switch_task_once")]
        indexes = [
            models.Index(fields=["account"], name="trading_kill_switch_open", condition=~Q(phase="done")),
        ]

    def __str__(self) -> str:
        return f"{self.switch_id} on {self.account_id}: {self.phase}"


class DeadManWatch(models.Model):
    """What happens to an account when no engine has looked after it for a while: chosen by its managers."""

    class Policy(models.TextChoices):
        OFF = "off", "nothing"
        ALERT = "alert", "alert"
        CANCEL = "cancel", "cancel orders, stop trading"
        CLOSE = "close", "cancel orders, close positions, stop trading"

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="dead_man_watch")
    policy = models.CharField(max_length=8, choices=Policy.choices, default=Policy.OFF)
    venue_seconds = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="3 to 300: the venue itself cancels when our stream is gone for so long"
    )
    # Kept by the watch: since when nobody owns the account, as far as a watch that did not sleep itself can say.
    missing_since = models.DateTimeField(null=True, editable=False)
    watched_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(venue_seconds=None) | Q(venue_seconds__gte=3, venue_seconds__lte=300),
                name="trading_dead_man_venue_seconds",
            )
        ]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.policy}"
