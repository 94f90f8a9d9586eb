"""Public endpoints: ``/v5/market/*``. Those about funding, open interest and limits are in ``rest_statistics``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trading.simulator import rest_statistics
from trading.simulator.candles import INTERVALS
from trading.simulator.errors import parameter_error
from trading.simulator.funding import funding_interval_ms
from trading.simulator.markets import Market
from trading.simulator.premium import PremiumIndex
from trading.simulator.publisher import BookStream
from trading.simulator.rest_parameters import Query, any_market, linear_market, number, period, require_linear
from trading.simulator.topics import address
from trading.simulator.venue import Venue

STATUSES = ("PreLaunch", "Trading", "Delivering", "Closed")
# Fields of a ticker that only futures with a delivery or contracts before their listing fill.
UNUSED_TICKER_FIELDS = {
    "predictedDeliveryPrice": "",
    "basisRate": "",
    "basisRateYear": "",
    "basis": "",
    "deliveryFeeRate": "",
    "deliveryTime": "0",
    "preOpenPrice": "",
    "preQty": "",
    "curPreListingPhase": "",
}


def server_time(venue: Venue, query: Query) -> dict[str, Any]:
    nanoseconds = venue.clock() * 1_000_000
    return {"timeSecond": str(nanoseconds // 1_000_000_000), "timeNano": str(nanoseconds)}


def instruments_info(venue: Venue, query: Query) -> dict[str, Any]:
    """What is listed; spot unpaged."""
    if query.get("category") == "spot":
        rows = [market.listing for market in venue.exchange.spot.values()]
        if venue.player is not None:
            rows += venue.player.listings("spot").values()
        return {"category": "spot", "list": _filtered(rows, query)}
    require_linear(query)
    limit = number(query, "limit", 500, 1_000)
    rows = [market.listing for market in venue.exchange.markets.values()]
    if query.get("symbol"):
        rows = [venue.exchange.market(query["symbol"]).listing]
    rows = _filtered(rows, query)
    first = _first_of_page(rows, query.get("cursor") or "")
    page = rows[first : first + limit]
    following = page[-1]["symbol"] if first + limit < len(rows) else ""
    return {"category": "linear", "list": page, "nextPageCursor": following}


def orderbook(venue: Venue, query: Query) -> dict[str, Any]:
    market = any_market(venue, query)
    limit = number(query, "limit", 1 if market.category == "spot" else 25, 1_000)
    prices, quantities = market.grids.prices, market.grids.quantities

    def rows(levels: dict[int, int]) -> list[list[str]]:
        return [[prices.text(tick), quantities.text(lots)] for tick, lots in levels.items()]

    now = venue.clock()
    stream = _caught_up(venue, market, now)
    update_id = stream.update_id if stream is not None else 0
    return {
        "s": market.symbol,
        "b": rows(market.book.bids.top(limit)),
        "a": rows(market.book.asks.top(limit)),
        "ts": now,
        "u": update_id,
        "seq": stream.sequence if stream is not None else market.sequence,
        "cts": now,
    }


def full_orderbook(venue: Venue, query: Query) -> dict[str, Any]:
    """Up to 10,000 levels a side, as ``orderbook.full`` told them last."""
    market, now = any_market(venue, query), venue.clock()
    topic = address(market.category, f"orderbook.full.{market.symbol}")
    stream = venue.full_book(topic)
    if not venue.hub.wanted(topic):
        stream.delta(now)  # nobody heard what happened meanwhile
    return stream.book(now)


def recent_trades(venue: Venue, query: Query) -> dict[str, Any]:
    market = any_market(venue, query)
    spot = market.category == "spot"
    limit = number(query, "limit", 60 if spot else 500, 60 if spot else 1_000)
    return {"category": market.category, "list": venue.trades[address(market.category, market.symbol)].rows(limit)}


def kline(venue: Venue, query: Query) -> dict[str, Any]:
    return _candles(venue, query)


def price_kline(venue: Venue, query: Query) -> dict[str, Any]:
    """Of the mark or the index price, without volumes. Both follow what is traded, so the bars are the trades' own."""
    answer = _candles(venue, query)
    return {**answer, "list": [row[:5] for row in answer["list"]]}


def premium_index_kline(venue: Venue, query: Query) -> dict[str, Any]:
    """Fractions of the index price with six decimals, without volumes."""
    market = linear_market(venue, query, "linear")
    interval, limit, start, end = _chart(query)
    rows = PremiumIndex(market, venue.seed).rows(interval, limit, start, end, venue.clock())
    return {"symbol": market.symbol, "category": "linear", "list": rows}


def tickers(venue: Venue, query: Query) -> dict[str, Any]:
    if query.get("category") == "spot":
        chosen = [any_market(venue, query)] if query.get("symbol") else list(venue.exchange.spot.values())
        return {"category": "spot", "list": [_spot_ticker(venue, market) for market in chosen]}
    require_linear(query)
    markets = list(venue.exchange.markets.values())
    if query.get("symbol"):
        markets = [venue.exchange.market(query["symbol"])]
    now = venue.clock()
    return {"category": "linear", "list": [_ticker(venue, market, now) for market in markets]}


def system_state(venue: Venue, query: Query) -> dict[str, Any]:
    """Announced maintenance, newest first."""
    return {"list": venue.system.rows(query.get("id") or "", query.get("state") or "")}


def _filtered(rows: list[dict[str, Any]], query: Query) -> list[dict[str, Any]]:
    # What is not asked for by its status is asked for as trading.
    status = query.get("status") or "Trading"
    if status not in STATUSES:
        raise parameter_error(f"params error: status invalid {status}")
    wanted = {"status": status, "baseCoin": query.get("baseCoin"), "symbol": query.get("symbol")}
    return [row for row in rows if all(not value or row[name] == value for name, value in wanted.items())]


def _first_of_page(rows: list[dict[str, Any]], cursor: str) -> int:
    """A cursor is the symbol that the page before ended with."""
    if not cursor:
        return 0
    symbols = [row["symbol"] for row in rows]
    if cursor not in symbols:
        raise parameter_error("params error: cursor invalid")
    return symbols.index(cursor) + 1


def _caught_up(venue: Venue, market: Market, now: int) -> BookStream | None:
    """The 1000-level stream, whose update id REST tells, brought to the book of this moment: the same id is never
    two different books."""
    topic = address(market.category, f"orderbook.1000.{market.symbol}")
    if venue.player is not None and topic in venue.player.book_topics:
        return None
    stream = venue.book_stream(topic)
    message = stream.delta(now) if stream is not None else None
    if message is not None:
        venue.hub.publish(topic, message)
    return stream


def _candles(venue: Venue, query: Query) -> dict[str, Any]:
    """Newest first. From a start without an end it is the oldest ones that are told, else the newest."""
    market = any_market(venue, query, "linear")
    rows = venue.candles[address(market.category, market.symbol)].rows(*_chart(query))
    return {"symbol": market.symbol, "category": market.category, "list": rows}


def _chart(query: Query) -> tuple[str, int, int | None, int | None]:
    """Interval, limit, from and to."""
    interval = query.get("interval") or ""
    if interval not in INTERVALS:
        raise parameter_error("Invalid period!")
    return interval, number(query, "limit", 200, 1_000), *period(query, "start", "end")


def _ticker(venue: Venue, market: Market, now: int) -> dict[str, str]:
    values = venue.tickers[market.symbol].values(now)
    hours = funding_interval_ms(market) // rest_statistics.HOUR_MS
    cap = market.listing.get("upperFundingRate") or ""
    return {**values, **UNUSED_TICKER_FIELDS, "fundingIntervalHour": str(hours), "fundingCap": cap}


def _spot_ticker(venue: Venue, market: Market) -> dict[str, str]:
    values = venue.notices.spot_tickers[market.symbol].values()
    prices, quantities = market.grids.prices, market.grids.quantities
    sides = {}
    for name, side in (("bid1", market.book.bids), ("ask1", market.book.asks)):
        best = side.best
        sides[f"{name}Price"] = prices.text(best) if best is not None else ""
        sides[f"{name}Size"] = quantities.text(side.lots_at(best)) if best is not None else ""
    return {**values, **sides}


ENDPOINTS: dict[str, Callable[[Venue, Query], dict[str, Any]]] = {
    "/v5/market/time": server_time,
    "/v5/system/status": system_state,
    "/v5/market/instruments-info": instruments_info,
    "/v5/market/orderbook": orderbook,
    "/v5/market/full_orderbook": full_orderbook,
    "/v5/market/recent-trade": recent_trades,
    "/v5/market/kline": kline,
    "/v5/market/mark-price-kline": price_kline,
    "/v5/market/index-price-kline": price_kline,
    "/v5/market/premium-index-price-kline": premium_index_kline,
    "/v5/market/tickers": tickers,
    **rest_statistics.ENDPOINTS,
}
