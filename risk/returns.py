"""How symbols move, from their live mark prices: correlations of pairs and the volatility of each.

Prices are sampled once a minute of the data's time. Shorter steps understate how much symbols move together, since
trades of the two do not arrive together (Epps 1979).
"""

from __future__ import annotations

import math
from collections import deque

STEP_NS = 60_000_000_000
WINDOW = 240
FEWEST = 20


class ReturnSeries:
    """Log returns of one symbol, each with the number of the minute that it ends in; minutes without a price have
    none."""

    def __init__(self) -> None:
        self._step = -1
        self._price = 0.0
        self._closed: tuple[int, float] | None = None
        self.returns: deque[tuple[int, float]] = deque(maxlen=WINDOW)

    def add(self, price: float, time_ns: int) -> bool:
        """Take a price; True when a minute has ended with a return."""
        step = time_ns // STEP_NS
        if step == self._step:
            self._price = price
            return False
        ended = self._step >= 0 and step > self._step and self._close()
        if step > self._step:
            self._step, self._price = step, price
        return ended

    def _close(self) -> bool:
        before, self._closed = self._closed, (self._step, self._price)
        if before is None or before[0] != self._step - 1:
            return False
        self.returns.append((self._step, math.log(self._price / before[1])))
        return True


class Returns:
    """All symbols' series. Correlations are kept until a minute ends, so that asking costs a look-up."""

    def __init__(self, fewest: int = FEWEST) -> None:
        self._fewest = fewest
        self._series: dict[str, ReturnSeries] = {}
        self._known: dict[tuple[str, str], float | None] = {}
        self._volatilities: dict[str, float | None] = {}

    def add(self, symbol: str, price: float, time_ns: int) -> None:
        """Take a mark price at the time (ns) of its data; a price that is not above 0 is left aside."""
        if price <= 0 or not math.isfinite(price):
            return
        series = self._series.get(symbol)
        if series is None:
            series = self._series[symbol] = ReturnSeries()
        if series.add(price, time_ns):
            self._known = {pair: value for pair, value in self._known.items() if symbol not in pair}
            self._volatilities.pop(symbol, None)

    def forget(self, symbol: str) -> None:
        self._series.pop(symbol, None)
        self._known = {pair: value for pair, value in self._known.items() if symbol not in pair}
        self._volatilities.pop(symbol, None)

    def between(self, first: str, second: str) -> float | None:
        """The correlation of two symbols' returns in the minutes that both have, -1 to 1; None for too few, or a price
        that did not move."""
        pair = (first, second) if first <= second else (second, first)
        try:
            return self._known[pair]
        except KeyError:
            value = self._known[pair] = self._correlation(*pair)
            return value

    def volatility_percent(self, symbol: str) -> float | None:
        """The realised volatility of a symbol, percent per day: root mean square of its minutes' returns, scaled. None
        for too few."""
        if symbol not in self._volatilities:
            self._volatilities[symbol] = self._volatility(symbol)
        return self._volatilities[symbol]

    def _volatility(self, symbol: str) -> float | None:
        series = self._series.get(symbol)
        if series is None or len(series.returns) < self._fewest:
            return None
        mean_square = sum(value * value for _, value in series.returns) / len(series.returns)
        return math.sqrt(mean_square * 24 * 60) * 100

    def _correlation(self, first: str, second: str) -> float | None:
        one, two = self._series.get(first), self._series.get(second)
        if one is None or two is None:
            return None
        others = dict(two.returns)
        pairs = [(value, others[step]) for step, value in one.returns if step in others]
        if len(pairs) < self._fewest:
            return None
        mean_one = sum(a for a, _ in pairs) / len(pairs)
        mean_two = sum(b for _, b in pairs) / len(pairs)
        covariance = sum((a - mean_one) * (b - mean_two) for a, b in pairs)
        spread = math.sqrt(sum((a - mean_one) ** 2 for a, _ in pairs) * sum((b - mean_two) ** 2 for _, b in pairs))
        if spread == 0.0:
            return None
        return max(-1.0, min(1.0, covariance / spread))
