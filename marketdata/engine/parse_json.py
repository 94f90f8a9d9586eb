"""Any valid form of a frame, judged by its meaning: the way for what the strict parsers leave to it.

Any key order and any spaces, but nothing that a strict parser refuses, and no name twice in one object: two readers
might believe different ones of them. Integers are those that the strict parsers read, 0 to 18 digits long.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec

T = TypeVar("T")
NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")


class FrameError(ValueError):
    """A frame that cannot be believed; the message says why."""


_Natural = Annotated[int, msgspec.Meta(ge=0, lt=10**18)]
_Positive = Annotated[int, msgspec.Meta(ge=1, lt=10**18)]


class _BybitBook(msgspec.Struct):
    s: str
    u: _Positive
    seq: _Natural
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class _BybitFrame(msgspec.Struct):
    topic: str
    type: str
    ts: _Natural
    data: _BybitBook
    cts: _Natural = 0


class _Event(msgspec.Struct):
    e: str
    E: _Natural
    s: str
    U: _Positive
    u: _Positive
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    T: _Natural = 0
    pu: _Natural | None = None


class _Combined(msgspec.Struct):
    stream: str
    data: _Event


class _Snapshot(msgspec.Struct):
    lastUpdateId: _Positive
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    E: _Natural = 0
    T: _Natural = 0
    symbol: str = ""


_BYBIT = msgspec.json.Decoder(_BybitFrame)
_EVENT = msgspec.json.Decoder(_Event)
_COMBINED = msgspec.json.Decoder(_Combined)
_SNAPSHOT = msgspec.json.Decoder(_Snapshot)


@dataclass(frozen=True, slots=True)
class BookMessage:
    """What a frame says of one book. Levels are (price, quantity); quantity 0 removes the level. ``topic`` is
    Bybit's."""

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
    topic: str = ""


def read_bybit(frame: bytes) -> BookMessage:
    """One frame of ``orderbook.N.SYMBOL``.

    Raises:
        FrameError: not JSON, not an order-book frame, or a level that is none.
    """
    message = _decode(_BYBIT, _json(frame))
    if message.type not in ("snapshot", "delta"):
        raise FrameError(f"type is {message.type!r}; expected snapshot or delta")
    if not message.topic.endswith(f".{message.data.s}"):
        raise FrameError(f"topic {message.topic!r} carries symbol {message.data.s!r}")
    data = message.data
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
        topic=message.topic,
    )


def read_binance(frame: bytes) -> BookMessage:
    """One ``depthUpdate`` event, alone or in the wrapper of a combined stream.

    Raises:
        FrameError: not JSON, not such an event, or a level that is none.
    """
    frame = _json(frame)
    try:
        event = _COMBINED.decode(frame).data
    except msgspec.DecodeError:
        event = _decode(_EVENT, frame)
    if event.e != "depthUpdate":
        raise FrameError(f"event is {event.e!r}; expected depthUpdate")
    if event.u < event.U:
        raise FrameError(f"U is {event.U}, u is {event.u}; expected U not above u")
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
    snapshot = _decode(_SNAPSHOT, _json(body))
    if snapshot.symbol and snapshot.symbol != symbol:
        raise FrameError(f"the snapshot is of {snapshot.symbol}; {symbol} was asked for")
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
        return decoder.decode(frame)
    except msgspec.DecodeError as error:
        raise FrameError(f"not an order-book frame: {error}") from None


def _json(frame: bytes) -> bytes:
    """The frame, if all of it is JSON: msgspec does not look closely at fields that it skips."""
    if not frame.isascii():
        # The venues' frames are.
        raise FrameError("not an order-book frame: it holds bytes that are not ASCII")
    try:
        json.loads(frame.decode("ascii"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except FrameError:
        raise
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not an order-book frame: {error}") from None
    return frame


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise FrameError("not an order-book frame: a name appears twice in one object")
    return named


def _refuse_constant(name: str) -> NoReturn:
    raise FrameError(f"not an order-book frame: {name} is not JSON")


def _levels(levels: list[tuple[str, str]]) -> list[tuple[Decimal, Decimal]]:
    return [(_number("price", price, lowest=1), _number("quantity", quantity)) for price, quantity in levels]


def _number(name: str, text: str, lowest: int = 0) -> Decimal:
    if NUMBER.fullmatch(text) is None:
        raise FrameError(f"{name} {text!r} is not a plain number")
    number = Decimal(text)
    if lowest and not number:
        raise FrameError(f"a level has {name} 0")
    return number
