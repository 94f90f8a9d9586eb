"""What the public REST endpoints of both products answer, and what they weigh."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from trading.simulator.binance import exchange_info, klines, parameters
from trading.simulator.binance.errors import BinanceError, bad_combination, missing, not_valid
from trading.simulator.binance.instrument import Instrument
from trading.simulator.binance.parameters import Query
from trading.simulator.binance.products import Futures, Product, Spot
from trading.simulator.binance.statistics import AVERAGE_MINUTES
from trading.simulator.candles import FIRST_LISTING_MS
from trading.simulator.funding import funding_interval_ms
from trading.simulator.intervals import HOUR_MINUTES, MINUTE_MS, OPEN

DEPTH_DEFAULT = {Spot.NAME: 100, Futures.NAME: 500}
SPOT_MOST_LEVELS = 5_000
FUTURES_DEPTH_LIMITS = (5, 10, 20, 50, 100, 500, 1_000)
SPOT_DEPTH_WEIGHTS = ((100, 500, 1_000), (5, 25, 50, 250))
FUTURES_DEPTH_WEIGHTS = ((50, 100, 500), (2, 5, 10, 20))
FUTURES_KLINE_WEIGHTS = ((99, 499, 1_000), (1, 2, 5, 10))
MOST_KLINES = {Spot.NAME: 1_000, Futures.NAME: 1_500}
MOST_TRADES = 1_000
FEW_SYMBOLS, MOST_CHEAP_SYMBOLS = 20, 100
OPEN_INTEREST_SHARE = 1 / 4  # of the volume of 24 hours
MINI_FIELDS = (
    *("symbol", "openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "quoteVolume"),
    *("openTime", "closeTime", "firstId", "lastId", "count"),
)

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


def day(call: Call) -> Any:
    """One row for ``symbol``, else a list; spot leaves the book and the trades' average out where ``type`` is MINI."""
    kind = call.query.get("type", "FULL")
    if kind not in ("FULL", "MINI"):
        raise not_valid("type")

    def row(instrument: Instrument) -> dict[str, Any]:
        whole = call.product.day_row(instrument, call.now_ms)
        return whole if kind == "FULL" or call.strict else {name: whole[name] for name in MINI_FIELDS}

    return _each(call, row)


def price(call: Call) -> Any:
    """One row for ``symbol``, else a list; futures tell the time, too."""
    time = {"time": call.now_ms} if call.strict else {}
    return _each(call, lambda instrument: {**call.product.price_row(instrument), **time})


def average(call: Call) -> dict[str, Any]:
    instrument = parameters.symbol(call.query, call.product.instruments)
    newest = instrument.tape.newest(1)
    closes_ms = newest[0].time_ms if newest else call.now_ms
    return {"mins": AVERAGE_MINUTES, "price": call.product.average_price(instrument), "closeTime": closes_ms}


def premium_index(call: Call) -> Any:
    """One row for ``symbol``, else a list."""
    return _each(call, lambda instrument: _futures(call).premium_row(instrument, call.now_ms))


def funding_history(call: Call) -> list[dict[str, Any]]:
    """Oldest first: the newest ones, or from ``startTime`` on the oldest."""
    instrument = parameters.symbol(call.query, call.product.instruments)
    limit = parameters.limit(call.query, 100, 1_000, strict=True)
    start, end = parameters.number(call.query, "startTime"), parameters.number(call.query, "endTime")
    step = funding_interval_ms(instrument.market)
    first = max(start or 0, int(instrument.market.listing.get("launchTime") or FIRST_LISTING_MS))
    newest = min(call.now_ms, end) if end is not None else call.now_ms
    times = range(-(-first // step) * step, newest + 1, step)
    prices = call.product.figures(instrument)

    def row(time_ms: int) -> dict[str, Any]:
        minute = time_ms // MINUTE_MS
        _, bars = instrument.candles.between(minute, minute + HOUR_MINUTES, hourly=True)
        return {
            "symbol": instrument.symbol,
            "fundingTime": time_ms,
            "fundingRate": call.product.funding_rate(instrument, time_ms),
            "markPrice": prices.price(int(bars[0, OPEN])),
        }

    return [row(time_ms) for time_ms in (times[:limit] if start is not None else times[-limit:])]


def funding_info(call: Call) -> list[dict[str, Any]]:
    return [
        {
            "symbol": each.symbol,
            "adjustedFundingRateCap": f"{Decimal(each.market.listing.get('upperFundingRate') or '0.005'):.8f}",
            "adjustedFundingRateFloor": f"{Decimal(each.market.listing.get('lowerFundingRate') or '-0.005'):.8f}",
            "fundingIntervalHours": funding_interval_ms(each.market) // (HOUR_MINUTES * MINUTE_MS),
            "disclaimer": False,
        }
        for each in call.product.instruments.values()
    ]


def open_interest(call: Call) -> dict[str, Any]:
    """As much as the other exchange's ticker says."""
    instrument = parameters.symbol(call.query, call.product.instruments)
    lots = int(instrument.candles.day_change()[3] * OPEN_INTEREST_SHARE)
    interest = call.product.figures(instrument).quantity(lots)
    return {"symbol": instrument.symbol, "openInterest": interest, "time": call.now_ms}


def _each(call: Call, row: Callable[[Instrument], dict[str, Any]]) -> Any:
    """The row of ``symbol``, or those of ``symbols`` or of every instrument."""
    chosen = parameters.chosen(call.query, call.product.instruments)
    rows = [row(instrument) for instrument in (call.product.instruments.values() if chosen is None else chosen)]
    return rows[0] if "symbol" in call.query else rows


def _futures(call: Call) -> Futures:
    if not isinstance(call.product, Futures):
        raise TypeError("only contracts have a premium")
    return call.product


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


def _by_symbols(query: Query) -> int:
    """Of spot's statistics of a day: by how many symbols were asked for."""
    if "symbol" in query:
        return 2
    asked = query["symbols"].count(",") + 1 if "symbols" in query else MOST_CHEAP_SYMBOLS + 1
    return 2 if asked <= FEW_SYMBOLS else 40 if asked <= MOST_CHEAP_SYMBOLS else 80


def _by_symbol(one: int, every: int) -> Callable[[Query], int]:
    return lambda query: one if "symbol" in query else every


SPOT_ENDPOINTS: Mapping[str, Endpoint] = {
    "/api/v3/ping": Endpoint(ping, _flat(1)),
    "/api/v3/time": Endpoint(server_time, _flat(1)),
    "/api/v3/exchangeInfo": Endpoint(spot_exchange_info, _flat(20)),
    "/api/v3/depth": Endpoint(depth, _by_limit(SPOT_DEPTH_WEIGHTS, DEPTH_DEFAULT[Spot.NAME])),
    "/api/v3/klines": Endpoint(candles, _flat(2)),
    "/api/v3/ticker/bookTicker": Endpoint(book_ticker, _by_symbol(2, 4)),
    "/api/v3/uiKlines": Endpoint(candles, _flat(2)),
    "/api/v3/ticker/24hr": Endpoint(day, _by_symbols),
    "/api/v3/ticker/price": Endpoint(price, _by_symbol(2, 4)),
    "/api/v3/avgPrice": Endpoint(average, _flat(2)),
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
    "/fapi/v1/ticker/24hr": Endpoint(day, _by_symbol(1, 40)),
    "/fapi/v1/ticker/price": Endpoint(price, _by_symbol(1, 2)),
    "/fapi/v2/ticker/price": Endpoint(price, _by_symbol(1, 2)),
    "/fapi/v1/premiumIndex": Endpoint(premium_index, _by_symbol(1, 10)),
    "/fapi/v1/fundingRate": Endpoint(funding_history, _flat(1)),
    "/fapi/v1/fundingInfo": Endpoint(funding_info, _flat(1)),
    "/fapi/v1/openInterest": Endpoint(open_interest, _flat(1)),
    "/fapi/v1/aggTrades": Endpoint(aggregate_trades, _flat(20)),
    "/fapi/v1/trades": Endpoint(trades, _flat(5)),
}
