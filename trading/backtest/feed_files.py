"""Feeds out of files: recordings of raw public frames (``marketdata.feeds.recorded``), and lists of trades."""

from __future__ import annotations

import csv
import gzip
from array import array
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from marketdata.engine.grid import GridError
from marketdata.engine.sync import BookOutcome
from marketdata.feeds.book_replay import Replay
from marketdata.feeds.bybit import topic_of
from marketdata.feeds.recorded import RECEIVED, RecordedFrame, read_recording
from trading.backtest.errors import BacktestError
from trading.backtest.feed import COLUMNS, Event, EventKind, Feed
from trading.simulator.instruments import Grids

MILLISECOND_NS = 1_000_000
SIDES = {"Buy": 1, "Sell": -1}
LEVEL, TRADE, END, SNAPSHOT = EventKind


class _Rows:
    """Events as they are read; prices and quantities as texts."""

    def __init__(self, grids: Grids) -> None:
        self._ticks, self._lots = grids.prices.units, grids.quantities.units
        self._numbers = array("q")

    def add(
        self,
        time_ns: int,
        received_ns: int,
        kind: int,
        side: int = 0,
        price: str = "",
        quantity: str = "",
        update: int = 0,
    ) -> None:
        tick, lots = (self._ticks(price), self._lots(quantity)) if price else (0, 0)
        self._numbers.extend((time_ns, received_ns, kind, side, tick, lots, update))

    def table(self) -> NDArray[np.int64]:
        """In the order of exchange time; of one instant trades come before the book that shows what they left."""
        table = np.array(self._numbers, dtype=np.int64).reshape(-1, COLUMNS)
        return table[np.lexsort((table[:, Event.KIND] != TRADE, table[:, Event.TIME]))]


def recorded_feed(path: Path, symbol: str, grids: Grids, *, category: str | None = None) -> Feed:
    """One symbol of a recording: its book and its trades. The production engine judges which messages count.

    Raises:
        RecordingError: the file cannot be read.
        BacktestError: no book of that symbol in it, or prices that are not on the grids.
    """
    rows, replay = _Rows(grids), Replay(symbol, category)
    try:
        for frame in read_recording(path):
            for step in replay.take(frame):
                if step.outcome in (BookOutcome.SNAPSHOT, BookOutcome.DELTA):
                    _add_message(rows, step.frame, step.receive_ns, is_snapshot=step.outcome is BookOutcome.SNAPSHOT)
            _add_trades(rows, frame, symbol, category)
    except GridError as error:
        raise BacktestError(f"{path.name}: {error}") from None
    table = rows.table()
    if not (table[:, Event.KIND] == END).any():
        raise BacktestError(f"{path.name} holds no book of {symbol}; expected a recording of its order-book stream")
    return Feed(symbol, grids, table)


def _add_message(rows: _Rows, frame: bytes, received_ns: int, *, is_snapshot: bool) -> None:
    message = orjson.loads(frame)
    data = message["data"]
    time_ns, update = int(message["cts"]) * MILLISECOND_NS, int(data["u"])
    if is_snapshot:
        rows.add(time_ns, received_ns, SNAPSHOT, update=update)
    for side, levels in ((1, data["b"]), (-1, data["a"])):
        for price, quantity in levels:
            rows.add(time_ns, received_ns, LEVEL, side, price, quantity, update)
    rows.add(time_ns, received_ns, END, update=update)


def _add_trades(rows: _Rows, frame: RecordedFrame, symbol: str, category: str | None) -> None:
    if frame.kind != RECEIVED or (category is not None and frame.category != category):
        return
    if topic_of(frame.data) == f"publicTrade.{symbol}":
        for row in orjson.loads(frame.data)["data"]:
            rows.add(int(row["T"]) * MILLISECOND_NS, frame.receive_ns, TRADE, SIDES[row["S"]], row["p"], row["v"])


def trade_feeds(frames: Iterable[RecordedFrame], grids: Mapping[str, Grids], category: str) -> dict[str, Feed]:
    """The trades of several symbols out of one recording, by symbol; empty where it holds none.

    Raises:
        BacktestError: a price or quantity that is not on its grid.
    """
    rows = {symbol: _Rows(each) for symbol, each in grids.items()}
    for frame in frames:
        topic = topic_of(frame.data) if frame.kind == RECEIVED and frame.category == category else None
        symbol = (topic or "").rpartition(".")[2]
        if symbol not in rows:
            continue
        try:
            _add_trades(rows[symbol], frame, symbol, category)
        except GridError as error:
            raise BacktestError(f"{symbol}: {error}") from None
    return {symbol: Feed(symbol, grids[symbol], each.table(), has_book=False) for symbol, each in rows.items()}


def trades_feed(path: Path, symbol: str, grids: Grids) -> Feed:
    """Trades alone, from CSV (also gzipped) with the columns ``time`` (milliseconds UTC), ``price``, ``quantity`` and
    ``side`` (buy or sell: who took).

    Raises:
        BacktestError: a file that is not such a list; it names the row.
    """
    rows = _Rows(grids)
    for number, row in enumerate(_csv_rows(path), start=2):
        try:
            time_ns = int(row["time"]) * MILLISECOND_NS
            rows.add(time_ns, time_ns, TRADE, SIDES[row["side"].capitalize()], row["price"], row["quantity"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise BacktestError(f"{path.name}, line {number}: {error}") from None
    return Feed(symbol, grids, rows.table(), has_book=False)


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        yield from csv.DictReader(file)


def grids_of(tick_size: str, lot_size: str) -> Grids:
    return Grids.of(Decimal(tick_size), Decimal(lot_size))
