"""How close hours and days of the simulated market are to recorded candles: volatility, tails, clusters."""

from __future__ import annotations

import argparse
import gzip
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from trading.simulator.exchange import Exchange  # noqa: E402
from trading.simulator.instruments import INSTRUMENTS  # noqa: E402
from trading.simulator.markets import market_of  # noqa: E402
from trading.simulator.orderflow import STEP_SECONDS, OrderFlow  # noqa: E402

DATA = Path(os.environ.get("MARKET_DATA_DIR") or REPOSITORY.parent / "shared" / "data")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
BAR_SECONDS = 300
STEPS_A_BAR = round(BAR_SECONDS / STEP_SECONDS)
# In bars of five minutes: what is looked at, and after how many the size of returns is compared with itself.
SPANS = {"5m": 1, "15m": 3, "1h": 12}
LAGS = {"5 m": 1, "30 m": 6, "1 h": 12, "4 h": 48, "1 d": 288}

Figures = dict[str, float]
Closes = Mapping[str, NDArray[np.float64]]


def figures(closes: Closes) -> Figures:
    """Of closes of five-minute bars, one array a symbol, all of the same times."""
    found: Figures = {}
    logs = {symbol: np.log(values) for symbol, values in closes.items()}
    for symbol, values in logs.items():
        for name, span in SPANS.items():
            returns = np.diff(values[::span])
            found[f"{symbol} {name} return, std, %"] = 100 * returns.std()
            found[f"{symbol} {name} return, kurtosis"] = kurtosis(returns)
            found[f"{symbol} {name} return, largest, std"] = np.abs(returns).max() / returns.std()
        sizes = np.abs(np.diff(values))
        for name, lag in LAGS.items():
            found[f"{symbol} 5m size of returns, autocorrelation {name}"] = np.corrcoef(sizes[:-lag], sizes[lag:])[0, 1]
    first, second = (logs[symbol] for symbol in SYMBOLS)
    for name, span in SPANS.items():
        pair = np.corrcoef(np.diff(first[::span]), np.diff(second[::span]))
        found[f"{SYMBOLS[0]} and {SYMBOLS[1]} {name} returns, correlation"] = pair[0, 1]
    return found


def kurtosis(values: NDArray[np.float64]) -> float:
    """3 for normal numbers."""
    centred = values - values.mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2)


def recorded() -> Closes | None:
    """The closes that both symbols' recorded candles have; None where these are absent."""
    tables = {}
    for symbol in SYMBOLS:
        path = DATA / "candles-bybit" / f"{symbol}_5m.csv.gz"
        if not path.exists():
            return None
        with gzip.open(path, "rt") as stream:
            rows = np.loadtxt(stream, delimiter=",", skiprows=1, usecols=(0, 4))
        tables[symbol] = dict(zip(rows[:, 0].astype(np.int64).tolist(), rows[:, 1].tolist(), strict=True))
    times = sorted(set(tables[SYMBOLS[0]]) & set(tables[SYMBOLS[1]]))
    return {symbol: np.array([table[time] for time in times]) for symbol, table in tables.items()}


def simulated(days: float, seed: int = 7) -> Closes:
    """The last trades of each five minutes of the order flow."""
    listed = [each for each in INSTRUMENTS if each.symbol in SYMBOLS]
    exchange = Exchange({each.symbol: market_of(each.listing()) for each in listed}, {})
    flow = OrderFlow(exchange, seed)
    for each in listed:
        flow.add(exchange.markets[each.symbol], each.price, each.volatility, each.level_value)
    ticks: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}
    for _ in range(math.ceil(days * 86_400 / BAR_SECONDS)):
        for symbol, trades in flow.live_ahead(SYMBOLS, STEPS_A_BAR, 0).items():
            ticks[symbol].append(int(trades[-1, 2]) if len(trades) else ticks[symbol][-1])
        flow.pass_over(STEPS_A_BAR)
    return {symbol: np.array(values, dtype=np.float64) for symbol, values in ticks.items()}


def table(days: float, seed: int = 7) -> list[str]:
    """Lines: recorded beside simulated."""
    closes = recorded()
    real, ours = (figures(closes) if closes is not None else None), figures(simulated(days, seed))
    lines = [f"{'':<58}{'recorded':>12}{'simulated':>12}"]
    for name, value in ours.items():
        told = f"{real[name]:.3f}" if real is not None else "absent"
        lines.append(f"{name:<58}{told:>12}{value:>12.3f}")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    print("\n".join(table(chosen.days, chosen.seed)))
