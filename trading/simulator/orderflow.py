"""Seeded order flow: makes a market out of background orders that rest, vanish and take.

Prices walk with clustered volatility, slow trends, common moves of all symbols and rare jumps. A move is always a taker
that eats its way through the book, so orders of users that stand in its way are filled as they would be.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from decimal import Decimal

from trading.simulator.exchange import Exchange
from trading.simulator.markets import Market

LEVELS_A_SIDE = 230
# The 200 best levels of a side span about this share of the price.
BAND = 0.004
STEP_SECONDS = 0.1
COMMON_SHARE = 0.6
JUMPS_A_STEP = 1 / 36_000
CHANGES_A_STEP = 7


def levels_traded_a_minute(market: Market, price: Decimal) -> float:
    """About how many levels' worth the flow trades in a minute, measured: far more where ticks are finer than gaps."""
    return 1_700.0 if _gap(market, price) > 3 else 250.0


def _gap(market: Market, price: Decimal) -> int:
    return max(1, int(float(price) * BAND / 200 / float(market.rules.tick_size)))


@dataclass(slots=True)
class Flow:
    """One symbol's state of mind."""

    market: Market
    fair: float
    volatility: float
    level_lots: float
    gap: int
    regime: float = 0.0
    trend: float = 0.0


class OrderFlow:
    """The same seed makes the same market, step by step. ``liveliness`` scales how much happens."""

    def __init__(self, exchange: Exchange, seed: int, liveliness: float = 1.0) -> None:
        self._exchange = exchange
        self._random = random.Random(seed)
        self._liveliness = liveliness
        self._flows: list[Flow] = []

    def add(self, market: Market, price: Decimal, volatility: float, level_value: float) -> None:
        tick, lot = float(market.rules.tick_size), float(market.rules.lot_size)
        flow = Flow(market, float(price) / tick, volatility, level_value / float(price) / lot, _gap(market, price))
        market.last_price = market.mark_price = market.index_price = price
        self._flows.append(flow)
        self._repair(flow, round(flow.fair))

    def move(self, symbol: str, percent: float) -> None:
        """A sudden jump, from the control interface."""
        for flow in self._flows:
            if flow.market.symbol == symbol:
                flow.fair *= 1 + percent / 100

    def step(self, now_ms: int) -> None:
        """A tenth of a second of life for every symbol."""
        common = self._random.gauss(0, 1)
        for flow in self._flows:
            self._walk(flow, common)
            target = round(flow.fair)
            self._push_price(flow, target, now_ms)
            self._repair(flow, target)
            self._flicker(flow, target)
            self._small_takers(flow, now_ms)
            self._mark(flow, now_ms)

    def _walk(self, flow: Flow, common: float) -> None:
        draw = self._random.gauss
        flow.regime += -0.002 * flow.regime + 0.04 * draw(0, 1)
        flow.trend += -0.001 * flow.trend + 0.01 * draw(0, 1)
        sigma = flow.volatility * math.sqrt(STEP_SECONDS / 60) * math.exp(min(1.5, 0.5 * flow.regime))
        shock = COMMON_SHARE * common + math.sqrt(1 - COMMON_SHARE**2) * draw(0, 1)
        change = sigma * (shock + 0.05 * flow.trend) * math.sqrt(self._liveliness)
        if self._random.random() < JUMPS_A_STEP:
            change += draw(0, 12) * flow.volatility
        flow.fair *= math.exp(change)

    def _push_price(self, flow: Flow, target: int, now_ms: int) -> None:
        """Takers eat everything up to the new price."""
        book, take = flow.market.book, self._exchange.background_take
        if book.asks.best is not None and book.asks.best <= target:
            take(flow.market, "Buy", book.asks.available(target), target, now_ms)
        if book.bids.best is not None and book.bids.best >= target:
            take(flow.market, "Sell", book.bids.available(target), target, now_ms)

    def _repair(self, flow: Flow, target: int) -> None:
        """Quotes close to the price, depth behind them, nothing left over far away."""
        book = flow.market.book
        farthest = flow.gap * LEVELS_A_SIDE
        for side in (book.bids, book.asks):
            near = target + side.sign * (1 if flow.gap < 4 else self._random.randint(1, 2))
            if side.best is None or (side.best - near) * side.sign > 0:
                side.set_background(near, self._lots(flow, 1))
            while len(side) > LEVELS_A_SIDE:
                worst = side.worst or 0
                if side.background_at(worst) < side.lots_at(worst):
                    break  # a user's order rests there
                side.set_background(worst, 0)
            missing = LEVELS_A_SIDE - len(side)
            for _ in range(min(missing, LEVELS_A_SIDE)):
                distance = self._random.randint(1, farthest)
                side.set_background(max(1, target + side.sign * distance), self._lots(flow, distance))
        book.changed = True

    def _flicker(self, flow: Flow, target: int) -> None:
        """Quotes come, change and go, most of them close to the market."""
        for side in (flow.market.book.bids, flow.market.book.asks):
            for _ in range(int(self._random.expovariate(1 / (CHANGES_A_STEP * self._liveliness)))):
                distance = 1 + int(self._random.expovariate(1 / (flow.gap * 12)))
                gone = distance > 3 and self._random.random() < 0.3
                side.set_background(max(1, target + side.sign * distance), 0 if gone else self._lots(flow, distance))

    def _small_takers(self, flow: Flow, now_ms: int) -> None:
        for _ in range(3):
            if self._random.random() < 0.12 * self._liveliness:
                side = "Buy" if self._random.random() < 0.5 + 0.02 * flow.trend else "Sell"
                lots = max(1, int(flow.level_lots * self._random.lognormvariate(-2.2, 1.1)))
                best = flow.market.book.opposite(side).best
                self._exchange.background_take(flow.market, side, lots, best, now_ms)

    def _mark(self, flow: Flow, now_ms: int) -> None:
        prices = flow.market.grids.prices
        price = prices.value(round(flow.fair))
        self._exchange.mark(flow.market, price, price, now_ms)

    def _lots(self, flow: Flow, distance: int) -> int:
        deeper = 1 + 0.8 * distance / (flow.gap * LEVELS_A_SIDE)
        return max(1, int(flow.level_lots * deeper * self._random.lognormvariate(-0.5, 1.0)))
