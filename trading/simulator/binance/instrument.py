"""One market with what Binance's side keeps of it, and its numbers as Binance writes them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from trading.simulator.binance.ledger import BookLedger, Levels
from trading.simulator.binance.tape import Tape
from trading.simulator.candles import CandleSeries
from trading.simulator.instruments import Grids
from trading.simulator.markets import Market


@dataclass(frozen=True, slots=True)
class Instrument:
    """The spot and the futures instrument of a symbol share their book and their trades."""

    market: Market
    candles: CandleSeries
    ledger: BookLedger
    tape: Tape

    @property
    def symbol(self) -> str:
        return self.market.symbol


class Figures:
    """Texts of prices and quantities. ``decimals`` pads every text to so many places; None leaves the grid's own."""

    def __init__(self, grids: Grids, decimals: int | None) -> None:
        self._grids, self._decimals = grids, decimals
        self._price_padding = self._padding(grids.prices.decimals)
        self._quantity_padding = self._padding(grids.quantities.decimals)

    def price(self, tick: int) -> str:
        return self._grids.prices.text(tick) + self._price_padding

    def change(self, ticks: int) -> str:
        """A difference of prices; a grid writes none below zero."""
        return f"-{self.price(-ticks)}" if ticks < 0 else self.price(ticks)

    def quantity(self, lots: int) -> str:
        return self._grids.quantities.text(lots) + self._quantity_padding

    def ticks(self, ticks: Decimal) -> str:
        """A price between the ticks."""
        decimals = self._grids.prices.decimals if self._decimals is None else self._decimals
        return f"{ticks * self._grids.prices.step:.{decimals}f}"

    def value(self, units: int) -> str:
        """Of ticks x lots, in quote coin."""
        return self.number(Decimal(units) * self._grids.prices.step * self._grids.quantities.step)

    def number(self, value: Decimal) -> str:
        return f"{value:f}" if self._decimals is None else f"{value:.{self._decimals}f}"

    def rows(self, levels: Levels) -> list[list[str]]:
        price, quantity = self.price, self.quantity
        return [[price(tick), quantity(lots)] for tick, lots in levels.items()]

    def _padding(self, decimals: int) -> str:
        if self._decimals is None:
            return ""
        return ("" if decimals else ".") + "0" * (self._decimals - decimals)
