"""Public endpoints: ``/v5/market/*``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from trading.simulator.candles import INTERVAL_MINUTES
from trading.simulator.errors import parameter_error
from trading.simulator.venue import Venue, now_ms

Query = Mapping[str, str]


def server_time(venue: Venue, query: Query) -> dict[str, Any]:
    nanoseconds = time.time_ns()
    return {"timeSecond": str(nanoseconds // 1_000_000_000), "timeNano": str(nanoseconds)}


def instruments_info(venue: Venue, query: Query) -> dict[str, Any]:
    category = query.get("category", "linear")
    if category == "spot":
        rows = list(venue.player.listings("spot").values()) if venue.player is not None else []
        return {"category": "spot", "list": rows}
    if category != "linear":
        raise parameter_error("params error: category invalid")
    rows = [market.listing for market in venue.exchange.markets.values()]
    if query.get("symbol"):
        rows = [venue.exchange.market(query["symbol"]).listing]
    return {"category": "linear", "list": rows, "nextPageCursor": ""}


def orderbook(venue: Venue, query: Query) -> dict[str, Any]:
    market = venue.exchange.market(query.get("symbol", ""))
    limit = number(query, "limit", 25, 1000)
    prices, quantities = market.grids.prices, market.grids.quantities

    def rows(levels: dict[int, int]) -> list[list[str]]:
        return [[prices.text(tick), quantities.text(lots)] for tick, lots in levels.items()]

    stream = venue.book_stream(f"orderbook.1000.{market.symbol}")
    now = now_ms()
    return {
        "s": market.symbol,
        "b": rows(market.book.bids.top(limit)),
        "a": rows(market.book.asks.top(limit)),
        "ts": now,
        "u": stream.update_id if stream is not None else 0,
        "seq": market.sequence,
        "cts": now,
    }


def recent_trades(venue: Venue, query: Query) -> dict[str, Any]:
    market = venue.exchange.market(query.get("symbol", ""))
    return {"category": "linear", "list": venue.trades[market.symbol].rows(number(query, "limit", 500, 1000))}


def kline(venue: Venue, query: Query) -> dict[str, Any]:
    market = venue.exchange.market(query.get("symbol", ""))
    interval = query.get("interval", "")
    if interval not in INTERVAL_MINUTES:
        raise parameter_error("Invalid period!")
    start = int(query["start"]) if query.get("start", "").isdigit() else None
    end = int(query["end"]) if query.get("end", "").isdigit() else None
    rows = venue.candles[market.symbol].rows(interval, number(query, "limit", 200, 1000), start, end)
    return {"category": "linear", "symbol": market.symbol, "list": rows}


def tickers(venue: Venue, query: Query) -> dict[str, Any]:
    symbols = [query["symbol"]] if query.get("symbol") else list(venue.exchange.markets)
    now = now_ms()
    rows = [venue.tickers[venue.exchange.market(symbol).symbol].values(now) for symbol in symbols]
    return {"category": "linear", "list": rows}


def number(query: Mapping[str, Any], name: str, default: int, largest: int) -> int:
    """A count between 1 and the endpoint's largest; Bybit refuses what is outside."""
    text = str(query.get(name) or default)
    if not text.isdigit() or not 1 <= int(text) <= largest:
        raise parameter_error(f"params error: {name} must be 1 to {largest}")
    return int(text)


ENDPOINTS: dict[str, Callable[[Venue, Query], dict[str, Any]]] = {
    "/v5/market/time": server_time,
    "/v5/market/instruments-info": instruments_info,
    "/v5/market/orderbook": orderbook,
    "/v5/market/recent-trade": recent_trades,
    "/v5/market/kline": kline,
    "/v5/market/tickers": tickers,
}
