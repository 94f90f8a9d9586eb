"""How close the simulated market is to the recorded one: the same figures of both, side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from marketdata.feeds.bybit import topic_of
from marketdata.feeds.recorded import read_recording
from trading.simulator.exchange import Exchange
from trading.simulator.instruments import INSTRUMENTS
from trading.simulator.markets import market_of
from trading.simulator.orderflow import STEP_SECONDS, OrderFlow
from trading.simulator.publisher import BookStream

DATA = Path(os.environ.get("MARKET_DATA_DIR") or Path(__file__).resolve().parents[2] / "shared" / "data")
DEPTH = 200
MESSAGE_SECONDS = 0.1
RANKS = (1, 2, 5, 10, 25, 50, 100, 150, 200)
DEPTHS = (1, 5, 10, 50, 100, 200)
TRADE_QUANTILES = (10, 25, 75, 90, 99)
# The recording is a quiet 42 s; the simulated market is watched for longer, since it has calm and busy minutes.
SIMULATED_SECONDS = 300
# Minutes differ as much as seeds do: what is compared is the mean of some.
SEEDS = (1, 2, 3, 4, 5, 6, 7, 8)

Figures = dict[str, float]


class Measurement:
    """Follows ``orderbook.200`` messages and the trades of one symbol; ``tick`` is its tick size."""

    def __init__(self, tick: float) -> None:
        self._tick = tick
        self._sides: tuple[dict[int, float], dict[int, float]] = ({}, {})
        self._changes: list[int] = []
        self._distances: list[int] = []
        self._best_changes: list[bool] = []
        self._spreads: list[int] = []
        self._spans: list[int] = []
        self._values: list[list[float]] = []
        self._mids: list[float] = []
        self._trades: list[float] = []

    def book(self, message: dict[str, Any]) -> None:
        """One message, the snapshot first."""
        is_delta = message["type"] == "delta"
        changed: list[tuple[int, int]] = []
        for sign, side, rows in zip((-1, 1), self._sides, (message["data"]["b"], message["data"]["a"]), strict=True):
            if not is_delta:
                side.clear()
            for price, quantity in rows:
                tick = round(float(price) / self._tick)
                changed.append((sign, tick))
                if float(quantity):
                    side[tick] = float(quantity)
                else:
                    side.pop(tick, None)
        bids, asks = sorted(self._sides[0], reverse=True), sorted(self._sides[1])
        self._spreads.append(asks[0] - bids[0])
        self._mids.append((asks[0] + bids[0]) / 2)
        if not is_delta:
            return
        self._changes.append(len(changed))
        bests = {-1: bids[0], 1: asks[0]}
        distances = [(tick - bests[sign]) * sign for sign, tick in changed]
        self._distances += distances
        self._best_changes.append(0 in distances)
        for ticks, side in ((bids, self._sides[0]), (asks, self._sides[1])):
            if len(ticks) >= DEPTH:
                self._spans.append(abs(ticks[DEPTH - 1] - ticks[0]))
                self._values.append([side[tick] * tick * self._tick for tick in ticks[:DEPTH]])

    def trade(self, value: float) -> None:
        self._trades.append(value)

    def figures(self, seconds: float) -> Figures:
        values, trades = np.array(self._values), np.array(self._trades)
        changes, distances, spreads = np.array(self._changes), np.array(self._distances), np.array(self._spreads)
        p10, p50, p90 = np.percentile(distances, (10, 50, 90))
        return {
            "changes a message, mean": changes.mean(),
            "changes a message, median": float(np.median(changes)),
            "changes a message, p90": float(np.percentile(changes, 90)),
            "changes' distance in ticks, p10": p10,
            "changes' distance in ticks, p50": p50,
            "changes' distance in ticks, p90": p90,
            "messages with a change at the best, %": 100 * float(np.mean(self._best_changes)),
            "messages with a spread of 1 tick, %": 100 * float((spreads == 1).mean()),
            f"ticks that {DEPTH} levels span": float(np.mean(self._spans)),
            **{f"USD at rank {rank}, mean": values[:, rank - 1].mean() for rank in RANKS},
            **{f"USD in the best {depth}, mean": values[:, :depth].sum(axis=1).mean() for depth in DEPTHS},
            "USD at a level, median": float(np.median(values)),
            "USD at a level, log-std": float(np.log(values).std()),
            "trades a minute": len(trades) / seconds * 60,
            "USD of a trade, median": float(np.median(trades)),
            "USD of a trade, mean": trades.mean(),
            **{f"USD of a trade, p{share}": float(np.percentile(trades, share)) for share in TRADE_QUANTILES},
            "USD of a trade, log-std": float(np.log(trades).std()),
            "mid price in 1 s, std in ticks": float(np.diff(self._mids[::10]).std()),
        }


def recorded(symbol: str) -> Figures | None:
    """The figures of a linear symbol in the recorded session; None where that is absent."""
    files = sorted((DATA / "bybit-v5-session").glob("*.zst"))
    if not files:
        return None
    frames = [frame for frame in read_recording(files[0]) if frame.category == "linear"]
    listing = next(
        row
        for frame in frames
        if frame.kind == "http" and frame.url and "instruments-info" in frame.url
        for row in orjson.loads(frame.data)["result"]["list"]
        if row["symbol"] == symbol
    )
    measurement = Measurement(float(listing["priceFilter"]["tickSize"]))
    times = []
    for frame in frames:
        topic = topic_of(frame.data) if frame.kind == "recv" else None
        if topic == f"orderbook.{DEPTH}.{symbol}":
            measurement.book(orjson.loads(frame.data))
            times.append(frame.receive_ns)
        elif topic == f"publicTrade.{symbol}":
            for row in orjson.loads(frame.data)["data"]:
                measurement.trade(float(row["p"]) * float(row["v"]))
    return measurement.figures((times[-1] - times[0]) / 1e9)


def simulated(symbol: str, *, seed: int = 7, seconds: float = SIMULATED_SECONDS) -> Figures:
    """The figures of a listed symbol in the order flow."""
    each = next(each for each in INSTRUMENTS if each.symbol == symbol)
    market = market_of(each.listing())
    exchange = Exchange({symbol: market}, {})
    flow = OrderFlow(exchange, seed)
    flow.add(market, each.price, each.volatility, each.level_value)
    measurement = Measurement(float(each.tick_size))
    stream = BookStream(market, DEPTH, first_update_id=1)
    measurement.book(orjson.loads(stream.snapshot(0)))
    steps_a_message = round(MESSAGE_SECONDS / STEP_SECONDS)
    for step in range(1, round(seconds / STEP_SECONDS) + 1):
        flow.step(round(step * STEP_SECONDS * 1_000))
        message = stream.delta(0) if step % steps_a_message == 0 else None
        if message is not None:
            measurement.book(orjson.loads(message))
    for trade in exchange.trades:
        measurement.trade(float(trade.price * trade.quantity))
    return measurement.figures(seconds)


def simulated_mean(symbol: str, seeds: Iterable[int] = SEEDS) -> Figures:
    """The means over seeds of the figures that :func:`simulated` gives."""
    runs = [simulated(symbol, seed=seed) for seed in seeds]
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


def how_close(symbols: Iterable[str] = ("BTCUSDT", "SOLUSDT")) -> list[str]:
    """A table of lines: recorded beside simulated."""
    lines = []
    for symbol in symbols:
        real, ours = recorded(symbol), simulated_mean(symbol)
        lines.append(f"{symbol:<36}{'recorded':>14}{'simulated':>14}")
        for name, value in ours.items():
            told = _short(real[name]) if real is not None else "absent"
            lines.append(f"  {name:<34}{told:>14}{_short(value):>14}")
    return lines


def _short(value: float) -> str:
    return f"{Decimal(value):,.0f}" if abs(value) >= 100 else f"{value:.2f}"
