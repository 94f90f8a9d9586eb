"""A recording, read and ready to be tested on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import orjson

from marketdata.feeds.recorded import HTTP, RECEIVED, RecordedFrame
from marketdata.instruments import InstrumentError, InstrumentRules, rules_from_bybit
from trading.backtest.errors import BacktestError
from trading.backtest.feed_files import recorded_feed
from trading.backtest.recorded_run import Recorded
from trading.backtest.recording_lines import lines_of
from trading.backtest.request import BacktestRequest
from trading.runtime.market_plane import REFERENCE_SYMBOL
from trading.simulator.instruments import Grids

LINEAR = "linear"
LISTING = "instruments-info"
SYMBOL_OF_BOOK = re.compile(rb'"topic":"orderbook\.[0-9]+\.([A-Z0-9]{2,32})"')
TOPIC_WITHIN = 64


def listed_in(path: Path) -> dict[str, InstrumentRules]:
    """The listings that a recording begins with, where it has them."""
    found: dict[str, InstrumentRules] = {}
    for frame in lines_of(path):
        if frame.kind == HTTP and frame.url and LISTING in frame.url and frame.category == LINEAR:
            found |= _rules_in(frame)
        elif frame.kind == RECEIVED and SYMBOL_OF_BOOK.search(frame.data, 0, TOPIC_WITHIN):
            break
    return found


def _rules_in(frame: RecordedFrame) -> dict[str, InstrumentRules]:
    found = {}
    for row in orjson.loads(frame.data)["result"]["list"]:
        try:
            rules = rules_from_bybit(row, LINEAR)
        except InstrumentError:
            continue
        found[rules.symbol] = rules
    return found


def recorded_of(request: BacktestRequest, path: Path, rules: Mapping[str, InstrumentRules]) -> Recorded:
    """A recording, read and ready. ``rules``: of all symbols that may be in it.

    Raises:
        BacktestError: it cannot be read, or does not hold what is asked for.
    """
    missing = [symbol for symbol in request.symbols if symbol not in rules]
    if missing:
        raise BacktestError(f"{', '.join(missing)}: no listing; import it (start an engine once), or give the listing")
    feeds = {symbol: recorded_feed(path, symbol, _grids(rules[symbol]), category=LINEAR) for symbol in request.symbols}
    followed: Sequence[str] = request.symbols
    if REFERENCE_SYMBOL in rules and REFERENCE_SYMBOL not in request.symbols:
        followed = (*followed, REFERENCE_SYMBOL)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Recorded(
        lines=lambda: lines_of(path),
        feeds=feeds,
        names=((path.name, digest),),
        rules={symbol: rules[symbol] for symbol in followed},
    )


def _grids(rules: InstrumentRules) -> Grids:
    return Grids.of(Decimal(rules.tick_size), Decimal(rules.lot_size))
