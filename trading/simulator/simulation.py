"""Simulated hours without sockets: the market of a seed as fast as the CPU allows, told in figures and, where wanted,
written as a recording."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trading.simulator.instruments import DEFAULT_SYMBOLS
from trading.simulator.intervals import CLOSE, MINUTE_MS, TURNOVER
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.recorder import Recorder
from trading.simulator.stepping import SteppedClock, Stepper
from trading.simulator.venue import Venue

# 2026-01-01 00:00 UTC. A fixed beginning: the same seed makes the same file, whenever it is made.
START_MS = 1_767_225_600_000
MINUTES_A_YEAR = 365 * 24 * 60


@dataclass(frozen=True, slots=True)
class MarketSummary:
    """``turnover`` in USDT; ``volatility`` is the standard deviation of one-minute returns, annualised, as a fraction
    (NaN for less than two minutes)."""

    name: str
    trades: int
    turnover: float
    change: float
    volatility: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What happened in so many simulated seconds. ``candles`` are closed one-minute bars, ``fundings`` payments of
    single contracts, ``messages`` recorded frames (0 without a file)."""

    seconds: float
    wall_seconds: float
    markets: tuple[MarketSummary, ...]
    candles: int
    fundings: int
    liquidations: int
    messages: int

    @property
    def trades(self) -> int:
        return sum(market.trades for market in self.markets)

    def lines(self) -> list[str]:
        """For people."""
        times_real = self.seconds / self.wall_seconds
        turnover = sum(market.turnover for market in self.markets)
        lines = [f"{'market':<16}{'trades':>12}{'turnover, USDT':>20}{'change, %':>12}{'volatility a year, %':>22}"]
        for each in self.markets:
            volatility = f"{100 * each.volatility:.1f}" if math.isfinite(each.volatility) else "-"
            lines.append(
                f"{each.name:<16}{each.trades:>12,}{each.turnover:>20,.0f}{100 * each.change:>12.2f}{volatility:>22}"
            )
        lines.append(
            f"{len(self.markets)} markets: {self.trades:,} trades worth {turnover:,.0f} USDT, {self.candles:,} candles "
            f"of a minute, {self.fundings} fundings, {self.liquidations} liquidations, {self.messages:,} messages."
        )
        lines.append(f"{self.seconds:,.0f} s in {self.wall_seconds:,.1f} s: {times_real:,.0f} times real time.")
        return lines


def simulate(
    seconds: int,
    *,
    seed: int = 7,
    symbols: int = DEFAULT_SYMBOLS,
    liveliness: float = 1.0,
    recording: Path | None = None,
    start_ms: int = START_MS,
) -> Summary:
    """Live so many seconds from ``start_ms``; ``recording`` is the file to write.

    Raises:
        OSError: the file cannot be written.
    """
    clock = SteppedClock(start_ms)
    venue = Venue(DEMO_KEYS, seed=seed, symbols=symbols, liveliness=liveliness, clock=clock)
    recorder = Recorder(venue, recording) if recording is not None else None
    began = time.perf_counter()
    try:
        Stepper(venue, clock).advance(start_ms + seconds * 1_000)
    finally:
        if recorder is not None:
            recorder.close()
    executions = [row for account in venue.exchange.accounts.values() for row in account.executions]
    return Summary(
        seconds=seconds,
        wall_seconds=time.perf_counter() - began,
        markets=tuple(_summary(venue, name) for name in venue.candles),
        candles=len(venue.candles) * ((start_ms + seconds * 1_000) // MINUTE_MS - start_ms // MINUTE_MS),
        fundings=venue.funding.settled,
        liquidations=sum(row["execType"] == "BustTrade" for row in executions),
        messages=recorder.frames if recorder is not None else 0,
    )


def _summary(venue: Venue, name: str) -> MarketSummary:
    category, _, symbol = name.rpartition(":")
    market, series = venue.exchange.market(symbol, category or "linear"), venue.candles[name]
    first_minute, bars = series.history()
    # Before its first own bar the history is made up, and ends where the simulation begins.
    made_up = venue.started_ms // MINUTE_MS - first_minute
    opening, own = bars[made_up - 1, CLOSE], bars[made_up:]
    current = np.array(series.minute(first_minute + len(bars)))
    closes = np.concatenate(([opening], own[:, CLOSE], [current[CLOSE]]))
    returns = np.diff(np.log(closes[: len(own) + 1]))
    turnover = (own[:, TURNOVER].sum() + current[TURNOVER]) * float(market.rules.tick_size * market.rules.lot_size)
    return MarketSummary(
        name=name,
        trades=venue.trades[name].count,
        turnover=float(turnover),
        change=float(closes[-1] / opening - 1),
        volatility=float(returns.std() * math.sqrt(MINUTES_A_YEAR)) if len(returns) > 1 else math.nan,
    )
