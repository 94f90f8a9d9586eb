"""Whether a strategy can be believed: it is told the same market again and again, whole, cut short, begun later, with
news in between that should not matter, and must decide the same each time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np

from marketdata.candles.series import interval_ms
from marketdata.events import BookView, Candle, Trade
from strategies.base import ParameterError, ParameterSpec, Strategy, parse_parameters
from strategies.call_watch import Overrun
from strategies.candle_strategy import ROW, CandleStrategy
from strategies.contract import violations
from strategies.faults import file_of, place_of, words_of
from strategies.outside import reads_outside
from strategies.sample_market import sample_books, sample_candles
from strategies.signals import Signal

Event = Candle | BookView | Trade
Signals = dict[int, Signal]
Call = Callable[..., Any]

EVENTS = 3_000
SHORT = 300
MOST_CUTS, MOST_STARTS = 24, 5
# A strategy that takes longer keeps the books of an engine waiting.
SLOWEST_MICROSECONDS = 1_000.0
# Averages forget where they began, but never wholly: what is nearer than this is the same.
RELATIVE, STRENGTH_APART = 1e-6, 1e-3
FARTHEST_ENTRY = Decimal("0.05")


class Kind(StrEnum):
    """What can be wrong."""

    CONTRACT = "contract"
    FAULT = "fault"
    ENDLESS = "endless loop"
    SIGNAL = "signal"
    RANDOM = "not deterministic"
    LOOK_AHEAD = "look-ahead"
    WARM_UP = "warm-up"
    OPEN_BARS = "open candles"
    TWO_PATHS = "two paths"
    RANGES = "ranges"
    OUTSIDE = "outside"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Finding:
    """``where``: file and line, where it has one; ``bar``: the event that shows it, counted from 0."""

    kind: str
    words: str
    where: str = ""
    bar: int | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}{f' ({self.where})' if self.where else ''}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was tried and found. ``enough_warm_up``: the bars after which it agreed on this market, wherever history
    began; None where that was not asked."""

    strategy: str
    symbol: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    events: int = 0
    signals: int = 0
    warm_up: int = 0
    enough_warm_up: int | None = None
    microseconds: float = 0.0
    findings: tuple[Finding, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.findings


class _Stopped(Exception):
    """It raised, or did not come back, at one event."""

    def __init__(self, error: BaseException, event: int | None) -> None:
        self.error, self.event = error, event
        super().__init__(str(error))


class NoSignal(TypeError):
    """A strategy returned something else than a signal or None."""


def directly(subject: Any, ask: Call, *arguments: Any, times: int = 1) -> Any:
    return ask(*arguments)


def check(
    kind: type[Strategy],
    *,
    symbol: str = "BTCUSDT",
    parameters: Mapping[str, Any] | None = None,
    events: Sequence[Event] | None = None,
    seed: int = 7,
    call: Call = directly,
) -> Report:
    """Everything that can be wrong with a strategy and shows on a market, by default one that is made up.

    ``events`` of a strategy of candles: closed bars of one interval, which replaces its timeframe. ``call`` asks the
    strategy, see ``strategies.call_watch.CallWatch.call``; without a watch an endless loop never ends.
    """
    name = str(getattr(kind, "name", kind.__name__))
    if wrong := violations(kind):
        found = tuple(Finding(Kind.CONTRACT, words, f"class {kind.__name__}") for words in wrong)
        return Report(name, symbol, findings=found)
    given = dict(parameters or {})
    if events and isinstance(events[0], Candle) and any(spec.name == "timeframe" for spec in kind.parameters):
        given["timeframe"] = events[0].interval
    try:
        typed = parse_parameters(kind.parameters, given)
    except ParameterError as error:
        return Report(name, symbol, given, findings=(Finding(Kind.CONTRACT, str(error)),))
    return _Check(kind, symbol, typed, call).report(events, seed)


class _Check:
    def __init__(self, kind: type[Strategy], symbol: str, parameters: Mapping[str, Any], call: Call) -> None:
        self.kind, self.symbol, self.parameters, self.call = kind, symbol, parameters, call
        self.file = file_of(kind)
        self.events: Sequence[Event] = ()
        self.warm_up = 0

    def report(self, events: Sequence[Event] | None, seed: int) -> Report:
        found: list[Finding] = list(self._outside())
        whole: Signals = {}
        microseconds, enough = 0.0, None
        try:
            strategy = self._make(self.parameters)
            self.warm_up, timeframe = strategy.warm_up, strategy.timeframe
            if not isinstance(self.warm_up, int) or self.warm_up < 0:
                found.append(Finding(Kind.CONTRACT, f"warm_up is {self.warm_up!r}; expected a number of bars"))
                self.warm_up = 0
            self.events = events or _sample(timeframe, self.symbol, self.warm_up, seed)
            whole = self._replay(self.events)
            found += self._bad_signals(whole)
            began = time.thread_time()
            again = self._replay(self.events)
            microseconds = (time.thread_time() - began) * 1e6 / max(1, len(self.events))
            if changed := self._first_difference(again, whole):
                found.append(self._random(*changed))
            else:
                found += self._looks_ahead(whole)
                found += self._two_paths(whole)
                if timeframe is not None:
                    found += self._open_bars(whole)
                    warm_up, enough = self._warm_up(whole)
                    found += warm_up
            found += self._ranges()
            if microseconds > SLOWEST_MICROSECONDS:
                words = f"takes {microseconds:.0f} µs an event; engines have {SLOWEST_MICROSECONDS:.0f} at most"
                found.append(Finding(Kind.SLOW, words))
        except _Stopped as stopped:
            found.append(self._fault(stopped))
        return Report(
            self.kind.name,
            self.symbol,
            dict(self.parameters),
            len(self.events),
            len(whole),
            self.warm_up,
            enough,
            round(microseconds, 1),
            tuple(found),
        )

    # Telling it a market.

    def _make(self, parameters: Mapping[str, Any]) -> Strategy:
        try:
            compile_kernel = getattr(self.kind, "kernel", None)
            if compile_kernel is not None:
                self.call("kernel", compile_kernel, times=30)
            made: Strategy = self.call("create", self.kind.create, self.symbol, parameters, times=5)
            return made
        except (Exception, Overrun, SystemExit) as error:
            raise _Stopped(error, None) from error

    def _replay(self, events: Sequence[Event], parameters: Mapping[str, Any] | None = None) -> Signals:
        """What a new one signals, by the number of the event."""
        strategy = self._make(self.parameters if parameters is None else parameters)
        found: Signals = {}
        for number, event in enumerate(events):
            try:
                signal = self.call(number, _tell, strategy, event)
            except (Exception, Overrun, SystemExit) as error:
                raise _Stopped(error, number) from error
            if signal is not None:
                found[number] = signal
        return found

    # What can be wrong.

    def _fault(self, stopped: _Stopped) -> Finding:
        where = str(place_of(stopped.error, self.file))
        at = "when it is made" if stopped.event is None else f"at {self._at(stopped.event)}"
        if isinstance(stopped.error, Overrun):
            return Finding(Kind.ENDLESS, f"does not come back {at}", where, stopped.event)
        return Finding(Kind.FAULT, f"raises {words_of(stopped.error)} {at}", where, stopped.event)

    def _outside(self) -> Iterator[Finding]:
        for line, words in reads_outside(self.file):
            yield Finding(Kind.OUTSIDE, words, f"{self.file.rsplit('/', 1)[-1]}:{line}")

    def _random(self, at: int, now: Signal | None, before: Signal | None) -> Finding:
        words = (
            f"the same market twice gave different signals: {self._at(at)} {_said(before)}, then {_said(now)}. What it "
            "decides by must be made in __init__: class attributes and globals are shared by all that run"
        )
        return Finding(Kind.RANDOM, words, bar=at)

    def _bad_signals(self, whole: Signals) -> Iterator[Finding]:
        for number, signal in whole.items():
            begin_ns, end_ns, price = _about(self.events[number])
            wrong = ""
            if signal.time_ns > end_ns:
                yield Finding(
                    Kind.LOOK_AHEAD,
                    f"{self._at(number)} says time_ns {signal.time_ns}, later than what it was told ({end_ns})",
                    bar=number,
                )
                return
            if signal.time_ns < begin_ns:
                wrong = f"time_ns is {signal.time_ns}, before what it was told ({begin_ns})"
            elif signal.strategy != self.kind.name or signal.symbol != self.symbol:
                wrong = f"it is of {signal.strategy} on {signal.symbol}; expected {self.kind.name} on {self.symbol}"
            elif abs(signal.entry_price - price) > price * FARTHEST_ENTRY:
                wrong = f"entry_price is {signal.entry_price} while the price is {price}; expected one near it"
            elif not signal.reason:
                wrong = "it has no reason; expected words for people"
            if wrong:
                yield Finding(Kind.SIGNAL, f"{self._at(number)}: {wrong}", bar=number)
                return

    def _looks_ahead(self, whole: Signals) -> Iterator[Finding]:
        for cut in _cuts(len(self.events), whole):
            expected = {number: signal for number, signal in whole.items() if number < cut}
            if difference := self._first_difference(self._replay(self.events[:cut]), expected):
                yield self._ahead(cut, *difference)
                return

    def _ahead(self, cut: int, at: int, short: Signal | None, long: Signal | None) -> Finding:
        words = (
            f"{self._at(at)} {_said(long)}, but {_said(short)} when everything from {self._at(cut)} on is taken away: "
            "it knew what comes later"
        )
        return Finding(Kind.LOOK_AHEAD, words, bar=at)

    def _two_paths(self, whole: Signals) -> Iterator[Finding]:
        """What the kernel decides over arrays, whole and cut short, is what it decides bar by bar."""
        strategy = self._make(self.parameters)
        if not isinstance(strategy, CandleStrategy):
            return
        arrays = _arrays(self.events)
        over_arrays = self._run(strategy, arrays, len(self.events))
        for cut in _cuts(len(self.events), over_arrays):
            expected = {number: signal for number, signal in over_arrays.items() if number < cut}
            short = self._run(strategy, [array[:cut] for array in arrays], cut)
            if difference := self._first_difference(short, expected):
                yield replace(self._ahead(cut, *difference), where="the kernel's run, over arrays")
                return
        if difference := self._first_difference(over_arrays, whole):
            at, fast, slow = difference
            words = f"{self._at(at)} {_said(slow)} bar by bar, but {_said(fast)} over arrays: decide and run differ"
            yield Finding(Kind.TWO_PATHS, words, bar=at)

    def _run(self, strategy: CandleStrategy, arrays: Sequence[Any], count: int) -> Signals:
        kernel = strategy.kernel()
        at, rows = np.zeros(count, np.int64), np.zeros((count, ROW))
        state = kernel.new_state(strategy.numbers)
        try:
            found = self.call("run", kernel.run, state, strategy.numbers, *arrays, at, rows, times=30)
            return {
                int(number): strategy.signal(self.events[int(number)], row)  # type: ignore[arg-type]
                for number, row in zip(at[:found], rows[:found], strict=True)
            }
        except (Exception, Overrun, SystemExit) as error:
            raise _Stopped(error, None) from error

    def _open_bars(self, whole: Signals) -> Iterator[Finding]:
        """Live it also hears of bars that are not finished, of a bar twice, and of other intervals."""
        noisy: list[Event] = []
        places: list[int] = []
        for event in self.events:
            if isinstance(event, Candle):
                noisy += [replace(event, close=event.open, high=event.open, low=event.open, closed=False)]
                noisy += [replace(event, closed=False), replace(event, interval="foreign")]
                places.append(len(noisy))
                noisy += [event, event]
        found = self._replay(noisy)
        expected = {places[number]: signal for number, signal in whole.items()}
        if difference := self._first_difference(found, expected):
            at, noisy_signal, _ = difference
            bar = max((number for number, place in enumerate(places) if place <= at + 2), default=0)
            words = (
                f"{self._at(bar)} {_said(noisy_signal)} when it also hears of unfinished bars, repeated ones and other "
                f"intervals, as it does live; {_said(whole.get(bar))} without them. Look at candle.closed, "
                "candle.interval and candle.start_ms"
            )
            yield Finding(Kind.OPEN_BARS, words, bar=bar)

    def _warm_up(self, whole: Signals) -> tuple[list[Finding], int]:
        """Begun later it must signal the same, once it is warm. And how long it took to."""
        count, enough = len(self.events), 0
        first: Finding | None = None
        never = False
        for part in range(1, MOST_STARTS + 1):
            start = count * part // (2 * MOST_STARTS + 2)
            late = {number + start: signal for number, signal in self._replay(self.events[start:]).items()}
            early = {number: signal for number, signal in whole.items() if number >= start}
            differing = [n for n in sorted(late.keys() | early.keys()) if not _alike(late.get(n), early.get(n))]
            if not differing:
                continue
            enough = max(enough, differing[-1] - start + 1)
            never = never or differing[-1] >= count - (count - start) // 5
            too_late = [number for number in differing if number >= start + self.warm_up]
            if too_late and first is None:
                at = too_late[0]
                words = (
                    f"{self._at(at)} {_said(early.get(at))}, but {_said(late.get(at))} when history begins at bar "
                    f"{start}, {at - start} bars before it; warm_up is {self.warm_up}"
                )
                first = Finding(Kind.WARM_UP, words, bar=at)
        if first is None:
            return [], enough
        would_do = f"; a warm_up of {enough} would do on this market"
        if never:
            would_do = "; it never comes to agree: what it decides depends on where history began"
        return [replace(first, words=first.words + would_do)], enough

    def _ranges(self) -> Iterator[Finding]:
        for spec in self.kind.parameters:
            for value in _ends(spec):
                changed = {**self.parameters, spec.name: value}
                events = self.events[:SHORT] if spec.name != "timeframe" else ()
                try:
                    self._replay(events, changed)
                except _Stopped as stopped:
                    finding = self._fault(stopped)
                    kind = finding.kind if finding.kind == Kind.ENDLESS else Kind.RANGES
                    yield replace(finding, kind=kind, words=f"with {spec.name} {value} it {finding.words}")
                    return

    # Words and comparisons.

    def _first_difference(self, found: Signals, expected: Signals) -> tuple[int, Signal | None, Signal | None] | None:
        for number in sorted(found.keys() | expected.keys()):
            if found.get(number) != expected.get(number):
                return number, found.get(number), expected.get(number)
        return None

    def _at(self, number: int) -> str:
        if not 0 <= number < len(self.events):
            return f"event {number}"
        event = self.events[number]
        begin_ns, _, _ = _about(event)
        moment = datetime.fromtimestamp(begin_ns / 1e9, tz=UTC)
        noun = "bar" if isinstance(event, Candle) else "book" if isinstance(event, BookView) else "trade"
        return f"{noun} {number} ({moment:%Y-%m-%d %H:%M:%S})"


def _tell(strategy: Strategy, event: Event) -> Signal | None:
    if isinstance(event, Candle):
        signal = strategy.on_candle(event)
    elif isinstance(event, BookView):
        signal = strategy.on_book(event)
    else:
        signal = strategy.on_trade(event)
    if signal is not None and not isinstance(signal, Signal):
        raise NoSignal(f"returned {type(signal).__name__}; expected a Signal or None")
    return signal


def _sample(timeframe: str | None, symbol: str, warm_up: int, seed: int) -> Sequence[Event]:
    if timeframe is None:
        return sample_books(symbol, EVENTS, seed)
    return sample_candles(symbol, timeframe, max(EVENTS, 5 * warm_up), seed)


def _about(event: Event) -> tuple[int, int, Decimal]:
    """When it began and when it was known (ns), and the price then."""
    if isinstance(event, Candle):
        begin = event.start_ms * 1_000_000
        return begin, begin + interval_ms(event.interval) * 1_000_000, event.close
    if isinstance(event, BookView):
        return event.venue_ns, event.venue_ns, (event.best_bid + event.best_ask) / 2
    return event.venue_ns, event.venue_ns, event.price


def _cuts(count: int, signals: Signals) -> list[int]:
    """Where to cut: right behind signals, where one that knew the next bar shows, and evenly in between."""
    numbers = sorted(signals)
    behind = [numbers[len(numbers) * part // MOST_CUTS] + 1 for part in range(min(MOST_CUTS, len(numbers)))]
    evenly = [count * part // 9 for part in range(1, 9)]
    return sorted({cut for cut in (*behind, *evenly) if 0 < cut < count})


def _arrays(events: Sequence[Event]) -> list[Any]:
    bars = [event for event in events if isinstance(event, Candle)]
    columns = [
        np.array([float(getattr(bar, name)) for bar in bars]) for name in ("open", "high", "low", "close", "volume")
    ]
    return [np.array([bar.start_ms for bar in bars], np.int64), *columns]


def _alike(one: Signal | None, other: Signal | None) -> bool:
    if one is None or other is None:
        return one is other
    near = (
        math.isclose(getattr(one, name), getattr(other, name), rel_tol=RELATIVE)
        for name in ("entry_price", "take_profit", "stop_loss")
    )
    return one.side == other.side and abs(one.strength - other.strength) <= STRENGTH_APART and all(near)


def _ends(spec: ParameterSpec) -> list[Any]:
    if spec.kind == "choice":
        return list(spec.choices)
    typed = int if spec.kind == "int" else float
    return [typed(end) for end in (spec.minimum, spec.maximum) if end is not None]


def _said(signal: Signal | None) -> str:
    if signal is None:
        return "gives no signal"
    return (
        f"gives {signal.side} at {signal.entry_price} (target {signal.take_profit}, stop {signal.stop_loss}, "
        f"strength {signal.strength:.3g})"
    )
