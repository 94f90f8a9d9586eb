"""What the public REST endpoints of both products answer, and what they weigh."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trading.simulator.binance import exchange_info, klines, parameters
from trading.simulator.binance.errors import BinanceError, bad_combination, missing
from trading.simulator.binance.parameters import Query
from trading.simulator.binance.products import Futures, Product, Spot

DEPTH_DEFAULT = {Spot.NAME: 100, Futures.NAME: 500}
SPOT_MOST_LEVELS = 5_000
FUTURES_DEPTH_LIMITS = (5, 10, 20, 50, 100, 500, 1_000)
SPOT_DEPTH_WEIGHTS = ((100, 500, 1_000), (5, 25, 50, 250))
FUTURES_DEPTH_WEIGHTS = ((50, 100, 500), (2, 5, 10, 20))
FUTURES_KLINE_WEIGHTS = ((99, 499, 1_000), (1, 2, 5, 10))
MOST_KLINES = {Spot.NAME: 1_000, Futures.NAME: 1_500}
MOST_TRADES = 1_000

Steps = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Call:
    """One request: what it is asked of, with which parameters, and when."""

    product: Product
    query: Query
    weight_limit: int
    now_ms: int

    @property
    def strict(self) -> bool:
        """Futures refuse limits that spot lowers."""
        return self.product.NAME == Futures.NAME


@dataclass(frozen=True, slots=True)
class Endpoint:
    answer: Callable[[Call], Any]
    weight: Callable[[Query], int]


def ping(call: Call) -> dict[str, Any]:
    return {}


def server_time(call: Call) -> dict[str, Any]:
    return {"serverTime": call.now_ms}


def spot_exchange_info(call: Call) -> dict[str, Any]:
    instruments = parameters.chosen(call.query, call.product.instruments)
    listed = call.product.instruments.values() if instruments is None else instruments
    return exchange_info.spot(listed, call.weight_limit, call.now_ms)


def futures_exchange_info(call: Call) -> dict[str, Any]:
    return exchange_info.futures(call.product.instruments.values(), call.weight_limit, call.now_ms)


def depth(call: Call) -> dict[str, Any]:
    instrument = parameters.symbol(call.query, call.product.instruments)
    levels = parameters.number(call.query, "limit")
    if call.strict and levels is not None and levels not in FUTURES_DEPTH_LIMITS:
        raise BinanceError(-4021, f"{levels} is not valid depth limit")
    if not call.strict:
        levels = parameters.limit(call.query, DEPTH_DEFAULT[Spot.NAME], SPOT_MOST_LEVELS, strict=False)
    instrument.ledger.refresh()
    return call.product.depth(instrument, levels or DEPTH_DEFAULT[call.product.NAME], call.now_ms)


def candles(call: Call) -> list[list[Any]]:
    instrument = parameters.symbol(call.query, call.product.instruments)
    interval = call.query.get("interval", "")
    if not interval:
        raise missing("interval")
    if interval not in klines.INTERVALS:
        raise BinanceError(-1120, "Invalid interval.")
    limit = parameters.limit(call.query, 500, MOST_KLINES[call.product.NAME], strict=call.strict)
    start, end = parameters.number(call.query, "startTime"), parameters.number(call.query, "endTime")
    figures = call.product.figures(instrument)
    return [each.row() for each in klines.between(instrument, figures, interval, limit, start, end)]


def book_ticker(call: Call) -> Any:
    """One row for ``symbol``, else a list."""
    instruments = parameters.chosen(call.query, call.product.instruments)
    rows = []
    for instrument in call.product.instruments.values() if instruments is None else instruments:
        instrument.ledger.refresh()
        rows.append(call.product.book_ticker_row(instrument, call.now_ms))
    return rows[0] if "symbol" in call.query else rows


def trades(call: Call) -> list[dict[str, Any]]:
    instrument = parameters.symbol(call.query, call.product.instruments)
    limit = parameters.limit(call.query, 500, MOST_TRADES, strict=call.strict)
    return [call.product.trade_row(instrument, trade) for trade in instrument.tape.newest(limit)]


def aggregate_trades(call: Call) -> list[dict[str, Any]]:
    """The newest; with ``fromId`` or ``startTime`` the oldest from there, as far as they are kept."""
    instrument = parameters.symbol(call.query, call.product.instruments)
    limit = parameters.limit(call.query, 500, MOST_TRADES, strict=call.strict)
    first_id = parameters.number(call.query, "fromId")
    start, end = parameters.number(call.query, "startTime"), parameters.number(call.query, "endTime")
    if first_id is not None and (start is not None or end is not None):
        raise bad_combination()
    found = [
        trade
        for trade in instrument.tape.aggregates()
        if (first_id is None or trade.aggregate_id >= first_id)
        and (start is None or trade.time_ms >= start)
        and (end is None or trade.time_ms <= end)
    ]
    found = found[-limit:] if first_id is None and start is None else found[:limit]
    return [call.product.aggregate_row(instrument, trade) for trade in found]


def _flat(weight: int) -> Callable[[Query], int]:
    return lambda query: weight


def _by_limit(steps: Steps, default: int) -> Callable[[Query], int]:
    """The weight of the first step that the limit does not exceed."""
    largest, weights = steps
    return lambda query: weights[bisect_left(largest, parameters.limit_for_weight(query, default))]


def _by_symbol(one: int, every: int) -> Callable[[Query], int]:
    return lambda query: one if "symbol" in query else every


SPOT_ENDPOINTS: Mapping[str, Endpoint] = {
    "/api/v3/ping": Endpoint(ping, _flat(1)),
    "/api/v3/time": Endpoint(server_time, _flat(1)),
    "/api/v3/exchangeInfo": Endpoint(spot_exchange_info, _flat(20)),
    "/api/v3/depth": Endpoint(depth, _by_limit(SPOT_DEPTH_WEIGHTS, DEPTH_DEFAULT[Spot.NAME])),
    "/api/v3/klines": Endpoint(candles, _flat(2)),
    "/api/v3/ticker/bookTicker": Endpoint(book_ticker, _by_symbol(2, 4)),
    "/api/v3/aggTrades": Endpoint(aggregate_trades, _flat(4)),
    "/api/v3/trades": Endpoint(trades, _flat(25)),
}
FUTURES_ENDPOINTS: Mapping[str, Endpoint] = {
    "/fapi/v1/ping": Endpoint(ping, _flat(1)),
    "/fapi/v1/time": Endpoint(server_time, _flat(1)),
    "/fapi/v1/exchangeInfo": Endpoint(futures_exchange_info, _flat(1)),
    "/fapi/v1/depth": Endpoint(depth, _by_limit(FUTURES_DEPTH_WEIGHTS, DEPTH_DEFAULT[Futures.NAME])),
    "/fapi/v1/klines": Endpoint(candles, _by_limit(FUTURES_KLINE_WEIGHTS, 500)),
    "/fapi/v1/ticker/bookTicker": Endpoint(book_ticker, _by_symbol(2, 5)),
    "/fapi/v1/aggTrades": Endpoint(aggregate_trades, _flat(20)),
    "/fapi/v1/trades": Endpoint(trades, _flat(5)),
}
