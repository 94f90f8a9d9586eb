"""A recording, read and ready to be tested on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import orjson

from marketdata.events import Trade
from marketdata.feeds.recorded import HTTP, RECEIVED, RecordedFrame
from marketdata.instruments import InstrumentError, InstrumentRules, rules_from_bybit
from trading.backtest.errors import BacktestError
from trading.backtest.feed import Event, Feed
from trading.backtest.feed_checks import FeedRepair
from trading.backtest.feed_files import recorded_feed, recorded_trades, trades_feed
from trading.backtest.recorded_run import Recorded
from trading.backtest.recording_check import check_recording, words_of
from trading.backtest.recording_files import TRADES
from trading.backtest.recording_lines import LINEAR, lines_of
from trading.backtest.request import BacktestRequest, Source
from trading.runtime.market_plane import REFERENCE_SYMBOL
from trading.simulator.instruments import Grids

LISTING = "instruments-info"
SYMBOL_OF_BOOK = re.compile(rb'"topic":"orderbook\.[0-9]+\.([A-Z0-9]{2,32})"')
TOPIC_WITHIN = 64


def listed_in(path: Path) -> dict[str, InstrumentRules]:
    """The listings that a recording begins with, where it has them."""
    found: dict[str, InstrumentRules] = {}
    if path.name.endswith(TRADES):
        return found
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
    followed = {symbol: rules[symbol] for symbol in request.symbols}
    if request.source is Source.BOOKS and not request.accept_gaps and not path.name.endswith(TRADES):
        found = check_recording(path, request.symbols, LINEAR)
        if found:
            raise BacktestError(words_of(path, found))
    lines: Callable[[], Iterator[RecordedFrame | Trade]]
    if path.name.endswith(TRADES):
        feeds, lines = _of_list(request, path, rules)
    elif request.source is Source.TRADES:
        grids = {symbol: _grids(each) for symbol, each in followed.items()}
        feeds, lines = recorded_trades(lines_of(path), grids), partial(lines_of, path)
    else:
        repairs = tuple(FeedRepair) if request.accept_gaps else ()
        feeds = {
            name: recorded_feed(path, name, _grids(each), category=LINEAR, repairs=repairs)
            for name, each in followed.items()
        }
        lines = partial(lines_of, path)
        if REFERENCE_SYMBOL in rules:
            followed[REFERENCE_SYMBOL] = rules[REFERENCE_SYMBOL]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Recorded(lines=lines, feeds=feeds, names=((path.name, digest),), rules=followed)


def _of_list(
    request: BacktestRequest, path: Path, rules: Mapping[str, InstrumentRules]
) -> tuple[dict[str, Feed], Callable[[], Iterator[Trade]]]:
    """A file that lists one symbol's trades, without the times at which they were heard."""
    if request.source is not Source.TRADES or len(request.symbols) != 1:
        asked = f"source {request.source} of {', '.join(request.symbols)}"
        raise BacktestError(f"{path.name} lists trades of one symbol: ask for source trades of that, not {asked}")
    (symbol,) = request.symbols
    repairs = tuple(FeedRepair) if request.accept_gaps else ()
    feed = trades_feed(path, symbol, _grids(rules[symbol]), repairs=repairs)
    return {symbol: feed}, partial(_listed, feed)


def _listed(feed: Feed) -> Iterator[Trade]:
    price, quantity = feed.grids.prices.value, feed.grids.quantities.value
    for number in range(len(feed)):
        row = feed.events[number]
        time_ns, heard_ns = int(row[Event.TIME]), int(row[Event.RECEIVED])
        side = "Buy" if row[Event.SIDE] > 0 else "Sell"
        yield Trade(
            feed.symbol, str(number), price(int(row[Event.TICK])), quantity(int(row[Event.LOTS])), side, time_ns,
            heard_ns,
        )  # fmt: skip


def _grids(rules: InstrumentRules) -> Grids:
    return Grids.of(rules.tick_size, rules.lot_size)
