"""A recording through the production engine: a book for each that it holds, message by message."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import orjson

from marketdata.engine import sources
from marketdata.engine.book import SymbolBook
from marketdata.engine.grid import common_step
from marketdata.engine.sources import BookSource
from marketdata.engine.sync import BookOutcome, BookState
from marketdata.events import Trade
from marketdata.feeds import binance_messages, bybit_messages
from marketdata.feeds.bybit import topic_of
from marketdata.feeds.bybit_messages import MessageError
from marketdata.feeds.recorded import HTTP, RECEIVED, RecordedFrame
from marketdata.feeds.snapshot_bridge import Judged, SnapshotBridge
from marketdata.instruments import InstrumentError, rules_from_bybit

_WRAPPER = re.compile(rb'\{"stream":"(([^"@]+)@([^"@]+)[^"]*)","data":')
_SYMBOL, _PAIR = re.compile(rb'"s":"([^"]+)"'), re.compile(rb'"ps":"([^"]+)"')
_LEVEL = re.compile(rb'\["([0-9]{1,18}(?:\.[0-9]{1,18})?)","([0-9]{1,18}(?:\.[0-9]{1,18})?)"')
_ASKED_SYMBOL = re.compile(r"/depth\?(?:.*&)?symbol=([A-Z0-9_]+)")
_ASKED_LIMIT = re.compile(r"[?&]limit=([0-9]+)")
USUAL_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class BookStep:
    """One book message was judged: its book as it is now, what the message did, and the message."""

    book: SymbolBook
    outcome: BookOutcome
    frame: bytes
    receive_ns: int


@dataclass(slots=True)
class ReplayCounts:
    """``resyncs``: how often a book became LIVE again."""

    messages: int = 0
    applied: int = 0
    refused: int = 0
    gaps: int = 0
    unreadable_trades: int = 0
    resyncs: int = 0


class Replay:
    """Give it the frames of a recording in their order; ``counts`` is what became of them.

    Updates of Binance that arrive before their snapshot are judged when it is there; those that still wait at the end
    are ``waiting``. Trades go to their book, if there is one, in the order of arrival.
    """

    def __init__(self, symbol: str | None = None, category: str | None = None) -> None:
        self.counts = ReplayCounts()
        self.books: list[SymbolBook] = []
        self._symbol, self._category = symbol, category
        self._bybit: dict[tuple[str | None, str], SymbolBook] = {}
        self._bybit_trades: dict[tuple[str | None, str], list[SymbolBook]] = {}
        self._rules: dict[tuple[str | None, str], tuple[Decimal, Decimal]] = {}
        self._binance: dict[str, SnapshotBridge] = {}
        self._early: dict[str, tuple[RecordedFrame, int]] = {}
        self._trade_streams: dict[str, bytes] = {}
        self._newest_symbol = ""
        self._proven: set[SymbolBook] = set()
        self._lost: set[SymbolBook] = set()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._binance.values())) + len(self._early)

    def run(self, frames: Iterable[RecordedFrame]) -> Iterator[BookStep]:
        """Take all frames; gives each judged book message before the next frame is taken."""
        for frame in frames:
            yield from self.take(frame)

    def take(self, frame: RecordedFrame) -> Iterator[BookStep]:
        data = frame.data
        if frame.kind == HTTP:
            if data.startswith(b'{"lastUpdateId"'):
                yield from self._snapshot(frame)
            elif frame.url and "instruments-info" in frame.url:
                self._learn_rules(frame)
        elif frame.kind == RECEIVED:
            if data.startswith(b'{"topic":"'):
                yield from self._bybit_frame(frame)
            elif data.startswith(b'{"lastUpdateId"'):
                yield from self._snapshot(frame)
            elif data.startswith((b'{"stream":"', b'{"e":"')):
                yield from self._binance_frame(frame)

    # Bybit: the stream itself brings the snapshots.

    def _bybit_frame(self, frame: RecordedFrame) -> Iterator[BookStep]:
        if self._category is not None and frame.category != self._category:
            return
        topic = topic_of(frame.data) or ""
        kind, _, rest = topic.partition(".")
        key, symbol = (frame.category, topic), topic.rpartition(".")[2]
        if self._symbol is not None and symbol != self._symbol:
            return
        if kind == "publicTrade":
            self._trades(self._bybit_trades.get((frame.category, symbol), []), frame, bybit_messages.decode_trades)
        elif kind == "orderbook":
            book = self._bybit.get(key)
            if book is None:
                depth = rest.partition(".")[0]
                source = sources.bybit(symbol, int(depth) if depth.isdecimal() else 0)
                book = self._bybit[key] = self._new_book(symbol, source, frame)
                self._bybit_trades.setdefault((frame.category, symbol), []).append(book)
            outcome = book.on_frame(frame.data, frame.receive_ns)
            yield self._step(book, Judged(outcome, frame.data, frame.receive_ns))

    def _learn_rules(self, frame: RecordedFrame) -> None:
        for row in orjson.loads(frame.data)["result"]["list"]:
            try:
                rules = rules_from_bybit(row, frame.category or "linear")
            except InstrumentError:
                continue
            self._rules[frame.category, rules.symbol] = rules.tick_size, rules.lot_size

    # Binance: snapshots come by REST.

    def _binance_frame(self, frame: RecordedFrame) -> Iterator[BookStep]:
        wrapper = _WRAPPER.match(frame.data)
        if wrapper is not None:
            symbol, kind = wrapper[2].decode().upper(), wrapper[3]
        else:
            head = frame.data[:80]
            kind = b"depth" if b'"depthUpdate"' in head else b"trade" if b'rade"' in head else b""
            named = _SYMBOL.search(frame.data)
            symbol = named[1].decode() if named else ""
        if self._symbol is not None and symbol != self._symbol:
            return
        if kind == b"depth":
            self._newest_symbol = symbol
            yield from self._update(symbol, frame)
        elif kind in (b"trade", b"aggTrade") and self._trade_streams.setdefault(symbol, kind) == kind:
            # Where both were recorded, both tell the same trades.
            bridge = self._binance.get(symbol)
            if bridge is not None:
                self._trades([bridge.book], frame, binance_messages.decode_trades)

    def _update(self, symbol: str, frame: RecordedFrame) -> Iterator[BookStep]:
        bridge = self._binance.get(symbol)
        if bridge is None:
            early = self._early.pop(symbol, None)
            limit = early[1] if early is not None else USUAL_LIMIT
            book = self._new_book(symbol, _binance_source(symbol, frame.data, limit), early[0] if early else frame)
            bridge = self._binance[symbol] = SnapshotBridge(book)
            if early is not None:
                yield from self._steps(bridge, bridge.snapshot(early[0].data, early[0].receive_ns))
        yield from self._steps(bridge, bridge.update(frame.data, frame.receive_ns))

    def _snapshot(self, frame: RecordedFrame) -> Iterator[BookStep]:
        """An answer names its symbol in its url; without one it is of the book that the stream last spoke of."""
        asked = _ASKED_SYMBOL.search(frame.url or "")
        symbol = asked[1] if asked else self._newest_symbol
        if self._symbol is not None and symbol != self._symbol:
            return
        bridge = self._binance.get(symbol)
        if bridge is None:
            limit = _ASKED_LIMIT.search(frame.url or "")
            self._early[symbol] = frame, int(limit[1]) if limit else USUAL_LIMIT
            return
        yield from self._steps(bridge, bridge.snapshot(frame.data, frame.receive_ns))

    def _steps(self, bridge: SnapshotBridge, judged: Iterable[Judged]) -> Iterator[BookStep]:
        for each in judged:
            yield self._step(bridge.book, each)

    # Both.

    def _trades(
        self, books: list[SymbolBook], frame: RecordedFrame, decode: Callable[[bytes, int], list[Trade]]
    ) -> None:
        if not books:
            return
        try:
            trades = decode(frame.data, frame.receive_ns)
        except MessageError:
            self.counts.unreadable_trades += 1
            return
        for book in books:
            for trade in trades:
                book.on_trade(trade.venue_ns, trade.price, trade.quantity, trade.side)

    def _new_book(self, symbol: str, source: BookSource, frame: RecordedFrame) -> SymbolBook:
        """A book on the listed grid, or on the one that its first message shows; it takes on finer steps by itself."""
        tick, lot = self._rules.get((frame.category, symbol)) or _steps_shown(frame.data)
        book = SymbolBook(symbol, tick, lot, source=source)
        self.books.append(book)
        return book

    def _step(self, book: SymbolBook, judged: Judged) -> BookStep:
        counts, outcome = self.counts, judged.outcome
        counts.messages += 1
        counts.applied += outcome <= BookOutcome.DELTA
        counts.refused += outcome is BookOutcome.REFUSED
        counts.gaps += outcome is BookOutcome.GAP
        live = book.state is BookState.LIVE
        if live and book in self._lost:
            counts.resyncs += 1
            self._lost.discard(book)
        elif not live and book in self._proven:
            self._lost.add(book)
        if live:
            self._proven.add(book)
        return BookStep(book, outcome, judged.frame, judged.receive_ns)


def _binance_source(symbol: str, frame: bytes, snapshot_limit: int) -> BookSource:
    """What the first update of a book shows of its stream: wrapped or not, spot or futures."""
    wrapper, pair = _WRAPPER.match(frame), _PAIR.search(frame)
    stream = wrapper[1].decode() if wrapper else ""
    if b'"pu":' in frame:
        return sources.binance_futures(symbol, stream, pair[1].decode() if pair else "", snapshot_limit)
    return sources.binance_spot(symbol, stream, snapshot_limit)


def _steps_shown(frame: bytes) -> tuple[Decimal, Decimal]:
    """The largest steps that all prices and quantities of a frame are multiples of; 1 where it shows none."""
    levels = [(price.decode(), quantity.decode()) for price, quantity in _LEVEL.findall(frame)]
    return common_step(price for price, _ in levels), common_step(quantity for _, quantity in levels)
