"""What a compiled run found, in the words and the money of the full path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading.backtest.kernels.slots import Filled, Kind
from trading.backtest.result import BacktestFill, BacktestTrade
from trading.positions import ENTRY_DIGITS

Ints = NDArray[np.int64]
BILLIONTH = 9
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Words:
    """What the fills of a run have in common. ``price``, ``quantity``: the decimals of their units."""

    symbol: str
    strategy: str
    price: int
    quantity: int
    start_ms: Ints
    interval_ms: int

    def price_of(self, units: Any) -> Decimal:
        return Decimal(int(units)).scaleb(-self.price)

    def quantity_of(self, units: Any) -> Decimal:
        return Decimal(int(units)).scaleb(-self.quantity)

    def money_of(self, units: Any, billionths: Any = 0) -> Decimal:
        whole = int(units) * 10**BILLIONTH + int(billionths)
        return Decimal(whole).scaleb(-self.price - self.quantity - BILLIONTH)

    def time_ms(self, row: Ints) -> int:
        begun = int(self.start_ms[row[Filled.BAR]])
        return begun + self.interval_ms if row[Filled.KIND] == Kind.END else begun


def side_of(sign: Any) -> str:
    return "Buy" if sign > 0 else "Sell"


def fills_of(rows: Ints, words: Words) -> Iterator[BacktestFill]:
    for row in rows:
        if row[Filled.KIND] == Kind.FUNDING:
            continue
        yield BacktestFill(
            time_ms=words.time_ms(row),
            symbol=words.symbol,
            strategy=words.strategy,
            side=side_of(row[Filled.SIDE]),
            price=words.price_of(row[Filled.PRICE]),
            quantity=words.quantity_of(row[Filled.QUANTITY]),
            fee=words.money_of(row[Filled.FEE], row[Filled.FEE_BILLIONTHS]),
            is_maker=False,
            realised_pnl=words.money_of(row[Filled.CASH], row[Filled.CASH_BILLIONTHS]),
            why=Kind(row[Filled.KIND]).name.lower(),
        )


def trades_of(rows: Ints, words: Words) -> Iterator[BacktestTrade]:
    """A fill that turns a position ends one trade and begins the next; each has its share of the fee."""
    trade, held = None, 0
    for row in rows:
        if row[Filled.KIND] == Kind.FUNDING:
            if trade is not None:
                trade.funding += words.money_of(row[Filled.CASH], row[Filled.CASH_BILLIONTHS])
            continue
        size, after = int(row[Filled.QUANTITY]), int(row[Filled.HELD])
        opened = size if held == 0 else abs(after) if held * after < 0 else 0
        if trade is not None:
            trade.close(row, size - opened, words)
            if held * after <= 0:
                yield trade.ended(row, words)
                trade = None
        if opened:
            trade = _Trade(row, opened, words)
        held = after


class _Trade:
    def __init__(self, row: Ints, opened: int, words: Words) -> None:
        self.side, self.opened_ms = int(row[Filled.SIDE]), words.time_ms(row)
        self.quantity, self.entry = words.quantity_of(opened), words.price_of(row[Filled.PRICE])
        self.left_worth = self.funding = self.realised = ZERO
        self.fees = _fee_of(row, opened, words)

    def close(self, row: Ints, closed: int, words: Words) -> None:
        self.left_worth += words.quantity_of(closed) * words.price_of(row[Filled.PRICE])
        self.realised += words.money_of(row[Filled.CASH], row[Filled.CASH_BILLIONTHS])
        self.fees += _fee_of(row, closed, words)

    def ended(self, row: Ints, words: Words) -> BacktestTrade:
        entry, scale = float(self.entry), 10.0**words.price
        up, down = ((int(row[at]) / scale - entry) / entry * 100.0 for at in (Filled.HIGHEST, Filled.LOWEST))
        best, worst = (up, down) if self.side > 0 else (-down, -up)
        return BacktestTrade(
            symbol=words.symbol,
            strategy=words.strategy,
            side=side_of(self.side),
            opened_ms=self.opened_ms,
            closed_ms=words.time_ms(row),
            quantity=self.quantity,
            entry_price=_mean(self.entry * self.quantity, self.quantity),
            exit_price=_mean(self.left_worth, self.quantity),
            fees=self.fees,
            funding=self.funding,
            pnl=self.realised - self.fees + self.funding,
            best=best,
            worst=worst,
            why=Kind(row[Filled.KIND]).name.lower(),
        )


def _fee_of(row: Ints, quantity: int, words: Words) -> Decimal:
    """A share of a fill's fee. The fee is a multiple of the quantity, so that nothing is rounded."""
    whole = int(row[Filled.FEE]) * 10**BILLIONTH + int(row[Filled.FEE_BILLIONTHS])
    return words.money_of(0, whole * quantity // int(row[Filled.QUANTITY]))


def _mean(worth: Decimal, quantity: Decimal) -> Decimal:
    return (worth / quantity).quantize(ENTRY_DIGITS).normalize()
