"""Feeds out of files: recordings of raw public frames (``marketdata.feeds.recorded``), and lists of trades."""

from __future__ import annotations

import csv
import gzip
import zlib
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from marketdata.engine.grid import GridError
from marketdata.engine.sync import BookOutcome
from marketdata.feeds import binance_messages, bybit_messages
from marketdata.feeds.book_replay import BookStep, Replay
from marketdata.feeds.bybit import topic_of
from marketdata.feeds.bybit_messages import MessageError
from marketdata.feeds.recorded import RECEIVED, RecordedFrame, read_recording
from trading.backtest.errors import BacktestError
from trading.backtest.feed import COLUMNS, Event, EventKind, Feed
from trading.backtest.feed_checks import REPAIR_HELP, FeedRepair, checked_events, in_order
from trading.simulator.instruments import Grids

MILLISECOND_NS = 1_000_000
# What a time in milliseconds can be: 2010 to 2100.
FIRST_MS, LAST_MS = 1_262_304_000_000, 4_102_444_800_000
SIDES = {"Buy": 1, "Sell": -1}
LEVEL, TRADE, END, SNAPSHOT = (int(kind) for kind in EventKind)
BINANCE_TRADES = (b'"e":"trade"', b'"e":"aggTrade"')
# By what other files call them.
COLUMN_NAMES = {"time": ("time", "timestamp"), "quantity": ("quantity", "amount", "qty", "size"), "price": ("price",)}
FAULTS_TOLD = 20


class _Rows:
    """Events as they are read."""

    def __init__(self, grids: Grids) -> None:
        self._ticks, self._lots = grids.prices.units, grids.quantities.units
        self._numbers = array("q")
        self._book_ns = 0

    def add_trade(self, time_ns: int, received_ns: int, side: str, price: str, quantity: str) -> None:
        tick, lots = self._ticks(price), self._lots(quantity)
        self._numbers.extend((time_ns, received_ns, TRADE, SIDES[side], tick, lots, 0))

    def add_message(
        self, time_ns: int, received_ns: int, update: int, bids: Any, asks: Any, *, is_snapshot: bool
    ) -> None:
        # The update ids are the order of a book, whatever its clock says.
        time_ns = self._book_ns = max(time_ns, self._book_ns)
        numbers = self._numbers
        if is_snapshot:
            numbers.extend((time_ns, received_ns, SNAPSHOT, 0, 0, 0, update))
        for side, levels in ((1, bids), (-1, asks)):
            for price, quantity in levels:
                numbers.extend((time_ns, received_ns, LEVEL, side, self._ticks(price), self._lots(quantity), update))
        numbers.extend((time_ns, received_ns, END, 0, 0, 0, update))

    def table(self) -> NDArray[np.int64]:
        return np.array(self._numbers, dtype=np.int64).reshape(-1, COLUMNS)


class _RecordedBook:
    """One book of a recording, as the production engine judges its messages."""

    def __init__(self, rows: _Rows, symbol: str, category: str | None) -> None:
        self._rows, self._symbol, self._category = rows, symbol, category
        self.replay = Replay(symbol, category)
        self._snapshot: Mapping[str, Any] = {}
        self._trade_kind = b""

    def take(self, frame: RecordedFrame) -> None:
        for step in self.replay.take(frame):
            if step.outcome in (BookOutcome.SNAPSHOT, BookOutcome.DELTA):
                self._add_message(step)
        if frame.kind == RECEIVED:
            self._add_trades(frame)

    def _add_message(self, step: BookStep) -> None:
        message = orjson.loads(step.frame)
        data = message.get("data", message)
        if "lastUpdateId" in data:
            self._snapshot = data  # it names no time of the exchange: that of the update that bridges it
            return
        if "cts" in message:
            time_ms, is_snapshot = int(message["cts"]), step.outcome is BookOutcome.SNAPSHOT
        else:
            time_ms, is_snapshot = int(data.get("T") or data["E"]), False
        time_ns, snapshot = time_ms * MILLISECOND_NS, self._snapshot
        if snapshot:
            self._rows.add_message(
                time_ns, step.receive_ns, int(snapshot["lastUpdateId"]), snapshot["bids"], snapshot["asks"],
                is_snapshot=True,
            )  # fmt: skip
            self._snapshot = {}
        self._rows.add_message(time_ns, step.receive_ns, int(data["u"]), data["b"], data["a"], is_snapshot=is_snapshot)

    def _add_trades(self, frame: RecordedFrame) -> None:
        if self._category is not None and frame.category != self._category:
            return
        head = frame.data[:160]
        if topic_of(frame.data) == f"publicTrade.{self._symbol}":
            decode = bybit_messages.decode_trades
        elif kind := next((each for each in BINANCE_TRADES if each in head), b""):
            # Where both were recorded, both tell the same trades.
            self._trade_kind = self._trade_kind or kind
            if kind != self._trade_kind:
                return
            decode = binance_messages.decode_trades
        else:
            return
        for trade in decode(frame.data, frame.receive_ns):
            if trade.symbol == self._symbol:
                price, quantity = f"{trade.price:f}", f"{trade.quantity:f}"
                self._rows.add_trade(trade.venue_ns, frame.receive_ns, trade.side, price, quantity)


def recorded_feed(
    path: Path,
    symbol: str,
    grids: Grids,
    *,
    category: str | None = None,
    repairs: Collection[FeedRepair] = (),
) -> Feed:
    """One symbol of a recording of Bybit or Binance: its book and its trades. The production engine judges which
    messages count; where it missed some, the book stays as it was until its next snapshot, if that is among the
    repairs. A recorder's clock that ran behind the exchange's is put forward, so that nothing is heard before it was.

    Raises:
        RecordingError: the file cannot be read.
        BacktestError: no book of that symbol in it, prices that are not on the grids, or what no named repair is for.
    """
    rows = _Rows(grids)
    book = _RecordedBook(rows, symbol, category)
    try:
        for frame in read_recording(path):
            book.take(frame)
    except (GridError, MessageError) as error:
        raise BacktestError(f"{path.name}: {error}") from None
    counts = book.replay.counts
    if counts.gaps + counts.refused and FeedRepair.WAIT_FOR_SNAPSHOT not in repairs:
        raise BacktestError(
            f"{path.name}: of the book of {symbol} {counts.gaps} messages came after a gap and {counts.refused} were "
            f"not understood; {FeedRepair.WAIT_FOR_SNAPSHOT}: {REPAIR_HELP[FeedRepair.WAIT_FOR_SNAPSHOT]}"
        )
    table = in_order(rows.table())
    if not (table[:, Event.KIND] == END).any():
        raise BacktestError(f"{path.name} holds no book of {symbol}; expected a recording of its order-book stream")
    # Trades before the first book meet nothing.
    table = table[int(np.argmax(table[:, Event.KIND] == SNAPSHOT)) :]
    behind = _put_forward(table)
    table, _ = checked_events(f"{path.name}, {symbol}", table, repairs)
    return Feed(symbol, grids, table, clock_ns=behind)


def _put_forward(table: NDArray[np.int64]) -> int:
    """Put the times of receipt forward by as much as the recorder's clock was behind; how much that is."""
    behind = max(int((table[:, Event.TIME] - table[:, Event.RECEIVED]).max(initial=0)), 0)
    table[:, Event.RECEIVED] += behind
    return behind


def recorded_trades(frames: Iterable[RecordedFrame], grids: Mapping[str, Grids]) -> dict[str, Feed]:
    """The trades of several symbols out of one recording of Bybit, by symbol, in the order of their times.

    Raises:
        BacktestError: trades that cannot be read, a price that is not on its grid, or a symbol without trades.
    """
    rows = {symbol: _Rows(each) for symbol, each in grids.items()}
    try:
        for frame in frames:
            topic = (topic_of(frame.data) or "") if frame.kind == RECEIVED else ""
            kind, _, symbol = topic.partition(".")
            if kind == "publicTrade" and symbol in rows:
                for trade in bybit_messages.decode_trades(frame.data, frame.receive_ns):
                    price, quantity = f"{trade.price:f}", f"{trade.quantity:f}"
                    rows[symbol].add_trade(trade.venue_ns, trade.receive_ns, trade.side, price, quantity)
    except (GridError, MessageError) as error:
        raise BacktestError(str(error)) from None
    feeds = {}
    for symbol, each in rows.items():
        table = in_order(each.table())
        if not len(table):
            raise BacktestError(f"the recording holds no trades of {symbol}")
        behind = _put_forward(table)
        feeds[symbol] = Feed(symbol, grids[symbol], table, has_book=False, clock_ns=behind)
    return feeds


def trades_feed(path: Path, symbol: str, grids: Grids, *, repairs: Collection[FeedRepair] = ()) -> Feed:
    """Trades alone, from CSV (also gzipped) with the columns ``time`` (milliseconds UTC), ``price``, ``quantity`` and
    ``side`` (buy or sell: who took). Rows with an ``id`` that was there before are left out only as a repair.

    Raises:
        BacktestError: a file that is not such a list, or what no named repair is for; it names the lines.
    """
    rows, faults, seen = _Rows(grids), list[str](), set[str]()
    for number, row in _csv_rows(path):
        try:
            _add_trade(rows, row, seen)
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    if faults and FeedRepair.DROP_BAD_ROWS not in repairs:
        more = f" and {len(faults) - FAULTS_TOLD} more" if len(faults) > FAULTS_TOLD else ""
        raise BacktestError(
            f"{path.name}: {'; '.join(faults[:FAULTS_TOLD])}{more}; "
            f"{FeedRepair.DROP_BAD_ROWS}: {REPAIR_HELP[FeedRepair.DROP_BAD_ROWS]}"
        )
    table, _ = checked_events(f"{path.name}, {symbol}", rows.table(), repairs)
    if not len(table):
        raise BacktestError(f"{path.name} holds no trades")
    return Feed(symbol, grids, table, has_book=False)


def _add_trade(rows: _Rows, row: Mapping[str, str | None], seen: set[str]) -> None:
    """
    Raises:
        ValueError: not a trade.
    """
    values = {name: next((row[each] for each in names if row.get(each)), "") for name, names in COLUMN_NAMES.items()}
    time, side = str(values["time"]), str(row.get("side") or "").capitalize()
    if not time.isdecimal() or not FIRST_MS <= int(time) <= LAST_MS:
        raise ValueError(f"time is {time!r}; expected milliseconds since 1970, UTC")
    if side not in SIDES:
        raise ValueError(f"side is {row.get('side')!r}; expected buy or sell")
    number = row.get("id")
    if number and number in seen:
        raise ValueError(f"trade {number} was there before")
    time_ns = int(time) * MILLISECOND_NS
    rows.add_trade(time_ns, time_ns, side, str(values["price"]), str(values["quantity"]))
    if number:
        seen.add(number)


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Line numbers and rows."""
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            reader = csv.DictReader(file)
            for row in reader:
                yield reader.line_num, row
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise BacktestError(f"{path.name} cannot be read: {error}") from None


def grids_of(tick_size: str, lot_size: str) -> Grids:
    return Grids.of(Decimal(tick_size), Decimal(lot_size))
