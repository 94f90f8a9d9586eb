"""The premium index of a contract: how far its price is from its index, as a fraction, by bars as a chart has them.

Nothing is stored. The average of a funding period is what its rate comes from by Bybit's formula, rate = premium +
clamp(interest - premium, -0.05 %, 0.05 %); around it the hours are drawn by seed, symbol and time.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from trading.simulator.candles import FIRST_LISTING_MS, INTERVALS
from trading.simulator.funding import INTEREST_RATE, funding_interval_ms, funding_rate, seeded
from trading.simulator.intervals import HOUR_MINUTES, MINUTE_MS, Bars, added, numbers
from trading.simulator.markets import Market
from trading.simulator.past import minutes_of

# Bars are whole numbers of this step; the texts have as many decimals.
UNIT, DECIMALS = 1e-6, 6
CLAMP = 0.0005
# Of the hours around their period's average.
SPREAD = 0.00004
HOUR_MS = HOUR_MINUTES * MINUTE_MS


class PremiumIndex:
    """The premium of one contract since its listing."""

    def __init__(self, market: Market, seed: int) -> None:
        self._market, self._seed = market, seed
        self._oldest_hour = -(-int(market.listing.get("launchTime") or FIRST_LISTING_MS) // HOUR_MS)
        self._level = lru_cache(maxsize=100_000)(self._drawn_level)

    def rows(self, interval: str, limit: int, start_ms: int | None, end_ms: int | None, now_ms: int) -> list[list[str]]:
        """``[start, open, high, low, close]`` as text, newest first; choices as in :meth:`CandleSeries.rows`."""
        kind, now = INTERVALS[interval], now_ms // MINUTE_MS
        oldest = self._oldest_hour * HOUR_MINUTES
        wanted = numbers(kind, oldest, now, limit, start_ms, end_ms, first=end_ms is None)
        if not wanted:
            return []
        begins = [kind.start(number) for number in range(wanted.start, wanted.stop + 1)]
        begin, end = max(begins[0], oldest), min(begins[-1], now + 1)
        hours = range(begin // HOUR_MINUTES, -(-end // HOUR_MINUTES))
        # The last hour may be half over; whole ones are enough for bars that are made of these.
        whole = hours[:-1] if kind.is_hourly else range(0)
        rest = hours[-1:] if kind.is_hourly else hours
        minutes = np.concatenate([minutes_of(self._hour(hour), self._generator(hour)) for hour in rest])
        times = np.arange(rest.start * HOUR_MINUTES, rest.stop * HOUR_MINUTES)
        chosen = (times >= begin) & (times < end)
        times, rows = times[chosen], minutes[chosen]
        if whole:
            times = np.concatenate((np.array(whole) * HOUR_MINUTES, times))
            rows = np.concatenate((np.array([self._hour(hour) for hour in whole]), rows))
        bars = added(times, rows, np.array(begins[:-1]))
        told = [
            [str(begin * MINUTE_MS), *(f"{value * UNIT:.{DECIMALS}f}" for value in bar[:4])]
            for begin, bar in zip(begins, bars.tolist(), strict=False)
        ]
        return told[::-1]

    def _hour(self, hour: int) -> Bars:
        """A bar from this hour's level to the next one's, with extremes a little outside."""
        opened, close = self._level(hour), self._level(hour + 1)
        draw = seeded(self._seed, self._market.symbol, "premium wicks", hour)
        reach = SPREAD / UNIT
        high = max(opened, close) + round(draw.random() * reach)
        low = min(opened, close) - round(draw.random() * reach)
        return np.array([opened, high, low, close, 0.0, 0.0])

    def _drawn_level(self, hour: int) -> int:
        """The premium at the beginning of an hour."""
        step = funding_interval_ms(self._market)
        paid_ms = (hour * HOUR_MS // step + 1) * step
        draw = seeded(self._seed, self._market.symbol, "premium", hour)
        level = premium_of(float(funding_rate(self._seed, self._market, paid_ms)))
        return round((level + draw.uniform(-SPREAD, SPREAD)) / UNIT)

    def _generator(self, hour: int) -> np.random.Generator:
        return np.random.default_rng(seeded(self._seed, self._market.symbol, "premium path", hour).getrandbits(64))


def premium_of(rate: float) -> float:
    """The average premium that a funding rate comes from; of those that interest alone makes, the middle one."""
    if rate == INTEREST_RATE:
        return INTEREST_RATE
    return rate + (CLAMP if rate > INTEREST_RATE else -CLAMP)
