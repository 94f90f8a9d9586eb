"""What one turn of the event loop holds is told in the order of arrival; a turn that is behind leaves out what is stale
and nothing else."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest

from marketdata.engine.batch import Taken
from marketdata.engine.book import SymbolBook
from marketdata.engine.sync import BookState
from marketdata.events import Trade
from tests.builders import book_frame
from trading.runtime import frame_turn
from trading.runtime.book_stream import BookStream
from trading.runtime.frame_turn import FrameTurn

D = Decimal
NOW = 1_800_000_000_000_000_000


def stream_of(symbol: str = "BTCUSDT") -> BookStream:
    return BookStream(symbol, SymbolBook(symbol, D("0.1"), D("0.001")), None, by_rest=False)


class Told:
    """A turn and what it told."""

    def __init__(self, *, scheduled: bool = False) -> None:
        self.order: list[Any] = []
        self.states: list[BookState] = []
        self.turn = FrameTurn(self.book, scheduled=scheduled)

    def book(self, stream: BookStream, taken: Taken, row: Any, frame: bytes, receive_ns: int, is_stale: bool) -> None:
        self.states.append(taken.state)
        self.order.append((stream.symbol, taken.update_id, is_stale))

    def note(self, what: str, receive_ns: int = NOW, replaced_by: str | None = None) -> None:
        self.turn.add(lambda: self.order.append(what), receive_ns, replaced_by)


def snapshot(symbol: str = "BTCUSDT", update: int = 1) -> bytes:
    return book_frame("snapshot", update, [["100.0", "1"]], [["100.1", "1"]], symbol)


def delta(update: int, symbol: str = "BTCUSDT") -> bytes:
    return book_frame("delta", update, [["99.9", str(update)]], [], symbol)


def test_books_and_everything_else_are_told_as_they_came() -> None:
    told, bitcoin, ether = Told(), stream_of(), stream_of("ETHUSDT")
    told.turn.add_book(bitcoin, snapshot(), NOW)
    told.note("ticker")
    told.turn.add_book(ether, snapshot("ETHUSDT"), NOW)
    told.turn.add_book(bitcoin, delta(2), NOW)
    told.note("candle")
    told.turn.take()
    assert told.order == [("BTCUSDT", 1, False), "ticker", ("ETHUSDT", 1, False), ("BTCUSDT", 2, False), "candle"]


def test_each_message_is_told_with_the_state_that_it_left_not_with_a_later_one() -> None:
    told, stream = Told(), stream_of()
    for frame in (snapshot(), delta(2), delta(5), snapshot(update=9)):
        told.turn.add_book(stream, frame, NOW)
    told.turn.take()
    assert told.states == [BookState.LIVE, BookState.LIVE, BookState.SYNCING, BookState.LIVE]


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_trade_counts_between_the_frames_it_came_between(one_by_one: bool) -> None:
    stream, features = stream_of(), []

    def keep(stream: BookStream, taken: Taken, row: Any, *_: Any) -> None:
        features.append(row.copy().tobytes())

    turn = FrameTurn(keep, scheduled=False)
    trade = Trade("BTCUSDT", "1", D("100"), D("2"), "Buy", 1_000_000, NOW)
    for frame in (snapshot(), delta(2), trade, delta(3), trade, delta(4)):
        if isinstance(frame, Trade):
            turn.add_trades(stream, [frame], lambda: None)
        else:
            turn.add_book(stream, frame, NOW)
        if one_by_one:
            turn.take()
    turn.take()
    alone, others = stream_of(), []
    for frame in (snapshot(), delta(2), trade, delta(3), trade, delta(4)):
        if isinstance(frame, Trade):
            alone.book.on_trade(frame.venue_ns, frame.price, frame.quantity, frame.side)
        else:
            alone.book.on_frame(frame, NOW)
            others.append(alone.book.features().tobytes())
    assert features == others


async def test_a_turn_that_is_behind_drops_older_views_and_open_candles_but_no_update_and_no_trade() -> None:
    told, stream = Told(scheduled=True), stream_of()
    late = time.time_ns() - 10 * frame_turn.BEHIND_NS
    told.turn.add_book(stream, snapshot(), late)
    told.note("candle of minute 1, older", late, "BTCUSDT 1")
    told.note("ticker", late)
    told.turn.add_book(stream, delta(2), late)
    told.note("closed candle", late)
    told.note("candle of minute 1, newest", late, "BTCUSDT 1")
    told.turn.add_book(stream, delta(3), late)
    told.turn.take()
    assert told.order == [
        ("BTCUSDT", 1, True),
        "ticker",
        ("BTCUSDT", 2, True),
        "closed candle",
        "candle of minute 1, newest",
        ("BTCUSDT", 3, False),
    ]
    assert stream.book.update_id == 3 and told.turn.counts["dropped"] == 3 and told.turn.counts["behind"] == 1


async def test_a_turn_that_keeps_up_drops_nothing() -> None:
    told, stream = Told(scheduled=True), stream_of()
    for number, frame in enumerate((snapshot(), delta(2), delta(3))):
        told.turn.add_book(stream, frame, time.time_ns() + number)
    told.turn.take()
    assert [stale for _, _, stale in told.order] == [False] * 3


def test_more_frames_than_a_batch_holds_are_all_taken() -> None:
    told, stream = Told(), stream_of()
    told.turn.add_book(stream, snapshot(), NOW)
    for update in range(2, 3_001):
        told.turn.add_book(stream, delta(update), NOW)
    told.turn.take()
    assert stream.book.update_id == 3_000 and [update for _, update, _ in told.order] == list(range(1, 3_001))


def test_what_fails_costs_itself_alone() -> None:
    told = Told()
    told.turn.add(lambda: 1 / 0, NOW)
    told.note("after")
    told.turn.take()
    assert told.order == ["after"] and told.turn.counts["handler_errors"] == 1
