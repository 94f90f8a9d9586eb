"""Binance's public trades as events. Strict: what is not of the documented types is refused."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from marketdata.events import Trade
from marketdata.feeds.bybit_messages import MessageError


class _Trade(msgspec.Struct):
    e: str
    s: str
    p: Decimal
    q: Decimal
    T: int
    m: bool
    t: int | None = None
    a: int | None = None


class _Combined(msgspec.Struct):
    data: _Trade


_TRADE = msgspec.json.Decoder(_Trade)
_COMBINED = msgspec.json.Decoder(_Combined)


def decode_trades(frame: bytes, receive_ns: int) -> list[Trade]:
    """The trade of one ``trade`` or ``aggTrade`` frame, alone or in the wrapper of a combined stream.

    None at all for a row without a quantity: Binance numbers some that never were a trade.

    Raises:
        MessageError: not such a frame, or a price that is none.
    """
    wrapped = frame.startswith(b'{"stream"')
    try:
        row = _COMBINED.decode(frame).data if wrapped else _TRADE.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MessageError(f"not a trade frame: {error}") from None
    number = row.t if row.e == "trade" else row.a
    if row.e not in ("trade", "aggTrade") or number is None:
        raise MessageError(f"not a trade: event {row.e!r}, number {number}")
    if row.q == 0:
        return []
    if not row.p > 0 or not row.q > 0:
        raise MessageError(f"not a trade: {row.q} at {row.p}")
    # The buyer being the maker, the seller took.
    side = "Sell" if row.m else "Buy"
    return [Trade(row.s, str(number), row.p, row.q, side, row.T * 1_000_000, receive_ns)]
