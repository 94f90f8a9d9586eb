from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from marketdata.models import PriceField


class RiskLimit(models.Model):
    """Limits at one level: the platform, a user, an account or a strategy. Empty means no limit here; the strictest
    of all levels that apply to an order wins."""

    class Level(models.TextChoices):
        PLATFORM = "platform", "platform"
        USER = "user", "user"
        ACCOUNT = "account", "account"
        STRATEGY = "strategy", "strategy"

    level = models.CharField(max_length=8, choices=Level.choices)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="risk_limit"
    )
    account = models.OneToOneField(
        "trading.Account", null=True, blank=True, on_delete=models.CASCADE, related_name="risk_limit"
    )
    strategy = models.OneToOneField(
        "strategies.StrategyConfig", null=True, blank=True, on_delete=models.CASCADE, related_name="risk_limit"
    )
    trading_enabled = models.BooleanField(default=True, help_text="off: only orders that reduce a position pass")
    max_order_notional = PriceField(null=True, blank=True, validators=[MinValueValidator(0)], help_text="USD per order")
    max_position_notional = PriceField(
        null=True, blank=True, validators=[MinValueValidator(0)], help_text="USD per symbol, pending orders counted"
    )
    max_positions = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    max_open_orders = models.PositiveIntegerField(null=True, blank=True, validators=[MaxValueValidator(500)])
    max_daily_loss_percent = PriceField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(50)], help_text="1 to 50"
    )
    max_leverage = PriceField(null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(50)])
    price_collar_percent = PriceField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="how far a limit price may be from the market on its aggressive side",
    )
    max_order_rate = models.PositiveIntegerField(null=True, blank=True, help_text="orders per second")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["level"], condition=Q(level="platform"), name="risk_limit_one_platform"),
            models.CheckConstraint(
                name="risk_limit_subject_matches_level",
                condition=(
                    Q(level="platform", user=None, account=None, strategy=None)
                    | Q(level="user", user__isnull=False, account=None, strategy=None)
                    | Q(level="account", user=None, account__isnull=False, strategy=None)
                    | Q(level="strategy", user=None, account=None, strategy__isnull=False)
                ),
            ),
        ]

    def __str__(self) -> str:
        subject = self.user or self.account or self.strategy
        return f"{self.level} limits" + (f" of {subject}" if subject else "")
