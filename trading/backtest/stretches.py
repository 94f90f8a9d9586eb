"""What an engine ran, cut into stretches that one test each can be held against."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any

from trading.backtest.request import StrategyRun


@dataclass(frozen=True, slots=True)
class Span:
    """An engine told a strategy every bar of a symbol from ``first_ms`` on, and its signals at the ends of those that
    start in ``[begun_ms, until_ms)`` counted. ``settings`` as a backtest is asked for them."""

    version: int
    code: str
    settings: Mapping[str, Any]
    symbol: str
    interval: str
    first_ms: int
    begun_ms: int
    until_ms: int

    def holds(self, symbol: str, time_ms: int) -> bool:
        """Whether a signal is one of it: they are made at the ends of bars."""
        return symbol == self.symbol and self.begun_ms < time_ms <= self.until_ms


@dataclass(frozen=True, slots=True)
class Stretch:
    """Spans of one version of one configuration that are of one time, one for each symbol."""

    spans: tuple[Span, ...]

    @property
    def first(self) -> Span:
        return self.spans[0]

    @property
    def start_ms(self) -> int:
        return min(each.begun_ms for each in self.spans)

    @property
    def end_ms(self) -> int:
        return max(each.until_ms for each in self.spans)

    def holds(self, symbol: str, time_ms: int) -> bool:
        return any(each.holds(symbol, time_ms) for each in self.spans)

    def run(self) -> StrategyRun:
        """What is to be tested."""
        settings = dict(self.first.settings)
        for name in ("sizing_value", "leverage"):
            settings[name] = Decimal(str(settings[name]))
        return StrategyRun(symbols=tuple(sorted(each.symbol for each in self.spans)), **settings)


def stretches(spans: Iterable[Span]) -> list[Stretch]:
    """The oldest first. Symbols are put together where an engine ran them at one time; a restart begins anew."""

    def what(span: Span) -> str:
        return json.dumps([span.version, span.code, span.interval, dict(span.settings)], sort_keys=True)

    found: list[Stretch] = []
    for _, same in groupby(sorted(spans, key=lambda each: (what(each), each.begun_ms)), key=what):
        together: list[Span] = []
        for span in same:
            ends = min((each.until_ms for each in together), default=0)
            if together and (span.begun_ms >= ends or span.symbol in {each.symbol for each in together}):
                found.append(Stretch(tuple(together)))
                together = []
            together.append(span)
        found.append(Stretch(tuple(together)))
    return sorted(found, key=lambda each: (each.start_ms, each.first.version))
