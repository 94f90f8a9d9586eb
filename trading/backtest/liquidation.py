"""When an account cannot bear what it holds, and which position is closed then (docs/backtest.md, rule 8)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from risk.exposure import ZERO
from trading.backtest.books import Books, Holding
from trading.backtest.markets import Market

# What is only estimated in floats is looked at exactly from so far away.
MARGIN_OF_FLOATS = 1e-6


class Liquidated(NamedTuple):
    market: Market
    holding: Holding
    price: Decimal
    bar: int


class Liquidation:
    """``books.worst`` holds what all positions are worth to the account at worst until they are looked at again."""

    def __init__(self, books: Books, markets: Mapping[str, Market], maintenance: Decimal) -> None:
        self._books, self._markets, self._maintenance = books, markets, float(maintenance)

    def is_far(self) -> bool:
        """Whether nothing is liquidated while every position stays at or above its worst."""
        balance = float(self._books.balance)
        return balance + self._books.worst > abs(balance) * MARGIN_OF_FLOATS

    def is_near(self, holding: Holding, low: float, high: float) -> bool:
        """Whether the account could be liquidated while the price of one position is between these."""
        others = self._books.worst - holding.worst
        here = self.worst(holding, low if holding.is_long else high)
        balance = float(self._books.balance)
        return balance + others + here <= abs(balance) * MARGIN_OF_FLOATS

    def worst(self, holding: Holding, price: float) -> float:
        """What a position is worth to the account at a price: what it gained less its maintenance."""
        quantity, entry = holding.size, holding.entry
        gained = quantity * (price - entry) if holding.is_long else quantity * (entry - price)
        return gained - self._maintenance * quantity * price

    def price(self, market: Market, holding: Holding, step: int) -> Decimal:
        """Where the account is liquidated if only this price moves, within a bar of its market."""
        cushion, prices = self._books.balance, self.prices_within(step, market)
        for symbol, other in self._books.holdings.items():
            if other is not holding:
                other.book.mark_price = prices[symbol]
                cushion += other.book.unrealised - other.book.maintenance_margin
        return holding.book.liquidation_price(cushion)

    def due(self, market: Market, step: int) -> Liquidated | None:
        """The position that loses most, if the account cannot bear what it holds."""
        books, prices = self._books, self.prices_within(step, market)
        books.mark(prices)
        equity = books.equity(prices)
        held = list(books.holdings.values())
        if equity > sum((each.book.maintenance_margin for each in held), ZERO):
            return None
        loser = min(held, key=lambda each: (each.book.unrealised, each.symbol))
        where = self._markets[loser.symbol]
        if where is market:
            bar = where.bars.until(step)
        else:
            bar = where.bars.until(step if where.rank < market.rank else step - 1)
        return Liquidated(where, loser, prices[loser.symbol], bar)

    def prices_within(self, step: int, walked: Market) -> dict[str, Decimal]:
        """What is known while a bar is walked: bars of symbols before it are over, those after it have not begun."""
        prices = {}
        for symbol in self._books.holdings:
            market = self._markets[symbol]
            if market is walked and market.price is not None:
                prices[symbol] = market.price
            else:
                prices[symbol] = market.bars.last_close(step if market.rank < walked.rank else step - 1)
        return prices
