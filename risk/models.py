from __future__ import annotations

import re
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.deconstruct import deconstructible

from marketdata.models import PriceField
from risk.exits import ExitRuleError, ExitRules
from risk.leverage import LeverageRules

SYMBOL = re.compile(r"[A-Z0-9]{2,32}")


@deconstructible
class InRange:
    """Refuses what is outside a range, and says the range."""

    def __init__(self, least: int | str, most: int | str | None = None) -> None:
        self.least, self.most = least, most

    def __call__(self, value: Any) -> None:
        if value < Decimal(self.least) or (self.most is not None and value > Decimal(self.most)):
            allowed = f"{self.least} to {self.most}" if self.most is not None else f"{self.least} or more"
            raise ValidationError(f"{value} is not allowed; expected {allowed}", code="out_of_range")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InRange) and (self.least, self.most) == (other.least, other.most)

    def __hash__(self) -> int:
        return hash((self.least, self.most))


def percent_field(least: int | str, most: int | str, words: str) -> Any:
    return PriceField(
        null=True, blank=True, validators=[InRange(least, most)], help_text=f"{words}; {least} to {most} %"
    )


def count_field(least: int, most: int, words: str) -> Any:
    return models.PositiveIntegerField(
        null=True, blank=True, validators=[InRange(least, most)], help_text=f"{words}; {least} to {most}"
    )


def usd_field(words: str) -> Any:
    return PriceField(null=True, blank=True, validators=[InRange(0)], help_text=f"USD {words}; 0 or more")


class RiskLimit(models.Model):
    """Limits at one level: the platform, a user, an account or a strategy. Empty means the default for an account, and
    no limit for the others; the strictest of all levels that apply to an order wins."""

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
    max_order_notional = usd_field("per order")
    max_position_notional = usd_field("per symbol, pending orders counted")
    max_positions = count_field(1, 100, "positions at once, pending ones counted; an account's default is 10")
    max_positions_per_symbol = count_field(1, 100, "positions in one symbol; above 1 for users and the platform only")
    max_open_orders = count_field(0, 500, "orders that may still fill")
    max_risk_per_trade_percent = percent_field("0.01", 100, "loss at an order's stop, of equity; default 2")
    max_total_risk_percent = percent_field("0.01", 100, "loss at all stops together, of equity; default 10")
    max_daily_loss_percent = percent_field(1, 50, "loss since 00:00 UTC, of the equity then; default 5")
    max_drawdown_percent = percent_field(1, 100, "below the peak of equity; default 20")
    max_correlation = PriceField(
        null=True,
        blank=True,
        validators=[InRange(0, 1)],
        help_text="from which on two symbols count as one bet; 0 to 1, default 0.7",
    )
    max_correlated_positions = count_field(1, 100, "positions that move together; default 3")
    max_leverage = PriceField(
        null=True, blank=True, validators=[InRange(1, 50)], help_text="times; 1 to 50, default 50"
    )
    price_collar_percent = percent_field(
        0, 100, "how far a limit price may be from the market on its aggressive side; default 5"
    )
    max_slippage_percent = percent_field(
        "0.01", 100, "how far from the middle of the book a market order may fill on average; default 1"
    )
    max_order_rate = count_field(0, 10_000, "orders per second")
    group_limits = models.JSONField(
        default=dict,
        blank=True,
        help_text="by group of symbols: positions and USD that this level may have in it, e.g. "
        '{"majors": {"max_positions": 3, "max_notional": "50000"}}; a group\'s own limits are those of each account',
    )
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

    def clean(self) -> None:
        if self.level == self.Level.STRATEGY and self.max_drawdown_percent is not None:
            raise ValidationError({"max_drawdown_percent": "a strategy has no equity of its own; leave it empty"})
        wrong = _wrong_group_limits(self.group_limits)
        if wrong:
            raise ValidationError({"group_limits": wrong})

    def __str__(self) -> str:
        subject = self.user or self.account or self.strategy
        return f"{self.level} limits" + (f" of {subject}" if subject else "")


def _wrong_group_limits(given: Any) -> str:
    """What is wrong with a level's limits on groups; empty when nothing is."""
    example = 'expected {"majors": {"max_positions": 1 to 100, "max_notional": USD, 0 or more}}'
    if not isinstance(given, dict) or not all(isinstance(each, dict) for each in given.values()):
        return f"{str(given)[:80]} are no limits of groups; {example}"
    known = set(SymbolGroup.objects.filter(name__in=list(given)).values_list("name", flat=True))
    for name, limits in given.items():
        if name not in known:
            groups = ", ".join(SymbolGroup.objects.values_list("name", flat=True)) or "none yet"
            return f"there is no group {name[:40]!r}; there are: {groups}. Make it first, under symbol groups"
        if unknown := sorted(set(limits) - {"max_positions", "max_notional"}):
            return f"{name}.{unknown[0][:40]} is no limit of a group; {example}"
        positions, notional = limits.get("max_positions"), limits.get("max_notional")
        if positions is not None and (type(positions) is not int or not 1 <= positions <= 100):
            return f"{name}.max_positions is {str(positions)[:40]}; expected a whole number, 1 to 100"
        if notional is not None and not _is_amount(notional):
            return f"{name}.max_notional is {str(notional)[:40]}; expected USD, 0 or more"
    return ""


def _is_amount(value: Any) -> bool:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return False
    return not isinstance(value, bool) and number.is_finite() and 0 <= number < 10**15


class SymbolGroup(models.Model):
    """Symbols that tend to fall together. Its limits count one account's positions in the group; empty is no limit.
    What a strategy, a user or the platform may have in it is among their risk limits."""

    name = models.SlugField(max_length=32, unique=True)
    symbols = models.JSONField(default=list, help_text='list of symbols, e.g. ["BTCUSDT", "ETHUSDT"]')
    max_positions = count_field(1, 100, "positions in the group, pending ones counted")
    max_notional = usd_field("in the group, pending orders counted")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if not isinstance(self.symbols, list) or len(self.symbols) > 1000:
            raise ValidationError({"symbols": "expected a list of at most 1000 symbols"})
        for symbol in self.symbols:
            if not isinstance(symbol, str) or not SYMBOL.fullmatch(symbol):
                raise ValidationError(
                    {"symbols": f"{str(symbol)[:50]!r} is no symbol; expected 2 to 32 of A-Z and 0-9, like BTCUSDT"}
                )


class PositionPolicy(models.Model):
    """How positions end and how much leverage they get: of one account, or (without one) of all that have none."""

    account = models.OneToOneField(
        "trading.Account", null=True, blank=True, on_delete=models.CASCADE, related_name="position_policy"
    )
    enabled = models.BooleanField(default=True, help_text="off: only orders at the venue end positions")
    min_profit_percent = PriceField(default="0.3", help_text="no profit is taken below it; 0 to 100 %")
    max_loss_percent = PriceField(default="2.0", help_text="closes the position; 0.1 to 100 %")
    trailing_take_profit = models.BooleanField(default=True)
    take_profit_activation_percent = PriceField(default="1.0", help_text="profit; 0.1 to 1000 %")
    take_profit_step_percent = PriceField(default="0.5", help_text="first distance from the best price; 0.01 to 100 %")
    take_profit_acceleration = PriceField(default="1.5", help_text="each step divides the distance by it; 1 to 10")
    trailing_stop = models.BooleanField(default=True)
    trailing_stop_activation_percent = PriceField(default="2.0", help_text="profit; 0.1 to 1000 %")
    trailing_stop_distances = models.JSONField(
        default=list, blank=True, help_text="[profit, distance] in percent, by rising profit; empty: 2/1, 5/1.5, 10/2"
    )
    partial_exits = models.JSONField(
        default=list, blank=True, help_text='[profit, share] in percent, by rising profit, e.g. [["1.0", "50"]]'
    )
    reversal = models.BooleanField(default=True)
    reversal_indicators = models.PositiveIntegerField(default=3, help_text="that must agree; 1 to 5")
    reversal_cooldown_seconds = models.PositiveIntegerField(default=60, help_text="0 to 86400")
    reversal_min_change_percent = PriceField(default="0.2", help_text="from the best price; 0 to 100 %")
    low_volatility_percent = PriceField(default=2, help_text="per day; calm up to here")
    high_volatility_percent = PriceField(default=5, help_text="per day; wild from here")
    leverage_low = PriceField(default=20, help_text="in a calm market; 1 to 50")
    leverage_medium = PriceField(default=10, help_text="in between; 1 to 50")
    leverage_high = PriceField(default=5, help_text="in a wild market; 1 to 50")
    combine_signals = models.BooleanField(
        default=False, help_text="several strategies' signals on one symbol at one moment become one, by their results"
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "position policies"
        constraints = [
            models.UniqueConstraint(fields=["account"], nulls_distinct=False, name="risk_position_policy_once"),
        ]

    def __str__(self) -> str:
        return f"position policy of {self.account or 'all other accounts'}"

    def clean(self) -> None:
        try:
            self.exit_rules()
        except ExitRuleError as error:
            raise ValidationError({error.field: str(error)}) from error
        try:
            self.leverage_rules()
        except ValueError as error:
            raise ValidationError({str(error).split(" ")[0]: str(error)}) from error

    def exit_rules(self) -> ExitRules:
        """Its rules as a value.

        Raises:
            ExitRuleError: a value outside its range.
        """
        values = {field.name: getattr(self, field.name) for field in fields(ExitRules)}
        for name in ("trailing_stop_distances", "partial_exits"):
            values[name] = _steps(name, values[name])
        if not values["trailing_stop_distances"]:
            del values["trailing_stop_distances"]
        return ExitRules(**values)

    def leverage_rules(self) -> LeverageRules:
        return LeverageRules(
            self.low_volatility_percent,
            self.high_volatility_percent,
            self.leverage_low,
            self.leverage_medium,
            self.leverage_high,
        )


def _steps(name: str, rows: Any) -> tuple[tuple[Decimal, Decimal], ...]:
    """Pairs of numbers out of JSON."""
    try:
        steps = tuple((Decimal(str(first)), Decimal(str(second))) for first, second in rows)
    except (TypeError, ValueError, InvalidOperation):
        raise ExitRuleError(name, str(rows)[:100], 'pairs of numbers, like [["2", "1.0"]]') from None
    if any(not number.is_finite() for pair in steps for number in pair):
        raise ExitRuleError(name, str(rows)[:100], "finite numbers")
    return steps
