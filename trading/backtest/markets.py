"""One symbol of a backtest: its bars, what is on its way there, and when it must be looked at next."""

from __future__ import annotations

from decimal import Decimal

from marketdata.candles.series import CandleSeries
from marketdata.instruments import InstrumentRules
from trading.backtest.bars import Bars
from trading.backtest.books import Holding, Order

NEVER = 2**62


class Market:
    """``funding``: bars and the rates that are paid at their opens. ``wake``: the step of the bar to walk next."""

    def __init__(
        self, rank: int, series: CandleSeries, grid_ms: int, rules: InstrumentRules, funding: list[tuple[int, Decimal]]
    ) -> None:
        self.rank, self.symbol, self.rules, self.tick = rank, series.symbol, rules, rules.tick_size
        self.bars = Bars(series, grid_ms)
        self.orders: list[Order] = []
        self.funding, self.next_funding = funding, 0
        self.wake = NEVER
        # The price within a bar that is walked now, and the way that it came.
        self.price: Decimal | None = None
        self.path: list[float] = []

    def move(self, price: Decimal) -> Decimal:
        self.price = price
        self.path.append(float(price))
        return price

    def funding_bar(self) -> int:
        return self.funding[self.next_funding][0] if self.next_funding < len(self.funding) else NEVER


def seen(market: Market, holding: Holding, index: int, there: Decimal) -> tuple[float, float]:
    """How far the price went for and against a position that ends now, percent of its entry."""
    bars, first = market.bars, holding.opened_bar
    within = market.price is not None
    prices = [float(there), *(market.path if within else ())]
    end = index if within else index + 1
    if end > first:
        prices += bars.extremes(first, end)
    entry = holding.entry
    up, down = (max(prices) - entry) / entry * 100.0, (min(prices) - entry) / entry * 100.0
    return (up, down) if holding.is_long else (-down, -up)
