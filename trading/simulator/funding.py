"""Funding: its rates, and when they are paid. A rate is a function of seed, symbol and time, so that the history that
REST tells is what was paid."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING

from trading.simulator.intervals import MINUTE_MS
from trading.simulator.markets import Market

if TYPE_CHECKING:
    from trading.simulator.exchange import Exchange

# The rate that interest alone makes.
INTEREST_RATE = 0.0001


def seeded(seed: int, symbol: str, what: str, time_ms: int) -> random.Random:
    """A generator for one thing of one symbol at one time."""
    return random.Random(f"{seed}/{symbol}/{what}/{time_ms}")


def funding_interval_ms(market: Market) -> int:
    return int(market.listing.get("fundingInterval") or 480) * MINUTE_MS


def next_funding_ms(market: Market, now_ms: int) -> int:
    interval = funding_interval_ms(market)
    return (now_ms // interval + 1) * interval


def funding_rate(seed: int, market: Market, time_ms: int) -> Decimal:
    """What is paid at a time: often the interest alone, else around it, within the instrument's bounds."""
    draw = seeded(seed, market.symbol, "funding", time_ms)
    rate = INTEREST_RATE if draw.random() < 0.4 else draw.gauss(INTEREST_RATE, 0.8 * INTEREST_RATE)
    lowest, highest = (Decimal(market.listing.get(name) or bound) for name, bound in _BOUNDS)
    return min(max(Decimal(f"{rate:.8f}"), lowest), highest)


_BOUNDS = (("lowerFundingRate", "-0.005"), ("upperFundingRate", "0.005"))


class FundingSchedule:
    """Pays each contract's funding when its time has come. Times in which nobody ran are not made up for. ``settled``
    counts what came due, of every contract."""

    def __init__(self, exchange: Exchange, seed: int, now_ms: int) -> None:
        self._exchange, self._seed = exchange, seed
        self._due = {symbol: self._announce(market, now_ms) for symbol, market in exchange.markets.items()}
        self._next = min(self._due.values(), default=0)
        self.settled = 0

    def settle(self, now_ms: int) -> None:
        if now_ms < self._next:
            return
        for symbol, due_ms in self._due.items():
            if now_ms >= due_ms:
                market = self._exchange.markets[symbol]
                self._exchange.margin.pay_funding(market, now_ms)
                self._due[symbol] = self._announce(market, now_ms)
                self.settled += 1
        self._next = min(self._due.values())

    def _announce(self, market: Market, now_ms: int) -> int:
        due_ms = next_funding_ms(market, now_ms)
        market.funding_rate = funding_rate(self._seed, market, due_ms)
        return due_ms
