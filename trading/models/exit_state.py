from __future__ import annotations

from django.db import models

from marketdata.models import Instrument, PriceField
from trading.models.account import Account
from trading.models.position import Position


class PositionExit(models.Model):
    """What the engine remembers of an account's position in a symbol to end it: how far the price has come, and where
    it trails. Belongs to ``position``; a new one begins anew, but for ``reversal_ns``."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="exit_states")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, related_name="+")
    position = models.ForeignKey(Position, on_delete=models.CASCADE, related_name="+")
    best_price = PriceField()
    take_price = PriceField(null=True)
    stop_price = PriceField(null=True)
    partials = models.PositiveIntegerField(default=0)
    reversal_ns = models.BigIntegerField(default=0, help_text="when a reversal last closed one, ns since 1970")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "instrument"], name="trading_exit_state_once")]

    def __str__(self) -> str:
        return f"{self.position_id} best {self.best_price}"
