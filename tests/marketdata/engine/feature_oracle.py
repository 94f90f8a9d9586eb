"""All features once more, from the formulas of the feature table and by other means: dicts, numpy and pandas.

Everything is first written down as it happened (:class:`WatchedBook`), then computed for the whole session at once.
Nothing of the engine's kernels is used but the window around the price, outside of which levels have no age.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate, count
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marketdata.engine import layout
from marketdata.engine.book import SymbolBook
from marketdata.engine.sync import BookOutcome

Array = NDArray[np.float64]
DEPTHS = (1, 5, 10, 25, 50)
BANDS = {"1_5": 0.015, "3": 0.03, "5": 0.05, "8": 0.08, "15": 0.15, "30": 0.3}
NOTIONAL = 50_000.0
BASIS_POINTS = 10_000.0
_sequence = count()


@dataclass(slots=True)
class Happened:
    """One message that was applied, or one trade; ``window`` is the first and last tick before it."""

    sequence: int
    venue_ms: int
    tick: float
    lot: float
    frame: bytes = b""
    is_snapshot: bool = False
    window: tuple[int, int] = (0, 0)
    features: Array = field(default_factory=lambda: np.empty(0))
    trade: tuple[float, float, str] | None = None


class WatchedBook(SymbolBook):
    """A production book that writes down what happens to it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.happened: list[Happened] = []

    def on_frame(self, frame: bytes | memoryview, receive_ns: int) -> BookOutcome:
        low = int(self._words[layout.WINDOW_LOW])
        window = (low, low + int(self._words[layout.RING_MASK]))
        outcome = super().on_frame(frame, receive_ns)
        if outcome <= BookOutcome.DELTA:
            happened = self._now(self.venue_ns // 1_000_000)
            happened.frame, happened.window, happened.features = bytes(frame), window, self.features()
            happened.is_snapshot = outcome is BookOutcome.SNAPSHOT
        return outcome

    def on_trade(self, venue_ns: int, price: Decimal, quantity: Decimal, side: str) -> None:
        super().on_trade(venue_ns, price, quantity, side)
        self._now(venue_ns // 1_000_000).trade = float(price), float(quantity), side

    def _now(self, venue_ms: int) -> Happened:
        happened = Happened(next(_sequence), venue_ms, float(self.tick_size), float(self.lot_size))
        self.happened.append(happened)
        return happened


class Session:
    """The session of one book, by columns: one row a message, one a trade. ``sampled``: the rows whose levels were
    kept; other rows have only what the best ten tell."""

    def __init__(self, happened: Sequence[Happened], depth_limit: int, snapshot_limit: int, every: int) -> None:
        self.depth_limit, self.snapshot_limit = depth_limit, snapshot_limit
        clock = np.maximum.accumulate([each.venue_ms for each in happened])
        self.seconds = clock // 1_000
        self.sequences = np.array([each.sequence for each in happened])
        self.is_row = np.array([each.trade is None for each in happened])
        self.rows = [each for each in happened if each.trade is None]
        self.row_ms, self.row_seconds = clock[self.is_row], self.seconds[self.is_row]
        trades = [each.trade for each in happened if each.trade is not None]
        self.trade_seconds = self.seconds[~self.is_row]
        self.trade_lots = [
            round(quantity / each.lot)
            for each, (_, quantity, _) in zip((e for e in happened if e.trade), trades, strict=True)
        ]
        self.trades = pd.DataFrame(trades, columns=["price", "quantity", "side"])
        self.trades_before = np.cumsum(~self.is_row)[self.is_row]
        self._levels(every)
        self.mids = self._mids()
        self._flows()
        self._means()
        self._returns()
        self._trades()
        self._toxicity()

    # Levels.

    def _levels(self, every: int) -> None:
        sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
        births: tuple[dict[float, int], dict[float, int]] = ({}, {})
        prices: tuple[list[float], list[float]] = ([], [])
        window = (0, 0)
        columns: dict[str, list[float]] = {}
        self.sampled: list[int] = []
        shapes: list[dict[str, float]] = []
        before: list[list[tuple[float, float]]] = [[], []]
        reach = (0.0, np.inf)
        for index, (row, now) in enumerate(zip(self.rows, self.row_ms.tolist(), strict=True)):
            changed = apply(row, now, window, sides, prices, births)
            if row.is_snapshot:
                reach = self._snapshot_reach(sides)
                before = [[], []]
            window = row.window
            best = [
                [(price, sides[0][price]) for price in reversed(prices[0][-10:])],
                [(price, sides[1][price]) for price in prices[1][:10]],
            ]
            values = {**changed, **order_flow(before, best)}
            before = best
            bids, asks = sum(q for _, q in best[0][:5]), sum(q for _, q in best[1][:5])
            values["mid"] = (best[0][0][0] + best[1][0][0]) / 2
            values["spread_relative"] = (best[1][0][0] - best[0][0][0]) / values["mid"]
            values["imbalance_5"] = (bids - asks) / (bids + asks)
            values["depth_5"] = bids + asks
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
            if index % every == 0 or row.is_snapshot or index == len(self.rows) - 1:
                self.sampled.append(index)
                shapes.append(shape(sides, row.tick) | self._reach(sides, reach))
        shown = pd.DataFrame(shapes, index=self.sampled)
        self.of_levels = set(shown.columns)
        self.expected = shown.reindex(range(len(self.rows)))
        self.columns = pd.DataFrame(columns)
        for name in ("mid", "spread_relative", "imbalance_5"):
            self.expected[name] = self.columns[name]

    def _snapshot_reach(self, sides: tuple[dict[float, float], dict[float, float]]) -> tuple[float, float]:
        bids, asks = sides
        low = 0.0 if len(bids) < self.snapshot_limit else min(bids)
        return low, np.inf if len(asks) < self.snapshot_limit else max(asks)

    def _reach(self, sides: tuple[dict[float, float], dict[float, float]], reach: Any) -> dict[str, float]:
        bids, asks = sides
        if self.depth_limit:
            reach = (
                min(bids) if len(bids) >= self.depth_limit else 0.0,
                max(asks) if len(asks) >= self.depth_limit else np.inf,
            )
        best_bid, best_ask = max(bids), min(asks)
        return {
            "reach_bid": max(best_bid - reach[0], 0) / best_bid,
            "reach_ask": max(reach[1] - best_ask, 0) / best_ask,
        }

    # Windows of the venue's seconds.

    def _rows_in(self, name: str, seconds: int) -> Array:
        sums = np.concatenate([[0.0], np.cumsum(self.columns[name])])
        first = np.searchsorted(self.row_seconds, self.row_seconds - seconds + 1)
        return sums[np.arange(1, len(sums))] - sums[first]

    def _trades_in(self, values: Array, seconds: int) -> Array:
        sums = np.concatenate([[0.0], np.cumsum(values)])
        first = np.searchsorted(self.trade_seconds, self.row_seconds - seconds + 1)
        return sums[self.trades_before] - sums[np.minimum(first, self.trades_before)]

    def _flows(self) -> None:
        expected, columns = self.expected, self.columns
        for name in ("order_flow_imbalance", "order_flow_imbalance_5", "order_flow_imbalance_10"):
            expected[name] = columns[name]
        for seconds in (1, 10, 60):
            expected[f"order_flow_{seconds}s"] = self._rows_in("order_flow_imbalance", seconds)
        expected["price_pressure"] = expected["order_flow_10s"] / columns["depth_5"]
        columns["one"] = 1.0
        for feature, name in (("added_10s", "added"), ("removed_10s", "removed"), ("updates_10s", "one")):
            expected[feature] = self._rows_in(name, 10)
        for side, name in enumerate(("bid", "ask")):
            lives = self._rows_in(f"lives_{side}", 60)
            life = self._rows_in(f"life_{side}", 60)
            expected[f"lifetime_{name}_60s"] = np.where(lives > 0, life / np.where(lives > 0, lives, 1), np.nan)

    def _means(self) -> None:
        names = {"imbalance_fast": ("imbalance_5", 1), "imbalance_slow": ("imbalance_5", 10)}
        names["spread_mean"] = ("spread_relative", 60)
        for feature, (name, constant) in names.items():
            values, passed = self.columns[name].to_numpy(), np.diff(self.row_ms) / 1_000
            mean = np.empty(len(values))
            mean[0] = values[0]
            for index in range(1, len(values)):
                kept = np.exp(-passed[index - 1] / constant)
                mean[index] = kept * mean[index - 1] + (1 - kept) * values[index]
            self.expected[feature] = mean
        self.expected["imbalance_turn"] = self.expected["imbalance_fast"] - self.expected["imbalance_slow"]
        self.expected["spread_ratio"] = self.columns["spread_relative"] / self.expected["spread_mean"]

    def _mids(self) -> pd.Series:
        """The last mid of each second, the ones without a message included."""
        last = pd.Series(self.columns["mid"].to_numpy(), index=self.row_seconds).groupby(level=0).last()
        return last.reindex(range(int(self.seconds[0]), int(self.seconds[-1]) + 1)).ffill()

    def _of_second(self, series: pd.Series, before: int) -> Array:
        return series.reindex(self.row_seconds - before).to_numpy()

    def _returns(self) -> None:
        expected, mid = self.expected, self.columns["mid"].to_numpy()
        for seconds in (1, 10, 60):
            expected[f"return_{seconds}s"] = mid / self._of_second(self.mids, seconds) - 1
        before = self._of_second(self.mids, 1) / self._of_second(self.mids, 2) - 1
        expected["acceleration"] = expected["return_1s"] - before
        returns = np.log(self.mids / self.mids.shift())
        for seconds in (10, 60, 300):
            expected[f"volatility_{seconds}s"] = self._of_second(returns.rolling(seconds).std(), 1)
        expected["return_mean_60s"] = self._of_second(returns.rolling(60).mean(), 1)
        expected["noise_60s"] = self._of_second(returns.rolling(60).apply(roll, raw=True), 1)
        expected["return_skew_300s"] = self._of_second(returns.rolling(300).apply(skewness, raw=True), 1)

    def _trades(self) -> None:
        expected, trades = self.expected, self.trades
        bought = np.where(trades["side"] == "Buy", trades["quantity"], 0.0)
        sold = np.where(trades["side"] == "Sell", trades["quantity"], 0.0)
        expected["bought_10s"], expected["sold_10s"] = self._trades_in(bought, 10), self._trades_in(sold, 10)
        for seconds in (1, 10, 60):
            expected[f"volume_delta_{seconds}s"] = self._trades_in(bought - sold, seconds)
        for seconds in (10, 60):
            total = self._trades_in(bought + sold, seconds)
            known = total > 1e-12
            share = expected[f"volume_delta_{seconds}s"] / np.where(known, total, 1)
            expected[f"trade_imbalance_{seconds}s"] = np.where(known, share, np.nan)
        expected["trades_10s"] = self._trades_in(np.ones(len(trades)), 10)
        notional = self._trades_in((trades["price"] * trades["quantity"]).to_numpy(), 60)
        expected["trade_vwap_60s"] = np.where(known, notional / np.where(known, total, 1), np.nan)
        expected["trade_vwap_distance"] = self.columns["mid"] / expected["trade_vwap_60s"] - 1

    def _toxicity(self) -> None:
        shares: list[float] = []
        after = []
        bought = sold = size = 0
        first, seconds, sums = int(self.seconds[0]), self.trade_seconds.tolist(), [0, *accumulate(self.trade_lots)]
        for number, (second, lots, side) in enumerate(zip(seconds, self.trade_lots, self.trades["side"], strict=True)):
            left = lots
            while left > 0:
                if size == 0:
                    start = bisect_left(seconds, second - 299)
                    traded = sums[number + 1] - sums[start]
                    size = max(traded * 6 // min(second - first + 1, 300), 1)
                taken = min(left, size - bought - sold)
                bought, sold = (bought + taken, sold) if side == "Buy" else (bought, sold + taken)
                left -= taken
                if bought + sold == size:
                    shares.append(abs(bought - sold) / size)
                    bought = sold = size = 0
            after.append(len(shares))
        filled = np.concatenate([[0], after])[self.trades_before].astype(int)
        means = [np.mean(shares[max(n - 50, 0) : n]) if n >= 10 else np.nan for n in filled]
        self.expected["toxicity"] = means

    # Against other books.

    def compare_with(self, reference: Session | None, other: Session | None) -> None:
        if reference is None or other is None:
            for name in ("venue_spread", "reference_correlation_60s", "reference_correlation_300s"):
                self.expected[name] = np.nan
            return
        latest = np.searchsorted(other.sequences[other.is_row], [row.sequence for row in self.rows]) - 1
        there = np.where(latest >= 0, other.columns["mid"].to_numpy()[latest], np.nan)
        self.expected["venue_spread"] = self.columns["mid"] / there - 1
        returns = np.log(self.mids / self.mids.shift())
        for seconds in (60, 300):
            by_second = {}
            for second in np.unique(self.row_seconds):
                heard = self.sequences[np.searchsorted(self.seconds, second)]
                theirs = reference.returns_heard(heard, second - seconds, second - 1)
                ours = returns.reindex(range(second - seconds, second)).to_numpy()
                by_second[second] = correlation(ours, theirs)
            values = [by_second[second] for second in self.row_seconds]
            self.expected[f"reference_correlation_{seconds}s"] = values

    def returns_heard(self, sequence: int, first: int, last: int) -> Array:
        """The log returns of whole seconds, as far as this book knew at a moment."""
        until = int(np.searchsorted(self.sequences, sequence))
        rows = int(np.searchsorted(self.sequences[self.is_row], sequence))
        if until == 0:
            return np.full(last - first + 1, np.nan)
        newest = int(self.seconds[until - 1])
        known = pd.Series(self.columns["mid"].to_numpy()[:rows], index=self.row_seconds[:rows])
        mids = known.groupby(level=0).last().reindex(range(int(self.seconds[0]), newest + 1)).ffill()
        returns = np.log(mids / mids.shift()).reindex(range(first, last + 1))
        # Nothing was heard of later seconds: no change.
        returns.loc[returns.index > newest] = 0.0
        return returns.to_numpy()


def apply(
    row: Happened,
    now: int,
    window: tuple[int, int],
    sides: tuple[dict[float, float], dict[float, float]],
    prices: tuple[list[float], list[float]],
    births: tuple[dict[float, int], dict[float, int]],
) -> dict[str, float]:
    """Change the levels, their sorted prices and their births; what appeared and vanished. ``window`` was the one of
    the message before."""
    message = json.loads(row.frame)
    data = message.get("data", message)
    changed = dict.fromkeys(("added", "removed", "lives_0", "lives_1", "life_0", "life_1"), 0.0)
    for side, (levels, born) in enumerate(zip(sides, births, strict=True)):
        if row.is_snapshot:
            levels.clear()
            born.clear()
            prices[side].clear()
        elif row.window != window:
            for price in [each for each in born if not row.window[0] <= round(each / row.tick) <= row.window[1]]:
                del born[price]
        for price_text, quantity_text in data[("b", "a")[side]] if "b" in data else data[("bids", "asks")[side]]:
            price, quantity = float(price_text), float(quantity_text)
            if quantity and price not in levels and not row.is_snapshot:
                changed["added"] += 1
                if row.window[0] <= round(price / row.tick) <= row.window[1]:
                    born[price] = now
            if not quantity and price in levels and not row.is_snapshot:
                changed["removed"] += 1
                if price in born:
                    changed[f"lives_{side}"] += 1
                    changed[f"life_{side}"] += (now - born.pop(price)) / 1_000
            if quantity:
                if price not in levels:
                    insort(prices[side], price)
                levels[price] = quantity
            elif levels.pop(price, None) is not None:
                del prices[side][bisect_left(prices[side], price)]
    return changed


def order_flow(before: list[list[tuple[float, float]]], best: list[list[tuple[float, float]]]) -> dict[str, float]:
    """Cont, Kukanov and Stoikov's event contributions, rank by rank."""
    flows = np.zeros(10)
    for rank in range(10):
        if rank < min(len(before[0]), len(best[0])):
            (old_price, old), (price, new) = before[0][rank], best[0][rank]
            flows[rank] += new * (price >= old_price) - old * (price <= old_price)
        if rank < min(len(before[1]), len(best[1])):
            (old_price, old), (price, new) = before[1][rank], best[1][rank]
            flows[rank] -= new * (price <= old_price) - old * (price >= old_price)
    names = {"order_flow_imbalance": 1, "order_flow_imbalance_5": 5, "order_flow_imbalance_10": 10}
    return {name: float(flows[:ranks].sum()) for name, ranks in names.items()}


def shape(sides: tuple[dict[float, float], dict[float, float]], tick: float) -> dict[str, float]:
    """What one moment's levels tell."""
    bids = np.array(sorted(sides[0].items(), reverse=True))
    asks = np.array(sorted(sides[1].items()))
    (bid, bid_size), (ask, ask_size) = bids[0], asks[0]
    mid, spread = (bid + ask) / 2, ask - bid
    micro = (bid * ask_size + ask * bid_size) / (bid_size + ask_size)
    row = {"best_bid": bid, "best_ask": ask, "spread": spread, "spread_ticks": spread / tick, "microprice": micro}
    row |= {"microprice_lean": 2 * (micro - mid) / spread, "levels_bid": len(bids), "levels_ask": len(asks)}
    for depth in DEPTHS:
        row |= balance(f"depth_%s_{depth}", f"imbalance_{depth}", bids[:depth, 1].sum(), asks[:depth, 1].sum())
        row[f"vwap_bid_{depth}"] = np.average(bids[:depth, 0], weights=bids[:depth, 1])
        row[f"vwap_ask_{depth}"] = np.average(asks[:depth, 0], weights=asks[:depth, 1])
    for name, share in BANDS.items():
        # A rounding error must not decide of a level exactly at the limit.
        near_bids = bids[bids[:, 0] >= bid * (1 - share) - tick / 1_000, 1].sum()
        near_asks = asks[asks[:, 0] <= ask * (1 + share) + tick / 1_000, 1].sum()
        row |= balance(f"band_%s_{name}", f"band_imbalance_{name}", near_bids, near_asks)
    for name, levels, best in (("bid", bids[:50], bid), ("ask", asks[:50], ask)):
        distances = np.abs(levels[:, 0] - best) / best * BASIS_POINTS
        row[f"slope_{name}"] = levels[:, 1].sum() / distances[-1] if distances[-1] > 0 else np.nan
        wall = int(np.argmax(levels[:, 1]))
        row[f"wall_distance_{name}"] = distances[wall]
        row[f"wall_share_{name}"] = levels[wall, 1] / levels[:, 1].sum()
    row["impact_buy"] = (walk(asks[:50]) / mid - 1) * BASIS_POINTS
    row["impact_sell"] = (1 - walk(bids[:50]) / mid) * BASIS_POINTS
    return row


def balance(sums: str, share: str, bid: float, ask: float) -> dict[str, float]:
    return {sums % "bid": bid, sums % "ask": ask, share: (bid - ask) / (bid + ask)}


def walk(levels: Array) -> float:
    """The mean price of 50,000 taken from the levels one after the other; NaN if they do not hold it."""
    left, taken = NOTIONAL, 0.0
    for price, size in levels:
        here = min(left, price * size)
        taken += here / price
        left -= here
        if left <= 1e-9:
            return NOTIONAL / taken
    return float("nan")


def roll(returns: Array) -> float:
    mean, number = returns.mean(), len(returns)
    return mean * mean - (returns[1:] * returns[:-1]).sum() / (number - 1)


def skewness(returns: Array) -> float:
    centred = returns - returns.mean()
    deviation = np.sqrt((centred**2).mean())
    return (centred**3).mean() / deviation**3 if deviation > 0 else np.nan


def correlation(ours: Array, theirs: Array) -> float:
    if np.isnan(ours).any() or np.isnan(theirs).any() or ours.std() == 0 or theirs.std() == 0:
        return float("nan")
    return float(np.corrcoef(ours, theirs)[0, 1])
