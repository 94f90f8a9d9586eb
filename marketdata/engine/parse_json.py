"""Any valid form of a frame, judged by its meaning: the way for what the strict parsers leave to it.

msgspec refuses whatever is not valid JSON or not of these types, in any key order and with any spaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

import msgspec

T = TypeVar("T")
NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")


class FrameError(ValueError):
    """A frame that cannot be believed; the message says why."""


class _BybitBook(msgspec.Struct):
    s: str
    u: int
    seq: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class _BybitFrame(msgspec.Struct):
    topic: str
    type: str
    ts: int
    data: _BybitBook
    cts: int = 0


class _Event(msgspec.Struct):
    e: str
    E: int
    s: str
    U: int
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    T: int = 0
    pu: int | None = None


class _Combined(msgspec.Struct):
    stream: str
    data: _Event


class _Snapshot(msgspec.Struct):
    lastUpdateId: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    E: int = 0
    T: int = 0
    symbol: str = ""


_BYBIT = msgspec.json.Decoder(_BybitFrame)
_EVENT = msgspec.json.Decoder(_Event)
_COMBINED = msgspec.json.Decoder(_Combined)
_SNAPSHOT = msgspec.json.Decoder(_Snapshot)


@dataclass(frozen=True, slots=True)
class BookMessage:
    """What a frame says of one book. Levels are (price, quantity); quantity 0 removes the level."""

    symbol: str
    is_snapshot: bool
    sent_ms: int
    venue_ms: int
    first_id: int
    update_id: int
    previous_id: int
    sequence: int
    bids: list[tuple[Decimal, Decimal]]
    asks: list[tuple[Decimal, Decimal]]


def read_bybit(frame: bytes) -> BookMessage:
    """One frame of ``orderbook.N.SYMBOL``.

    Raises:
        FrameError: not JSON, not an order-book frame, or a level that is none.
    """
    message = _decode(_BYBIT, frame)
    if message.type not in ("snapshot", "delta"):
        raise FrameError(f"type is {message.type!r}; expected snapshot or delta")
    if not message.topic.endswith(f".{message.data.s}"):
        raise FrameError(f"topic {message.topic!r} carries symbol {message.data.s!r}")
    data = message.data
    if data.u < 1 or message.ts < 0 or message.cts < 0 or data.seq < 0:
        raise FrameError(f"u is {data.u}, ts is {message.ts}; expected positive numbers")
    return BookMessage(
        symbol=data.s,
        is_snapshot=message.type == "snapshot",
        sent_ms=message.ts,
        venue_ms=message.cts or message.ts,
        first_id=data.u,
        update_id=data.u,
        previous_id=data.u - 1,
        sequence=data.seq,
        bids=_levels(data.b),
        asks=_levels(data.a),
    )


def read_binance(frame: bytes) -> BookMessage:
    """One ``depthUpdate`` event, alone or in the wrapper of a combined stream.

    Raises:
        FrameError: not JSON, not such an event, or a level that is none.
    """
    try:
        event = _COMBINED.decode(_ascii(frame)).data
    except msgspec.DecodeError:
        event = _decode(_EVENT, frame)
    if event.e != "depthUpdate":
        raise FrameError(f"event is {event.e!r}; expected depthUpdate")
    if not 0 < event.U <= event.u or event.E < 0 or event.T < 0 or (event.pu is not None and event.pu < 0):
        raise FrameError(f"U is {event.U}, u is {event.u}; expected positive numbers, U not above u")
    return BookMessage(
        symbol=event.s,
        is_snapshot=False,
        sent_ms=event.E,
        venue_ms=event.T or event.E,
        first_id=event.U,
        update_id=event.u,
        previous_id=event.U - 1 if event.pu is None else event.pu,
        sequence=event.u,
        bids=_levels(event.b),
        asks=_levels(event.a),
    )


def read_binance_snapshot(body: bytes, symbol: str) -> BookMessage:
    """The answer of a depth request for ``symbol``.

    Raises:
        FrameError: not JSON, not such an answer, or one for another symbol.
    """
    snapshot = _decode(_SNAPSHOT, body)
    if snapshot.symbol and snapshot.symbol != symbol:
        raise FrameError(f"the snapshot is of {snapshot.symbol}; {symbol} was asked for")
    if snapshot.lastUpdateId < 1 or snapshot.E < 0 or snapshot.T < 0:
        raise FrameError(f"lastUpdateId is {snapshot.lastUpdateId}; expected a positive number")
    return BookMessage(
        symbol=symbol,
        is_snapshot=True,
        sent_ms=snapshot.E,
        venue_ms=snapshot.T or snapshot.E,
        first_id=snapshot.lastUpdateId,
        update_id=snapshot.lastUpdateId,
        previous_id=snapshot.lastUpdateId,
        sequence=snapshot.lastUpdateId,
        bids=_levels(snapshot.bids),
        asks=_levels(snapshot.asks),
    )


def _decode(decoder: msgspec.json.Decoder[T], frame: bytes) -> T:
    try:
        return decoder.decode(_ascii(frame))
    except msgspec.DecodeError as error:
        raise FrameError(f"not an order-book frame: {error}") from None


def _ascii(frame: bytes) -> bytes:
    if not frame.isascii():
        # The venues' frames are; msgspec would pass broken UTF-8 in fields that it skips.
        raise FrameError("not an order-book frame: it holds bytes that are not ASCII")
    return frame


def _levels(levels: list[tuple[str, str]]) -> list[tuple[Decimal, Decimal]]:
    return [(_number("price", price, lowest=1), _number("quantity", quantity)) for price, quantity in levels]


def _number(name: str, text: str, lowest: int = 0) -> Decimal:
    if NUMBER.fullmatch(text) is None:
        raise FrameError(f"{name} {text!r} is not a plain number")
    number = Decimal(text)
    if lowest and not number:
        raise FrameError(f"a level has {name} 0")
    return number
