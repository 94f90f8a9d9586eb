"""Monte-Carlo of the trades' order: what the same trades could have come to, had luck dealt them otherwise.

Each trade counts as the share of the account that it won or lost. Shuffled, the same trades come in another order: the
end is the same, the way there is not, which tells how much of the drawdown was luck. Drawn with replacement they come
as often as it falls, which gives bands for the end too. Trades are taken as independent of each other; where they
overlap or follow each other's losses the truth is wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading.backtest.result import BacktestTrade

RUNS = 1_000
# So that a run of very many trades takes seconds, not minutes.
MOST_DRAWS = 20_000_000
CHUNK_DRAWS = 2_000_000
PERCENTILES = (5, 25, 50, 75, 95)
FAN_POINTS = 100
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TradeOrder:
    """``runs`` of each kind. Bands are at :data:`PERCENTILES`: drawdowns as shares of the peak, returns as fractions of
    the start. ``fan``: for each band the equity over the start, along the drawn trades at ``fan_at`` (how many of
    them). ``loses``: the share of draws that end below the start."""

    runs: int
    shuffled_drawdown: tuple[float, ...]
    drawn_drawdown: tuple[float, ...]
    drawn_return: tuple[float, ...]
    loses: float
    fan_at: tuple[int, ...]
    fan: tuple[tuple[float, ...], ...]


def shares(trades: Sequence[BacktestTrade], balance: float) -> Floats:
    """What each trade won or lost of the account as it was before it ended, in the order of their ends; up to the one
    that took everything."""
    found = []
    before = balance
    for trade in sorted(trades, key=lambda each: each.closed_ms):
        if before <= 0:
            break
        found.append(max(-1.0, float(trade.pnl) / before))
        before += float(trade.pnl)
    return np.array(found)


def trade_order(trades: Sequence[BacktestTrade], balance: float, seed: int, runs: int = RUNS) -> TradeOrder | None:
    """None for less than two trades: there is no order. The same for the same trades and seed."""
    parts = shares(trades, balance)
    if len(parts) < 2:
        return None
    random = np.random.default_rng(seed)
    runs = max(100, min(runs, MOST_DRAWS // len(parts)))
    at = np.unique(np.linspace(0, len(parts), FAN_POINTS + 1).astype(np.int64))
    shuffled: list[Floats] = []
    drawn: list[Floats] = []
    ways: list[Floats] = []
    each = max(1, CHUNK_DRAWS // len(parts))
    for first in range(0, runs, each):
        rows = min(each, runs - first)
        shuffled.append(_deepest(_paths(random.permuted(np.tile(parts, (rows, 1)), axis=1))))
        paths = _paths(random.choice(parts, size=(rows, len(parts))))
        drawn.append(_deepest(paths))
        ways.append(paths[:, at])
    fan = np.concatenate(ways)
    ends = fan[:, -1]
    return TradeOrder(
        runs=runs,
        shuffled_drawdown=_bands(np.concatenate(shuffled)),
        drawn_drawdown=_bands(np.concatenate(drawn)),
        drawn_return=_bands(ends - 1.0),
        loses=float((ends < 1.0).mean()),
        fan_at=tuple(at.tolist()),
        fan=tuple(tuple(row.tolist()) for row in np.percentile(fan, PERCENTILES, axis=0)),
    )


def _paths(parts: Floats) -> Floats:
    """Equity over the start, the start first: a row each."""
    return np.concatenate([np.ones((len(parts), 1)), np.cumprod(1.0 + parts, axis=1)], axis=1)


def _deepest(paths: Floats) -> Floats:
    # Every path starts at 1, so no peak is 0.
    return np.asarray((1.0 - paths / np.maximum.accumulate(paths, axis=1)).max(axis=1))


def _bands(values: Floats) -> tuple[float, ...]:
    return tuple(np.percentile(values, PERCENTILES).tolist())
