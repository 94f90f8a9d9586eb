"""Several strategies' signals as one: each counts by how well its signals did lately, on that symbol and in a market
like the one now.

A signal is scored by what the price did afterwards, whether or not it was traded: its take-profit or its stop-loss,
whichever was met first, or what it was worth at the horizon, in units of its risk. All time comes with the data.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import interval_ms
from marketdata.events import BookView, Candle
from strategies.signals import Signal

SECOND_NS = 1_000_000_000
# Regimes: 2 where the market trends, plus 1 where it is more volatile than it was.
CALM_RANGE, VOLATILE_RANGE, CALM_TREND, VOLATILE_TREND = range(4)
REGIMES = 4
# A random walk of thirty steps goes about a fifth of its way forward.
TREND_EFFICIENCY = 0.35
RECENT = 30
SAMPLES = 120
SAMPLE_NS = 60 * SECOND_NS
# A result beyond these is luck or a gap, in risks.
WORST, BEST = -1.0, 3.0


@dataclass(frozen=True, slots=True)
class Combining:
    """How the signals of one account's strategies on one symbol at one moment become one. ``least``: the least strength
    of a combined signal. Results count half after ``half_life_s``; a signal that met neither target nor stop is scored
    after ``horizon_s``; ``prior`` is how many results it takes to be believed by half; ``gain`` how much a mean result
    of one risk counts (by the exponential). Weights stay for ``refresh_s`` of the data's time."""

    least: float = 0.2
    half_life_s: float = 7 * 86_400.0
    horizon_s: float = 86_400.0
    prior: float = 10.0
    gain: float = 2.0
    refresh_s: float = 300.0

    def __post_init__(self) -> None:
        above = {name: getattr(self, name) for name in ("half_life_s", "horizon_s", "prior", "refresh_s")}
        for name, value in above.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; expected a number above 0")
        if not 0 <= self.least <= 1:
            raise ValueError(f"least is {self.least}; expected 0 to 1")
        if not 0 <= self.gain <= 10:
            raise ValueError(f"gain is {self.gain}; expected 0 to 10")


def regimes_of(prices: NDArray[np.float64]) -> NDArray[np.int64]:
    """The regime of each symbol. ``prices``: (symbols, samples), oldest first, NaN where there is none yet; until all
    are there it is ``CALM_RANGE``."""
    changes = np.diff(np.log(prices), axis=1)
    recent, before = changes[:, -RECENT:], changes[:, :-RECENT]
    way = np.abs(recent).sum(axis=1)
    efficiency = np.abs(recent.sum(axis=1)) / np.where(way > 0, way, 1.0)
    volatile = recent.std(axis=1) > before.std(axis=1)
    # Comparisons with NaN are False: calm, and without a trend.
    return 2 * (efficiency > TREND_EFFICIENCY).astype(np.int64) + volatile


def weights_of(
    results: NDArray[np.float64],
    counts: NDArray[np.float64],
    regimes: NDArray[np.int64],
    *,
    prior: float,
    gain: float,
) -> NDArray[np.float64]:
    """Weights (strategies, symbols), 1 on the mean over a symbol's strategies. ``results`` are sums of what signals
    brought, in risks, and ``counts`` how many they were: both (strategies, symbols, regimes).

    The mean result of a strategy on a symbol is believed as far as there are results; in the regime of the moment it is
    moved by what was seen in that.
    """
    overall = results.sum(axis=2) / (counts.sum(axis=2) + prior)
    symbols = np.arange(len(regimes))
    now, seen = results[:, symbols, regimes], counts[:, symbols, regimes]
    expected = (now + prior * overall) / (seen + prior)
    raw = np.exp(gain * expected)
    weights: NDArray[np.float64] = raw / raw.mean(axis=0)
    return weights


@dataclass(frozen=True, slots=True)
class Vote:
    """One strategy's signal and how much it counts; ``key`` is the strategy's, whatever the caller knows it by."""

    key: int
    weight: float
    signal: Signal

    @property
    def pull(self) -> float:
        """Above 0 to buy."""
        return self.weight * self.signal.strength * self.signal.direction


@dataclass(frozen=True, slots=True)
class Combined:
    """What several votes come to. ``carrier`` is the vote whose signal is carried out, with the strength of all; None
    where they cancel. ``words`` say how."""

    carrier: Vote | None
    words: str


def combine(votes: Sequence[Vote], least: float) -> Combined:
    """The weighted mean of the votes' strengths, sells counting negative, decides direction and strength. The strongest
    vote of that direction lends its entry, target and stop; where one of that direction asks for a model, all do."""
    total = sum(vote.weight for vote in votes)
    pull = sum(vote.pull for vote in votes) / total if total > 0 else 0.0
    told = ", ".join(
        f"{vote.signal.strategy} {vote.signal.side} {vote.signal.strength:.2f} x {vote.weight:.2f}" for vote in votes
    )
    words = f"weighted sum {pull:+.2f} of {told}"
    if pull == 0 or abs(pull) < least:
        return Combined(None, f"{words}; at least {least:.2f} is asked for")
    winners = [vote for vote in votes if vote.signal.direction == (1 if pull > 0 else -1)]
    carrier = max(winners, key=lambda vote: abs(vote.pull))
    asked = [float(each) for vote in winners if (each := vote.signal.metadata.get("min_probability")) is not None]
    metadata = dict(carrier.signal.metadata) | {"combined_of": float(len(votes))}
    if asked:
        metadata["min_probability"] = max(asked)
    signal = replace(
        carrier.signal,
        strength=min(1.0, abs(pull)),
        reason=f"{carrier.signal.reason}; {words}",
        metadata=MappingProxyType(metadata),
    )
    return Combined(replace(carrier, signal=signal), words)


@dataclass(slots=True)
class _Trial:
    """A signal that is waited for."""

    strategy: int
    direction: int
    entry: float
    target: float
    stop: float
    begun_ns: int
    due_ns: int

    def result(self, high: float, low: float, last: float, time_ns: int) -> float | None:
        """What it brought, in risks; None while it is open. Where target and stop were both met it was the stop."""
        best, worst = (high, low) if self.direction > 0 else (low, high)
        risk = abs(self.entry - self.stop)
        if (worst - self.stop) * self.direction <= 0:
            reached = self.stop
        elif (best - self.target) * self.direction >= 0:
            reached = self.target
        elif time_ns >= self.due_ns:
            reached = last
        else:
            return None
        return min(BEST, max(WORST, (reached - self.entry) * self.direction / risk))


class Performance:
    """How well the signals of strategies did, by symbol and regime, and the weights that follow: the same for the same
    data in the same order. Strategies are known by a number of the caller's."""

    def __init__(self, rules: Combining) -> None:
        self.rules = rules
        self._strategies: dict[int, int] = {}
        self._symbols: dict[str, int] = {}
        self._results = np.zeros((0, 0, REGIMES))
        self._counts = np.zeros((0, 0, REGIMES))
        self._prices = np.full((0, SAMPLES), np.nan)
        self._sample_due_ns: list[int] = []
        self._trials: dict[str, dict[int, _Trial]] = {}
        self._regimes: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._weights = np.ones((0, 0))
        self._made_ns: int | None = None

    def note_signal(self, key: int, signal: Signal) -> None:
        """Wait for what becomes of it; while one of the same strategy and symbol is waited for it is not."""
        trials = self._trials.setdefault(signal.symbol, {})
        if key not in trials:
            trials[key] = _Trial(
                key,
                signal.direction,
                float(signal.entry_price),
                float(signal.take_profit),
                float(signal.stop_loss),
                signal.time_ns,
                signal.time_ns + int(self.rules.horizon_s * SECOND_NS),
            )

    def note_candle(self, candle: Candle) -> None:
        """A closed one; signals that were made within it wait for the next."""
        begin_ns = candle.start_ms * 1_000_000
        end_ns = begin_ns + interval_ms(candle.interval) * 1_000_000
        self._note(candle.symbol, float(candle.high), float(candle.low), float(candle.close), begin_ns, end_ns)

    def note_book(self, view: BookView) -> None:
        middle = float(view.best_bid + view.best_ask) / 2
        self._note(view.symbol, middle, middle, middle, view.venue_ns, view.venue_ns)

    def weights(self, symbol: str, time_ns: int) -> Mapping[int, float]:
        """By strategy, 1 for those of which nothing is known. For ``refresh_s`` they stay as they are."""
        if self._made_ns is None or time_ns - self._made_ns >= self.rules.refresh_s * SECOND_NS:
            self._refresh(time_ns)
        column = self._symbols.get(symbol)
        if column is None or column >= self._weights.shape[1]:
            return {}
        rows = self._weights.shape[0]
        return {key: float(self._weights[row, column]) for key, row in self._strategies.items() if row < rows}

    def _note(self, symbol: str, high: float, low: float, last: float, begin_ns: int, end_ns: int) -> None:
        column = self._column(symbol)
        if end_ns >= self._sample_due_ns[column]:
            self._sample_due_ns[column] = end_ns + SAMPLE_NS
            self._prices[column, :-1] = self._prices[column, 1:]
            self._prices[column, -1] = last
        trials = self._trials.get(symbol)
        if not trials:
            return
        for key, trial in list(trials.items()):
            if begin_ns < trial.begun_ns:
                continue
            result = trial.result(high, low, last, end_ns)
            if result is not None:
                del trials[key]
                row, regime = self._row(key), int(self._regimes[column]) if column < len(self._regimes) else CALM_RANGE
                self._results[row, column, regime] += result
                self._counts[row, column, regime] += 1

    def _refresh(self, time_ns: int) -> None:
        """For all strategies and symbols at once."""
        elapsed_s = 0.0 if self._made_ns is None else (time_ns - self._made_ns) / SECOND_NS
        fading = 0.5 ** (elapsed_s / self.rules.half_life_s)
        self._results *= fading
        self._counts *= fading
        self._regimes = regimes_of(self._prices)
        if self._results.size:
            self._weights = weights_of(
                self._results, self._counts, self._regimes, prior=self.rules.prior, gain=self.rules.gain
            )
        self._made_ns = time_ns

    def _column(self, symbol: str) -> int:
        column = self._symbols.get(symbol)
        if column is None:
            column = self._symbols[symbol] = len(self._symbols)
            self._prices = np.vstack([self._prices, np.full((1, SAMPLES), np.nan)])
            self._sample_due_ns.append(0)
            self._grow()
        return column

    def _row(self, key: int) -> int:
        row = self._strategies.get(key)
        if row is None:
            row = self._strategies[key] = len(self._strategies)
            self._grow()
        return row

    def _grow(self) -> None:
        rows, columns = len(self._strategies), len(self._symbols)
        for name in ("_results", "_counts"):
            before = getattr(self, name)
            grown = np.zeros((rows, columns, REGIMES))
            grown[: before.shape[0], : before.shape[1]] = before
            setattr(self, name, grown)


class Combiner:
    """The performances of the accounts that combine their signals; nobody's results count for another's weights."""

    def __init__(self) -> None:
        self._performances: dict[int, Performance] = {}

    def hold_for(self, accounts: Iterable[int], rules: Combining) -> None:
        """From now on these accounts combine. What is known of one stays while its rules do."""
        before = self._performances
        self._performances = {
            each: before[each] if each in before and before[each].rules == rules else Performance(rules)
            for each in accounts
        }

    def note_candle(self, candle: Candle) -> None:
        if candle.closed:
            for performance in self._performances.values():
                performance.note_candle(candle)

    def note_book(self, view: BookView) -> None:
        for performance in self._performances.values():
            performance.note_book(view)

    def combined(self, signals: Iterable[tuple[int, int, Signal]]) -> dict[int, Combined]:
        """By account, what its several signals of one moment come to; each is an account, its strategy and its signal.
        Accounts with one signal, and those that do not combine, are left out."""
        if not self._performances:
            return {}
        votes: dict[int, list[Vote]] = defaultdict(list)
        for account, key, signal in signals:
            performance = self._performances.get(account)
            if performance is not None:
                weight = performance.weights(signal.symbol, signal.time_ns).get(key, 1.0)
                votes[account].append(Vote(key, weight, signal))
                performance.note_signal(key, signal)
        return {
            account: combine(many, self._performances[account].rules.least)
            for account, many in votes.items()
            if len(many) > 1
        }
