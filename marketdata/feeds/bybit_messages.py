"""Bybit's public trades, tickers and candles as events. Strict: what is not of the documented types is refused."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, InvalidOperation

import msgspec

from marketdata.events import Candle, Ticker, Trade


class MessageError(ValueError):
    """A frame that is not what its topic promises; the message says why."""


class _TradeRow(msgspec.Struct):
    T: int
    s: str
    S: str
    v: Decimal
    p: Decimal
    i: str


class _TradeFrame(msgspec.Struct):
    data: list[_TradeRow]


class _KlineRow(msgspec.Struct):
    start: int
    interval: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    turnover: Decimal
    confirm: bool


class _KlineFrame(msgspec.Struct):
    topic: str
    data: list[_KlineRow]


class _TickerFrame(msgspec.Struct):
    data: dict[str, str | int | float | bool | None]


_TRADES = msgspec.json.Decoder(_TradeFrame)
_KLINES = msgspec.json.Decoder(_KlineFrame)
_TICKERS = msgspec.json.Decoder(_TickerFrame)


def decode_trades(frame: bytes, receive_ns: int) -> list[Trade]:
    """The trades of one ``publicTrade`` frame, in its order."""
    try:
        rows = _TRADES.decode(frame).data
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MessageError(f"not a trade frame: {error}") from None
    for row in rows:
        if row.S not in ("Buy", "Sell") or not row.p > 0 or not row.v > 0:
            raise MessageError(f"not a trade: {row.S} {row.v} at {row.p}")
    return [Trade(row.s, row.i, row.p, row.v, row.S, row.T * 1_000_000, receive_ns) for row in rows]


def decode_klines(frame: bytes) -> list[Candle]:
    """The candles of one ``kline`` frame; closed ones say so."""
    try:
        message = _KLINES.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MessageError(f"not a kline frame: {error}") from None
    symbol = message.topic.rpartition(".")[2]
    candles = []
    for row in message.data:
        if not row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high:
            raise MessageError(f"not a candle: open {row.open} high {row.high} low {row.low} close {row.close}")
        candles.append(
            Candle(
                symbol=symbol,
                interval=row.interval,
                start_ms=row.start,
                open=row.open,
                high=row.high,
                low=row.low,
                close=row.close,
                volume=row.volume,
                turnover=row.turnover,
                closed=row.confirm,
            )
        )
    return candles


class TickerState:
    """Merges a symbol's ticker snapshot and the deltas after it, which carry only what changed."""

    _DECIMALS = {
        "lastPrice": "last_price",
        "markPrice": "mark_price",
        "indexPrice": "index_price",
        "bid1Price": "bid_price",
        "ask1Price": "ask_price",
        "fundingRate": "funding_rate",
        "volume24h": "volume_24h",
        "turnover24h": "turnover_24h",
        "price24hPcnt": "change_24h",
        "openInterest": "open_interest",
    }

    def __init__(self, symbol: str) -> None:
        self._ticker = Ticker(symbol)

    def ticker(self) -> Ticker:
        return self._ticker

    def update(self, frame: bytes) -> Ticker:
        """Take one ``tickers`` frame and return the whole ticker.

        Raises:
            MessageError: not a ticker frame, or a number that is none; the state keeps its last good values.
        """
        try:
            data = _TICKERS.decode(frame).data
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MessageError(f"not a ticker frame: {error}") from None
        changes: dict[str, Decimal | int | None] = {}
        for theirs, ours in self._DECIMALS.items():
            if theirs in data:
                changes[ours] = _number(theirs, data[theirs])
        if data.get("nextFundingTime"):
            changes["next_funding_ms"] = int(str(data["nextFundingTime"]))
        self._ticker = replace(self._ticker, **changes)  # type: ignore[arg-type]
        return self._ticker


def _number(name: str, value: object) -> Decimal | None:
    if value in (None, ""):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise MessageError(f"{name} is {value!r}; expected a number") from None
    if not number.is_finite():
        raise MessageError(f"{name} is {value!r}; expected a finite number")
    return number
