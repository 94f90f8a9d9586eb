"""Seeded order flow: makes a market out of background orders that rest, vanish and take.

Prices walk with clustered volatility, slow trends, common moves of all symbols and rare jumps. A move is always a taker
that eats its way through the book, so orders of users that stand in its way are filled as they would be. What rests and
how often it changes follows a recorded session of Bybit: ``benchmarks/likeness.py`` shows both side by side.
How prices walk over days follows recorded candles: ``benchmarks/long_run.py``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from trading.simulator import flow_kernels as kernels
from trading.simulator.book import MATCHES
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
    kernels.LEVEL_LOTS: (0.125, 9.2),  # in level values, as are all lots here
    kernels.LEVEL_SPREAD: (2.1, 1.53),
    kernels.FIRST_LOTS: (50.0, 4.6),
    kernels.DENSITY: (0.66, 0.995),
    kernels.CHANGES: (1.12, 0.56),  # a side and step
    kernels.FAR_SHARE: (0.97, 0.0),
    kernels.REACH: (340.0, 229.0),  # ticks
    kernels.NEAR_SCALE: (40.0, 5.0),  # ticks
    kernels.NEAR_POWER: (1.4, 1.4),
    kernels.TAKERS: (0.0157, 0.088),  # a step
    kernels.TAKER_LOTS: (0.0225, 0.0104),
    kernels.TAKER_SPREAD: (0.83, 1.44),
    kernels.TAKER_MOST: (14.0, 9.9),
    kernels.LARGE_SHARE: (0.55, 0.257),
    kernels.LARGE_LOTS: (0.63, 0.48),
    kernels.LARGE_SPREAD: (2.15, 0.957),
    kernels.DEPTH: (5.0, 0.05),
}
# How many trades a stretch may write down before it pauses, and what stands for no leader's prices.
TRADES_A_STRETCH = 16_384
_NO_LEADER = np.empty(0)
_IN_LEVEL_VALUES = (
    kernels.LEVEL_LOTS,
    kernels.FIRST_LOTS,
    kernels.TAKER_LOTS,
    kernels.TAKER_MOST,
    kernels.LARGE_LOTS,
)
_GEOMETRIC = (*_IN_LEVEL_VALUES, kernels.CHANGES, kernels.TAKERS, kernels.NEAR_SCALE, kernels.DEPTH)


def levels_traded_a_minute(market: Market, price: Decimal) -> float:
    """About how many levels' worth (see ``SimulatedInstrument.level_value``) the flow trades in a minute, measured."""
    return _mixed(_coarseness(market, price), (72.0, 71.5), geometric=True)


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
        # Of a stretch: who has lived it already, and the common moves of its steps that the others have yet to live.
        self._ahead: frozenset[str] = frozenset()
        self._common: deque[float] = deque()
        self._matches = np.empty((MATCHES, 2), dtype=np.int64)
        self._trades = np.empty((TRADES_A_STRETCH, kernels.TRADE), dtype=np.int64)

    def add(self, market: Market, price: Decimal, volatility: float, level_value: float) -> None:
        """A market that goes its own way; a spot market follows the contract of its symbol, which is added before."""
        leader = self._flows.get(market.symbol) if market.category == "spot" else None
        fair = float(price / market.rules.tick_size)
        mood = np.zeros(kernels.MOOD)
        mood[kernels.FAIR], mood[kernels.QUOTED] = fair + 0.5, math.floor(fair)
        mood[kernels.HOURS], mood[kernels.DAYS] = kernels.FIRST_HOURS, kernels.FIRST_DAYS
        parameters = parameters_of(market, price, volatility, level_value)
        if leader is not None:
            parameters[kernels.VOLATILITY] = 0.0  # its fair price is given; its quotes are as patient as any
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
        common = self._common.popleft() if self._common else float(kernels.normal(self._random))
        self._steps += 1
        marks = self._steps % STEPS_A_MARK == 0
        for name, flow in self._flows.items():
            if name in self._ahead:
                continue
            self._step(flow, common, now_ms)
            if marks:
                self._mark(flow, flow.mood[kernels.FAIR], now_ms)
        if not self._common:
            self._ahead = frozenset()

    @property
    def names(self) -> Collection[str]:
        """The markets, as :func:`topics.address` names them."""
        return self._flows.keys()

    def live_ahead(self, names: Collection[str], steps: int, now_ms: int) -> dict[str, NDArray[np.int64]]:
        """Let markets live so many steps at once, much faster than one by one; the next ``steps`` calls of :meth:`step`
        move only the others.

        Nobody may have orders, positions or listeners there, and with a spot market its contract is to be named too.

        Returns:
            For each market its trades (trades x 4: step from 0, 1 for a buying taker or -1, tick, lots), oldest first.
        """
        common = np.empty(steps)
        kernels.normals(self._random, common)
        self._common, self._ahead = deque(common.tolist()), frozenset(names)
        # Of these steps, the last one at which mark prices follow.
        mark = (self._steps + steps) // STEPS_A_MARK * STEPS_A_MARK - self._steps - 1
        fairs: dict[str, NDArray[np.float64]] = {}
        trades = {}
        for name, flow in self._flows.items():
            if name in self._ahead:
                fairs[name] = np.empty(steps)
                leading = _NO_LEADER if flow.leader is None else fairs[flow.leader.market.symbol]
                trades[name] = self._live(flow, common, leading, fairs[name])
                if mark >= 0:
                    self._mark(flow, fairs[name][mark], now_ms)
        return trades

    def pass_over(self, steps: int) -> None:
        """Like so many calls of :meth:`step` after every market has lived ahead."""
        self._steps += steps
        for _ in range(steps):
            self._common.popleft()
        if not self._common:
            self._ahead = frozenset()

    def _live(
        self,
        flow: Flow,
        common: NDArray[np.float64],
        leading: NDArray[np.float64],
        fairs: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        market, parts, lived = flow.market, [], 0
        bids, asks = market.book.bids, market.book.asks
        ticks = self._leaders_ticks(flow)
        while lived < len(common):
            bids.reserve(kernels.ROOM)
            asks.reserve(kernels.ROOM)
            written = np.zeros(1, dtype=np.int64)
            lived = kernels.live(
                *bids.state,
                *asks.state,
                flow.random,
                flow.mood,
                flow.parameters,
                common,
                lived,
                self._liveliness,
                LEVELS_A_SIDE,
                leading,
                ticks,
                SPOT_DISCOUNT,
                fairs,
                self._takers,
                self._matches,
                self._trades,
                written,
            )
            parts.append(self._trades[: written[0]].copy())
        return np.concatenate(parts)

    def _leaders_ticks(self, flow: Flow) -> float:
        """How many ticks of a market one tick of its leader is."""
        if flow.leader is None:
            return 1.0
        return float(flow.leader.market.rules.tick_size / flow.market.rules.tick_size)

    def _step(self, flow: Flow, common: float, now_ms: int) -> None:
        market, takers = flow.market, self._takers
        if flow.leader is not None:
            flow.mood[kernels.FAIR] = flow.leader.mood[kernels.FAIR] * self._leaders_ticks(flow) * SPOT_DISCOUNT
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
        book = flow.market.book
        for side in (book.bids, book.asks):
            side.reserve(kernels.ROOM)
        kernels.restock(*book.bids.state, *book.asks.state, flow.random, flow.mood, flow.parameters, LEVELS_A_SIDE)
        book.changed = True

    def _mark(self, flow: Flow, fair: float, now_ms: int) -> None:
        market = flow.market
        price = market.grids.prices.value(round(float(fair)))
        if market.category == "spot":
            market.mark_price = market.index_price = price
            self._exchange.exits.look(market, now_ms)
        else:
            self._exchange.mark(market, price, price, now_ms)


def _generator(seed: int, number: int) -> NDArray[np.uint64]:
    """The state of one generator of :func:`flow_kernels.uniform`."""
    return np.random.SeedSequence([seed, number]).generate_state(1, np.uint64).astype(np.uint64)
