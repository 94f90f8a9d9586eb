"""What was before the minutes that are kept: hours made up back to an instrument's listing, and on demand the minutes
of such an hour, which add up to it exactly."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from trading.simulator.intervals import CLOSE, DAY_MINUTES, HIGH, HOUR_MINUTES, LOW, OPEN, TURNOVER, VOLUME, Bars

# How strongly an hour pulls the price of the past back to that of its end: by years, or it would leave every scale.
PULL = 1 / (24 * 365)


class Past:
    """From ``first_hour`` to before ``end_hour``, ending at a price. All of it follows from the ``kept`` minutes of the
    first day behind it, so a venue that keeps these does not change its history."""

    def __init__(self, first_hour: int, end_hour: int, kept: Bars) -> None:
        self.first_hour, self.end_hour = min(first_hour, end_hour), end_hour
        day = kept[:DAY_MINUTES]
        returns = np.diff(np.log(day[:, CLOSE]))
        self._volatility = max(float(returns.std()), 1e-5) if len(returns) else 1e-4
        self._lots = max(1.0, float(day[:, VOLUME].mean()))
        self._end_tick = float(day[0, OPEN])
        self._seed = [end_hour, *(int(value) for value in day[0])]
        # Made when somebody first asks: most instruments are never asked for years.
        self._hours: Bars | None = None

    def hours(self, first: int, end: int) -> Bars:
        """Bars of the hours ``first`` to before ``end``."""
        if self._hours is None:
            self._hours = self._made()
        return self._hours[first - self.first_hour : end - self.first_hour]

    def minutes(self, first: int, end: int) -> Bars:
        """Bars of the minutes ``first`` to before ``end``."""
        hours = range(first // HOUR_MINUTES, -(-end // HOUR_MINUTES))
        rows = [
            minutes_of(bar, np.random.default_rng([*self._seed, hour]))
            for hour, bar in zip(hours, self.hours(hours.start, hours.stop), strict=True)
        ]
        offset = hours.start * HOUR_MINUTES
        return np.concatenate(rows)[first - offset : end - offset]

    def _made(self) -> Bars:
        count = self.end_hour - self.first_hour
        rng = np.random.default_rng(self._seed)
        volatility = self._volatility * HOUR_MINUTES**0.5
        steps = (volatility * rng.standard_normal(count)).tolist()
        # Backwards from the end: how far, by its logarithm, the price at the beginning of each hour is from the last.
        levels = np.array(list(accumulate(steps, lambda level, step: level * (1 - PULL) + step)))[::-1]
        bars = np.empty((count, 6))
        bars[:, OPEN] = self._end_tick * np.exp(levels)
        bars[:, CLOSE] = np.append(bars[1:, OPEN], self._end_tick)[:count]
        wicks = 1 + volatility / 2 * np.abs(rng.standard_normal((2, count)))
        bars[:, HIGH] = bars[:, (OPEN, CLOSE)].max(axis=1) * wicks[0]
        bars[:, LOW] = bars[:, (OPEN, CLOSE)].min(axis=1) / wicks[1]
        bars[:, :VOLUME] = np.maximum(1, np.rint(bars[:, :VOLUME]))
        bars[:, VOLUME] = np.rint(HOUR_MINUTES * self._lots * rng.lognormal(0, 0.5, count))
        bars[:, TURNOVER] = bars[:, VOLUME] * np.rint((bars[:, OPEN] + bars[:, CLOSE]) / 2)
        return bars


def minutes_of(hour: Bars, rng: np.random.Generator) -> Bars:
    """Sixty bars that add up to the bar of an hour: same first and last price, same extremes, same sums."""
    opened, high, low, close, volume, turnover = hour.tolist()
    walk = np.cumsum(rng.standard_normal(HOUR_MINUTES)) * (high - low) / HOUR_MINUTES**0.5
    share = np.arange(1, HOUR_MINUTES + 1) / HOUR_MINUTES
    bars = np.empty((HOUR_MINUTES, 6))
    bars[:, CLOSE] = np.clip(np.rint(opened + (close - opened) * share + walk - share * walk[-1]), low, high)
    bars[:, OPEN] = np.append(opened, bars[:-1, CLOSE])
    wicks = np.rint(np.abs(rng.standard_normal((2, HOUR_MINUTES))) * (high - low) / HOUR_MINUTES)
    bars[:, HIGH] = np.minimum(high, bars[:, (OPEN, CLOSE)].max(axis=1) + wicks[0])
    bars[:, LOW] = np.maximum(low, bars[:, (OPEN, CLOSE)].min(axis=1) - wicks[1])
    bars[np.argmax(bars[:, HIGH]), HIGH] = high
    bars[np.argmin(bars[:, LOW]), LOW] = low
    weights = rng.lognormal(0, 0.5, HOUR_MINUTES)
    bars[:, VOLUME] = _split(volume, weights)
    bars[:, TURNOVER] = _split(turnover, bars[:, VOLUME] * (bars[:, OPEN] + bars[:, CLOSE]))
    return bars


def _split(total: float, weights: Bars) -> Bars:
    """Whole numbers in the proportion of the weights, whose sum is exactly the total."""
    sums = np.cumsum(weights)
    if not sums[-1]:
        return np.append(np.zeros(len(weights) - 1), total)
    return np.diff(np.rint(sums / sums[-1] * total), prepend=0.0)
