"""Seeded order flow: makes a market out of background orders that rest, vanish and take.

Prices walk with clustered volatility, slow trends, common moves of all symbols and rare jumps. A move is always a taker
that eats its way through the book, so orders of users that stand in its way are filled as they would be. What rests and
how often it changes follows a recorded session of Bybit: ``benchmarks/likeness.py`` shows both side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from trading.simulator import flow_kernels as kernels
from trading.simulator.exchange import Exchange
from trading.simulator.markets import Market
from trading.simulator.topics import address

LEVELS_A_SIDE = 230
STEP_SECONDS = 0.02
STEPS_A_MARK = 5
# Where the fair price of spot is, seen from its contract's.
SPOT_DISCOUNT = 0.9998
# Ticks as fractions of the price. What was measured of BTCUSDT, which is at FINE, and of SOLUSDT, which is five sixths
# of the way to COARSE, is mixed by the logarithm of this fraction.
FINE, COARSE = 1.5e-6, 1.3e-4
LIMITS = {
    kernels.LEVEL_LOTS: (0.13, 4.5),  # in level values, as are all lots here
    kernels.LEVEL_SPREAD: (2.2, 1.45),
    kernels.FIRST_LOTS: (50.0, 4.0),
    kernels.DENSITY: (0.66, 0.995),
    kernels.CHANGES: (1.5, 0.52),  # a side and step
    kernels.FAR_SHARE: (0.97, 0.0),
    kernels.REACH: (340.0, 229.0),  # ticks
    kernels.NEAR_SCALE: (40.0, 5.0),  # ticks
    kernels.NEAR_POWER: (1.4, 1.4),
    kernels.TAKERS: (0.016, 0.075),  # a step
    kernels.TAKER_LOTS: (0.08, 0.026),
    kernels.TAKER_SPREAD: (2.5, 2.3),
    kernels.TAKER_MOST: (40.0, 10.0),
    kernels.DEPTH: (5.0, 2.5),
}
# The last arguments of flow_kernels.fill: so many levels, all of them at once, nowhere in particular.
_FULL = (LEVELS_A_SIDE, LEVELS_A_SIDE, 0)
_IN_LEVEL_VALUES = (kernels.LEVEL_LOTS, kernels.FIRST_LOTS, kernels.TAKER_LOTS, kernels.TAKER_MOST)
_GEOMETRIC = (*_IN_LEVEL_VALUES, kernels.CHANGES, kernels.TAKERS, kernels.NEAR_SCALE)


def levels_traded_a_minute(market: Market, price: Decimal) -> float:
    """About how many levels' worth (see ``SimulatedInstrument.level_value``) the flow trades in a minute, measured."""
    return _mixed(_coarseness(market, price), (70.0, 60.0), geometric=True)


def parameters_of(market: Market, price: Decimal, volatility: float, level_value: float) -> NDArray[np.float64]:
    """What the kernels have to know about an instrument, by the constants of :mod:`flow_kernels`."""
    coarseness = _coarseness(market, price)
    parameters = np.zeros(kernels.PARAMETERS)
    for name, limits in LIMITS.items():
        parameters[name] = _mixed(coarseness, limits, geometric=name in _GEOMETRIC)
    for name in _IN_LEVEL_VALUES:
        parameters[name] *= level_value / float(price * market.rules.lot_size)
    parameters[kernels.VOLATILITY] = volatility * math.sqrt(STEP_SECONDS / 60)
    # Quotes follow about once a second: after what the fair price moves in that time.
    parameters[kernels.PATIENCE_SCALE] = volatility * math.sqrt(1 / 60)
    return parameters


def _coarseness(market: Market, price: Decimal) -> float:
    """0 where ticks are as fine as those of BTCUSDT, 1 where they are a little coarser than those of SOLUSDT."""
    share = float(market.rules.tick_size / price)
    return min(1.0, max(0.0, math.log(share / FINE) / math.log(COARSE / FINE)))


def _mixed(share: float, limits: tuple[float, float], *, geometric: bool) -> float:
    low, high = limits
    return low * (high / low) ** share if geometric else low + (high - low) * share


@dataclass(slots=True)
class Flow:
    """One symbol's state: its random numbers (uint64, 1), its mood and parameters (float64, by the constants of
    :mod:`flow_kernels`)."""

    market: Market
    random: NDArray[np.uint64]
    mood: NDArray[np.float64]
    parameters: NDArray[np.float64]
    leader: Flow | None = None


class OrderFlow:
    """The same seed makes the same market, step by step. ``liveliness`` scales how much happens."""

    def __init__(self, exchange: Exchange, seed: int, liveliness: float = 1.0) -> None:
        self._exchange = exchange
        self._seed, self._liveliness = seed, liveliness
        self._random = _generator(seed, 0)
        self._takers = np.zeros((kernels.MOST_TAKERS, 3), dtype=np.int64)
        self._flows: dict[str, Flow] = {}
        self._steps = 0

    def add(self, market: Market, price: Decimal, volatility: float, level_value: float) -> None:
        """A market that goes its own way; a spot market follows the contract of its symbol, which is added before."""
        leader = self._flows.get(market.symbol) if market.category == "spot" else None
        if leader is not None:
            volatility = 0.0
        fair = float(price / market.rules.tick_size)
        mood = np.zeros(kernels.MOOD)
        mood[kernels.FAIR], mood[kernels.QUOTED] = fair + 0.5, math.floor(fair)
        parameters = parameters_of(market, price, volatility, level_value)
        mood[kernels.PATIENCE] = parameters[kernels.PATIENCE_SCALE] * fair
        flow = Flow(market, _generator(self._seed, len(self._flows) + 1), mood, parameters, leader)
        self._flows[address(market.category, market.symbol)] = flow
        market.last_price = market.mark_price = market.index_price = price
        self._restock(flow)

    def move(self, symbol: str, percent: float) -> None:
        """A sudden jump, from the control interface."""
        if symbol in self._flows:
            self._flows[symbol].mood[kernels.FAIR] *= 1 + percent / 100

    def step(self, now_ms: int) -> None:
        """Twenty milliseconds of life for every symbol."""
        common = float(kernels.normal(self._random))
        self._steps += 1
        marks = self._steps % STEPS_A_MARK == 0
        for flow in self._flows.values():
            self._step(flow, common, now_ms)
            if marks:
                self._mark(flow, now_ms)

    def _step(self, flow: Flow, common: float, now_ms: int) -> None:
        market, takers = flow.market, self._takers
        if flow.leader is not None:
            ticks = float(flow.leader.market.rules.tick_size / market.rules.tick_size)
            flow.mood[kernels.FAIR] = flow.leader.mood[kernels.FAIR] * ticks * SPOT_DISCOUNT
        bids, asks = market.book.bids, market.book.asks
        bids.reserve(kernels.ROOM)
        asks.reserve(kernels.ROOM)
        found = kernels.step(
            *bids.state,
            *asks.state,
            flow.random,
            flow.mood,
            flow.parameters,
            common,
            self._liveliness,
            LEVELS_A_SIDE,
            takers,
        )
        market.book.changed = True
        if found:
            for direction, lots, limit in takers[:found].tolist():
                self._exchange.background_take(market, "Buy" if direction > 0 else "Sell", lots, limit, now_ms)
            if not (len(bids) and len(asks)):
                self._restock(flow)

    def _restock(self, flow: Flow) -> None:
        """Fill both sides at once, as at the beginning and after a jump that left one empty."""
        book, quoted = flow.market.book, int(flow.mood[kernels.QUOTED])
        for side, other, near, lowest in (
            (book.bids, book.asks, quoted, 1),
            (book.asks, book.bids, -quoted - 1, -kernels.NOWHERE),
        ):
            # A key of the other side is the negative of one of this side: what is not below it would cross.
            barred = -int(other.state[0][len(other) - 1]) if len(other) else kernels.NOWHERE
            best = min(near, barred - 1)
            side.reserve(kernels.ROOM)
            kernels.fill(*side.state, flow.random, flow.parameters, best, barred, lowest, *_FULL)
        book.changed = True

    def _mark(self, flow: Flow, now_ms: int) -> None:
        market = flow.market
        price = market.grids.prices.value(round(float(flow.mood[kernels.FAIR])))
        if market.category == "spot":
            market.mark_price = market.index_price = price
            self._exchange.exits.look(market, now_ms)
        else:
            self._exchange.mark(market, price, price, now_ms)


def _generator(seed: int, number: int) -> NDArray[np.uint64]:
    """The state of one generator of :func:`flow_kernels.uniform`."""
    return np.random.SeedSequence([seed, number]).generate_state(1, np.uint64).astype(np.uint64)
