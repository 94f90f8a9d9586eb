"""Several strategies' signals as one: each counts by how well its signals did lately, on that symbol and in a market
like the one now.

A signal is scored by what the price did afterwards, whether or not it was traded: its take-profit or its stop-loss,
whichever was met first, or what it was worth at the horizon, in units of its risk. All time comes with the data.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from types import MappingProxyType
from typing import Any

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


def raw_weights_of(
    results: NDArray[np.float64],
    counts: NDArray[np.float64],
    regimes: NDArray[np.int64],
    *,
    prior: float,
    gain: float,
) -> NDArray[np.float64]:
    """Weights (strategies, symbols), 1 for a strategy of which nothing is known. ``results`` are sums of what signals
    brought, in risks, and ``counts`` how many they were: both (strategies, symbols, regimes).

    The mean result of a strategy on a symbol is believed as far as there are results; in the regime of the moment it is
    moved by what was seen in that.
    """
    overall = results.sum(axis=2) / (counts.sum(axis=2) + prior)
    symbols = np.arange(len(regimes))
    now, seen = results[:, symbols, regimes], counts[:, symbols, regimes]
    expected = (now + prior * overall) / (seen + prior)
    return np.exp(gain * expected)


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


@dataclass(frozen=True, slots=True)
class Listening:
    """What strategies of one account are told, and by which their signals are scored: (symbol, interval) of candles,
    and symbols of books. What others listen to does not count: an account weighs alike whoever else there is."""

    candles: frozenset[tuple[str, str]] = frozenset()
    books: frozenset[str] = frozenset()

    @property
    def symbols(self) -> frozenset[str]:
        return self.books | {symbol for symbol, _ in self.candles}


class Performance:
    """How well the signals of one account's strategies on one symbol did, by regime, and the weights that follow.

    Everything follows from the symbol's own data and signals, whatever else there is in the process. Strategies are
    known by a number of the caller's. Results fade and weights are made anew where ``refresh_s`` of the data's time
    begin, counted from 1970. ``changes`` counts what the symbol's data alone would not tell again.
    """

    def __init__(self, rules: Combining) -> None:
        self.rules = rules
        # Strategies in the order of their first signals.
        self._strategies: dict[int, int] = {}
        self._results = np.zeros((0, REGIMES))
        self._counts = np.zeros((0, REGIMES))
        self._prices = np.full(SAMPLES, np.nan)
        self._sample_due_ns = 0
        self._trials: dict[int, _Trial] = {}
        self._regime = CALM_RANGE
        self._raw: dict[int, float] = {}
        self._period: int | None = None
        self.changes = 0

    def note_signal(self, key: int, signal: Signal) -> None:
        """Wait for what becomes of it; while one of the same strategy is waited for it is not."""
        if key not in self._trials:
            self._trials[key] = _Trial(
                signal.direction,
                float(signal.entry_price),
                float(signal.take_profit),
                float(signal.stop_loss),
                signal.time_ns,
                signal.time_ns + int(self.rules.horizon_s * SECOND_NS),
            )
            self.changes += 1

    def note_candle(self, candle: Candle) -> None:
        """A closed one; signals that were made within it wait for the next."""
        begin_ns = candle.start_ms * 1_000_000
        end_ns = begin_ns + interval_ms(candle.interval) * 1_000_000
        self._note(float(candle.high), float(candle.low), float(candle.close), begin_ns, end_ns)

    def note_book(self, view: BookView) -> None:
        middle = float(view.best_bid + view.best_ask) / 2
        self._note(middle, middle, middle, view.venue_ns, view.venue_ns)

    def weights(self, keys: Iterable[int], time_ns: int) -> Mapping[int, float]:
        """Of some strategies, 1 on their mean. They stay as they are until the next refresh."""
        self._reach(time_ns)
        raw = {key: self._raw.get(key, 1.0) for key in keys}
        mean = math.fsum(raw.values()) / len(raw) if raw else 1.0
        return {key: each / mean for key, each in raw.items()}

    def state(self) -> dict[str, Any]:
        """Everything that is known, as JSON takes it: :meth:`restored` goes on as this would have."""
        return {
            "strategies": list(self._strategies),
            "results": self._results.tolist(),
            "counts": self._counts.tolist(),
            "prices": [None if math.isnan(price) else price for price in self._prices.tolist()],
            "sample_due_ns": self._sample_due_ns,
            "trials": [[key, *astuple(trial)] for key, trial in self._trials.items()],
            "regime": self._regime,
            "raw": [[key, each] for key, each in self._raw.items()],
            "period": self._period,
        }

    @classmethod
    def restored(cls, rules: Combining, state: Mapping[str, Any]) -> Performance:
        """
        Raises:
            KeyError, TypeError, ValueError: the state is none of :meth:`state`.
        """
        made = cls(rules)
        made._strategies = {int(key): row for row, key in enumerate(state["strategies"])}
        shape = (len(made._strategies), REGIMES)
        made._results = np.array(state["results"], dtype=np.float64).reshape(shape)
        made._counts = np.array(state["counts"], dtype=np.float64).reshape(shape)
        prices = [math.nan if price is None else float(price) for price in state["prices"]]
        made._prices = np.array(prices, dtype=np.float64).reshape(SAMPLES)
        made._sample_due_ns = int(state["sample_due_ns"])
        made._trials = {int(key): _Trial(*values) for key, *values in state["trials"]}
        made._regime = int(state["regime"])
        if made._regime not in range(REGIMES):
            raise ValueError(f"regime is {made._regime}; expected 0 to {REGIMES - 1}")
        made._raw = {int(key): float(each) for key, each in state["raw"]}
        made._period = None if state["period"] is None else int(state["period"])
        return made

    def _note(self, high: float, low: float, last: float, begin_ns: int, end_ns: int) -> None:
        self._reach(end_ns)
        if end_ns >= self._sample_due_ns:
            self._sample_due_ns = end_ns + SAMPLE_NS
            self._prices[:-1] = self._prices[1:]
            self._prices[-1] = last
        for key, trial in list(self._trials.items()):
            if begin_ns < trial.begun_ns:
                continue
            result = trial.result(high, low, last, end_ns)
            if result is not None:
                del self._trials[key]
                row = self._row(key)
                self._results[row, self._regime] += result
                self._counts[row, self._regime] += 1
                self.changes += 1

    def _reach(self, time_ns: int) -> None:
        """Refresh, where a time is the first in its period; what is older than the last changes nothing."""
        period = time_ns // int(self.rules.refresh_s * SECOND_NS)
        if self._period is None:
            self._period = period
        if period <= self._period:
            return
        fading = 0.5 ** ((period - self._period) * self.rules.refresh_s / self.rules.half_life_s)
        self._results *= fading
        self._counts *= fading
        self._period = period
        self._regime = int(regimes_of(self._prices[None])[0])
        if self._strategies:
            made = raw_weights_of(
                self._results[:, None], self._counts[:, None], np.array([self._regime]),
                prior=self.rules.prior, gain=self.rules.gain,
            )  # fmt: skip
            self._raw = dict(zip(self._strategies, made[:, 0].tolist(), strict=True))

    def _row(self, key: int) -> int:
        row = self._strategies.get(key)
        if row is None:
            row = self._strategies[key] = len(self._strategies)
            more = np.zeros((1, REGIMES))
            self._results, self._counts = np.vstack([self._results, more]), np.vstack([self._counts, more])
        return row


class Combiner:
    """The performances of the accounts that combine their signals; nobody's results count for another's weights."""

    def __init__(self) -> None:
        self._rules = Combining()
        self._performances: dict[tuple[int, str], Performance] = {}
        self._of_candles: dict[tuple[str, str], list[Performance]] = {}
        self._of_books: dict[str, list[Performance]] = {}
        self._listening: dict[int, Listening] = {}

    def hold_for(self, listening: Mapping[int, Listening], rules: Combining) -> None:
        """From now on these accounts combine what they listen to. What is known of a symbol stays while its rules
        do."""
        before = self._performances if rules == self._rules else {}
        self._rules, self._listening = rules, dict(listening)
        self._performances = {
            (account, symbol): before.get((account, symbol)) or Performance(rules)
            for account, each in sorted(listening.items())
            for symbol in sorted(each.symbols)
        }
        self._attend()

    def _attend(self) -> None:
        of_candles: dict[tuple[str, str], list[Performance]] = defaultdict(list)
        of_books: dict[str, list[Performance]] = defaultdict(list)
        for account, each in self._listening.items():
            for symbol, interval in each.candles:
                of_candles[symbol, interval].append(self._performances[account, symbol])
            for symbol in each.books:
                of_books[symbol].append(self._performances[account, symbol])
        self._of_candles, self._of_books = dict(of_candles), dict(of_books)

    def candles_of(self, keys: Iterable[tuple[int, str]]) -> set[tuple[str, str]]:
        """The candles by which signals of some accounts and symbols are scored."""
        return {
            candle
            for account, symbol in keys
            if account in self._listening
            for candle in self._listening[account].candles
            if candle[0] == symbol
        }

    def performances(self) -> Mapping[tuple[int, str], Performance]:
        """By account and symbol."""
        return MappingProxyType(self._performances)

    def restore(self, states: Mapping[tuple[int, str], Mapping[str, Any]]) -> None:
        """Go on with what was known of accounts and symbols; those that do not combine are passed over.

        Raises:
            KeyError, TypeError, ValueError: a state is none; nothing changed.
        """
        made = {key: Performance.restored(self._rules, each) for key, each in states.items()}
        self._performances |= {key: each for key, each in made.items() if key in self._performances}
        self._attend()

    def note_candle(self, candle: Candle) -> None:
        if candle.closed:
            for performance in self._of_candles.get((candle.symbol, candle.interval), ()):
                performance.note_candle(candle)

    def note_book(self, view: BookView) -> None:
        for performance in self._of_books.get(view.symbol, ()):
            performance.note_book(view)

    def combined(self, signals: Iterable[tuple[int, int, Signal]]) -> dict[int, Combined]:
        """By account, what its several signals of one moment come to; each is an account, its strategy and its signal.
        Accounts with one signal, and those that do not combine, are left out."""
        if not self._listening:
            return {}
        made: dict[int, list[tuple[int, Signal]]] = defaultdict(list)
        for account, key, signal in signals:
            if (account, signal.symbol) in self._performances:
                made[account].append((key, signal))
        found = {}
        for account, many in made.items():
            performance = self._performances[account, many[0][1].symbol]
            weights = performance.weights([key for key, _ in many], many[0][1].time_ns)
            for key, signal in many:
                performance.note_signal(key, signal)
            if len(many) > 1:
                found[account] = combine([Vote(key, weights[key], signal) for key, signal in many], self._rules.least)
        return found
