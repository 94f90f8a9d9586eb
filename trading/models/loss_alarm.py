from __future__ import annotations

from django.db import models

from marketdata.models import PriceField
from trading.models.account import Account, mode_field


class LossAlarm(models.Model):
    """A limit on losses that has been crossed: at which level, by how much, and when. While it stands the same crossing
    is told once, whoever looks at it or restarts meanwhile; every level has alarms of its own.

    It stands for its day (a daily loss) or its peak of equity (a drawdown), for the limit as it was then, and until a
    person has armed it again. A drawdown of several accounts stands until they are worth their peak again.
    """

    class Level(models.TextChoices):
        ACCOUNT = "account", "account"
        STRATEGY = "strategy", "strategy"
        USER = "user", "all accounts of the user"
        PLATFORM = "platform", "all accounts of the platform"

    class Limit(models.TextChoices):
        DAILY_LOSS = "max_daily_loss_percent", "loss of a day"
        DRAWDOWN = "max_drawdown_percent", "drawdown"

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="loss_alarms")
    mode = mode_field()
    level = models.CharField(max_length=8, choices=Level.choices)
    strategy = models.CharField(max_length=40, blank=True, help_text="its name, at the level of a strategy")
    limit = models.CharField(max_length=24, choices=Limit.choices)
    value = PriceField(help_text="percent: the limit as it was")
    percent = PriceField(help_text="what was lost")
    day = models.DateField(null=True, help_text="UTC; of a daily loss")
    peak_equity = PriceField(null=True, help_text="of a drawdown: of all accounts of the level")
    raised_at = models.DateTimeField()
    rearmed_at = models.DateTimeField(null=True, blank=True)
    rearmed_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["-raised_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "mode", "level", "strategy", "limit"], name="trading_loss_alarm_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.named} of {self.account}"

    @property
    def named(self) -> str:
        """The limit as refusals name it: with its level where that is not the account."""
        return self.limit if self.level == self.Level.ACCOUNT else f"{self.level}.{self.limit}"
