"""The same 104 values a message with orjson, two dicts and numpy: what they cost without a compiled engine.

Written as one would for speed in numpy: levels stay in dicts, are made arrays and sorted once a message, and what only
changes with the second is computed once a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.engine.peers import Run
from marketdata.engine.feature_table import BAND_PERCENT, DEPTHS, FEATURES, IMPACT_NOTIONAL

Floats = NDArray[np.float64]
SECONDS = 512
TOP, FLOW_RANKS = 50, 10
PLACES = np.array(DEPTHS) - 1
BANDS = np.array(BAND_PERCENT) / 100.0
MEANS_MS = np.array([1_000.0, 10_000.0, 60_000.0])
WINDOW_10, WINDOW_60 = np.arange(10), np.arange(60)
BASIS_POINTS = 10_000.0
# Below any tick, above any rounding of a price.
HALF = 1e-9


class NumpyFeatures:
    """One symbol. :meth:`take` gives the row after each frame."""

    def __init__(self, tick_size: float, depth: int = 200) -> None:
        self._tick, self._depth = tick_size, depth
        self._sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
        self._births: tuple[dict[float, int], dict[float, int]] = ({}, {})
        self._update = 0
        self._second = self._first_second = 0
        # By second modulo SECONDS: flow, added, removed, updates, then lives and lifetimes of bids and asks.
        self._sums = np.zeros((8, SECONDS))
        self._mids: Floats = np.full(SECONDS, np.nan)
        self._returns: Floats = np.full(SECONDS, np.nan)
        self._statistics: list[float] = [np.nan] * 7
        self._before: list[tuple[Floats, Floats]] = []
        self._means: Floats = np.full(3, np.nan)
        self._means_ms = 0

    def take(self, frame: bytes) -> Floats:
        message = orjson.loads(frame)
        data, now = message["data"], message["cts"]
        is_snapshot = message["type"] == "snapshot"
        if not is_snapshot and data["u"] != self._update + 1:
            raise AssertionError(f"update {data['u']} after {self._update}")
        self._update = data["u"]
        self._move_clock(now)
        if is_snapshot:
            self._before = []
        place = self._second % SECONDS
        added = removed = 0
        for side, name in enumerate("ba"):
            levels, births = self._sides[side], self._births[side]
            if is_snapshot:
                levels.clear()
                births.clear()
            for price_text, text in data[name]:
                price = float(price_text)
                if text == "0":
                    if levels.pop(price, None) is not None:
                        removed += 1
                        born = births.pop(price, None)
                        if born is not None:
                            self._sums[4 + side, place] += 1
                            self._sums[6 + side, place] += now - born
                else:
                    if price not in levels:
                        added += 1
                        if not is_snapshot:
                            births[price] = now
                    levels[price] = float(text)
        if not is_snapshot:
            self._sums[1, place] += added
            self._sums[2, place] += removed
        self._sums[3, place] += 1
        return self._row(now)

    def _move_clock(self, now: int) -> None:
        second = now // 1000
        if second == self._second:
            return
        if self._second == 0:
            self._first_second = second
        else:
            before = self._second
            mid = self._mids[before % SECONDS]
            change = np.log(mid / self._mid_of(before - 1))
            for each in range(before + 1, second + 1):
                self._returns[(each - 1) % SECONDS] = change if each == before + 1 else 0.0
                self._sums[:, each % SECONDS] = 0.0
                self._mids[each % SECONDS] = mid
        self._second = second
        self._describe_seconds()

    def _mid_of(self, second: int) -> float:
        return float(self._mids[second % SECONDS]) if second >= self._first_second else np.nan

    def _describe_seconds(self) -> None:
        """Volatility of 10, 60 and 300 s, mean and skewness and noise of returns, the return of the second before."""
        last, found = self._second - 1, [np.nan] * 7
        for place, seconds in enumerate((10, 60, 300)):
            if last - seconds < self._first_second:
                continue
            changes = self._returns[np.arange(last - seconds + 1, last + 1) % SECONDS]
            found[place] = float(changes.std(ddof=1))
            if seconds == 60:
                found[3] = float(changes.mean())
                found[5] = found[3] ** 2 - float(changes[1:] @ changes[:-1]) / (seconds - 1)
            if seconds == 300:
                centred = changes - changes.mean()
                deviation = float(centred.std())
                found[4] = float((centred**3).mean()) / deviation**3 if deviation > 0 else np.nan
        found[6] = self._mid_of(last) / self._mid_of(last - 1) - 1.0
        self._statistics = found

    def _sorted(self, side: int) -> tuple[Floats, Floats]:
        levels = self._sides[side]
        prices = np.fromiter(levels.keys(), np.float64, len(levels))
        quantities = np.fromiter(levels.values(), np.float64, len(levels))
        order = np.argsort(prices)
        if side == 0:
            order = order[::-1]
        return prices[order], quantities[order]

    def _row(self, now: int) -> Floats:
        row: Floats = np.full(len(FEATURES), np.nan)
        sides = [self._sorted(0), self._sorted(1)]
        (bids, bid_sizes), (asks, ask_sizes) = sides
        bid, ask = bids[0], asks[0]
        mid, spread = (bid + ask) / 2, ask - bid
        micro = (bid * ask_sizes[0] + ask * bid_sizes[0]) / (bid_sizes[0] + ask_sizes[0])
        row[:10] = bid, ask, mid, spread, spread / self._tick, spread / mid, micro, 2 * (micro - mid) / spread, 0, 0
        row[8], row[9] = len(bids), len(asks)
        self._fill_depths(row, sides)
        depth_5 = row[15] + row[16]
        for side, (prices, sizes) in enumerate(sides):
            self._fill_bands_and_shape(row, side, prices, sizes, mid)
        row[37:53:3] = (row[35:51:3] - row[36:52:3]) / (row[35:51:3] + row[36:52:3])
        self._mids[self._second % SECONDS] = mid
        self._fill_flow(row, sides, depth_5)
        self._fill_means(row, now, row[17], spread / mid)
        last = mid / self._mid_of(self._second - 1) - 1.0
        statistics = self._statistics
        row[75:79] = (
            last,
            mid / self._mid_of(self._second - 10) - 1.0,
            mid / self._mid_of(self._second - 60) - 1.0,
            last - statistics[6],
        )
        row[79:85] = statistics[0], statistics[1], statistics[2], statistics[3], statistics[4], statistics[5]
        # The stream has no trades and no other books: their sums are 0, their ratios not known.
        row[85:90] = 0.0
        row[92] = 0.0
        seconds_10, seconds_60 = (self._second - WINDOW_10) % SECONDS, (self._second - WINDOW_60) % SECONDS
        row[96:99] = self._sums[1:4, seconds_10].sum(axis=1)
        lives, lifetimes = self._sums[4:6, seconds_60].sum(axis=1), self._sums[6:8, seconds_60].sum(axis=1)
        row[99:101] = np.divide(lifetimes / 1000.0, lives, out=np.full(2, np.nan), where=lives > 0)
        return row

    def _fill_depths(self, row: Floats, sides: list[tuple[Floats, Floats]]) -> None:
        depths = []
        for side, (prices, sizes) in enumerate(sides):
            top = sizes[:TOP]
            places = np.minimum(PLACES, len(top) - 1)
            sums = np.cumsum(top)[places]
            row[10 + side : 35 : 5] = sums
            row[13 + side : 35 : 5] = np.cumsum(prices[:TOP] * top)[places] / sums
            depths.append(sums)
        row[12:35:5] = (depths[0] - depths[1]) / (depths[0] + depths[1])

    def _fill_bands_and_shape(self, row: Floats, side: int, prices: Floats, sizes: Floats, mid: float) -> None:
        best, sign = prices[0], 1.0 if side else -1.0
        limits = best * BANDS + HALF * best
        distances = (prices - best) * sign
        totals = np.concatenate(([0.0], np.cumsum(sizes)))
        row[35 + side : 53 : 3] = totals[np.searchsorted(distances, limits, side="right")]
        knows_all = len(prices) < self._depth
        row[53 + side] = (np.inf if side else 1.0) if knows_all else distances[-1] / best
        top, top_prices = sizes[:TOP], prices[:TOP]
        total = top.sum()
        row[55 + side] = total / (distances[len(top) - 1] / best * BASIS_POINTS)
        paid = np.cumsum(top * top_prices)
        # Buying takes asks: it comes first in the row.
        if paid[-1] >= IMPACT_NOTIONAL:
            last = int(np.searchsorted(paid, IMPACT_NOTIONAL))
            lots = top[: last + 1].sum() - (paid[last] - IMPACT_NOTIONAL) / top_prices[last]
            row[58 - side] = (IMPACT_NOTIONAL / lots - mid) * sign / mid * BASIS_POINTS
        largest = int(np.argmax(top))
        row[59 + side] = distances[largest] / best * BASIS_POINTS
        row[61 + side] = top[largest] / total

    def _fill_flow(self, row: Floats, sides: list[tuple[Floats, Floats]], depth_5: float) -> None:
        flows = np.zeros(3)
        newest = [(prices[:FLOW_RANKS], sizes[:FLOW_RANKS]) for prices, sizes in sides]
        if self._before:
            for side, ((prices, sizes), (old_prices, old_sizes)) in enumerate(zip(newest, self._before, strict=True)):
                number = min(len(prices), len(old_prices))
                sign = -1.0 if side else 1.0
                better = (prices[:number] - old_prices[:number]) * sign
                changes = np.where(better >= 0, sizes[:number], 0.0) - np.where(better <= 0, old_sizes[:number], 0.0)
                sums = np.cumsum(changes) * sign
                flows += sums[np.minimum((0, 4, 9), number - 1)]
        self._before = newest
        self._sums[0, self._second % SECONDS] += flows[0]
        series = self._sums[0]
        row[63:66] = flows
        row[66] = series[self._second % SECONDS]
        row[67] = series[(self._second - WINDOW_10) % SECONDS].sum()
        row[68] = series[(self._second - WINDOW_60) % SECONDS].sum()
        row[69] = row[67] / depth_5

    def _fill_means(self, row: Floats, now: int, imbalance: float, spread: float) -> None:
        newest = np.array([imbalance, imbalance, spread])
        if self._means_ms:
            newest += (self._means - newest) * np.exp(-(now - self._means_ms) / MEANS_MS)
        self._means, self._means_ms = newest, now
        row[70:75] = newest[0], newest[1], newest[0] - newest[1], newest[2], spread / newest[2]


def replay(frames: list[bytes], tick_size: float) -> Run:
    def run() -> tuple[float, float]:
        features = NumpyFeatures(tick_size)
        row: Any = None
        for frame in frames:
            row = features.take(frame)
        return float(row[0]), float(row[1])

    return run
