"""What a market order fills at when there is a price but no book (docs/backtest.md, rule 4)."""

from __future__ import annotations

import math
from decimal import Decimal

from trading.backtest.request import Costs

IMPACT_DECIMALS = 12
RATE = Decimal("1e-9")
ONE = Decimal(1)


def rate_of(number: Decimal | float) -> Decimal:
    """A rate as it counts: nine decimals."""
    exact = number if isinstance(number, Decimal) else Decimal(repr(number))
    return exact.quantize(RATE).normalize()


def tick_at_or_below(price: Decimal, tick: Decimal) -> Decimal:
    return price // tick * tick


def tick_at_or_above(price: Decimal, tick: Decimal) -> Decimal:
    below = price // tick * tick
    return below if below == price else below + tick


class MarketFills:
    """``share_of_volume`` is quantity over the volume of the bar."""

    def __init__(self, costs: Costs) -> None:
        self._aside = costs.spread / 2 + costs.slippage
        self._impact = float(costs.impact)

    def price(self, side: str, price: Decimal, tick: Decimal, quantity: Decimal, volume: Decimal) -> Decimal:
        aside = self._aside
        if self._impact:
            aside += self._moved(quantity, volume)
        if side == "Buy":
            return tick_at_or_above(price * (ONE + aside), tick)
        return max(tick_at_or_below(price * (ONE - aside), tick), tick)

    def _moved(self, quantity: Decimal, volume: Decimal) -> Decimal:
        share = float(quantity) / float(volume) if volume > 0 else 1.0
        units = round(self._impact * math.sqrt(share) * 10.0**IMPACT_DECIMALS)
        return Decimal(units).scaleb(-IMPACT_DECIMALS)
