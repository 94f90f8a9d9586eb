"""Public endpoints about a market as a whole: funding, open interest, the crowd's sides, limits, the insurance pool.

Nothing here is stored: a value is a function of the seed, the symbol and its time, so every question about the same
past has the same answer, before and after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from trading.simulator.errors import parameter_error
from trading.simulator.funding import funding_interval_ms, funding_rate, seeded
from trading.simulator.intervals import MINUTE_MS, VOLUME
from trading.simulator.positions import MAINTENANCE_RATE
from trading.simulator.rest_collateral import tiered_collateral
from trading.simulator.rest_parameters import (
    Query,
    choice,
    cursor_of,
    cursor_time,
    linear_market,
    number,
    period,
    require_linear,
)
from trading.simulator.venue import Venue

HOUR_MS = 60 * MINUTE_MS
DAY_MINUTES = 1_440
INTERVALS_MS = {
    "5min": 5 * MINUTE_MS,
    "15min": 15 * MINUTE_MS,
    "30min": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "4h": 4 * HOUR_MS,
    "1d": 24 * HOUR_MS,
}
# Open interest as a share of the volume of 24 hours, as the ticker has it.
OPEN_INTEREST_SHARE = 1 / 4
RISK_LIMIT_VALUE = "2000000"


def funding_history(venue: Venue, query: Query) -> dict[str, Any]:
    """Newest first, at most 200. A start without an end is refused, as documented."""
    market = linear_market(venue, query)
    limit = number(query, "limit", 200, 200)
    start, end = period(query)
    if start is not None and end is None:
        raise parameter_error("params error: startTime needs endTime")
    step = funding_interval_ms(market)
    first = max(start or 0, int(market.listing.get("launchTime") or 0))
    newest = min(venue.clock(), end) if end is not None else venue.clock()
    times = range(newest // step * step, first - 1, -step)
    rows = [
        {
            "symbol": market.symbol,
            "fundingRate": f"{funding_rate(venue.seed, market, time).normalize():f}",
            "fundingRateTimestamp": str(time),
        }
        for time in times[:limit]
    ]
    return {"category": "linear", "list": rows}


def open_interest(venue: Venue, query: Query) -> dict[str, Any]:
    """At the ends of intervals, newest first, from the volume of the 24 hours before each."""
    market = linear_market(venue, query)
    step = choice(query, "intervalTime", INTERVALS_MS)
    first_minute, bars = venue.candles[market.symbol].history()
    total = np.concatenate(([0.0], np.cumsum(bars[:, VOLUME])))
    quantities = market.grids.quantities

    def row(time: int) -> dict[str, str]:
        minute = time // MINUTE_MS - first_minute
        lots = int((total[minute] - total[minute - DAY_MINUTES]) * OPEN_INTEREST_SHARE)
        return {
            "openInterest": quantities.text(lots),
            "singleOpenInterest": quantities.text(lots // 2),
            "timestamp": str(time),
        }

    oldest, newest = (first_minute + DAY_MINUTES) * MINUTE_MS, (first_minute + len(bars)) * MINUTE_MS
    times, following = _page(query, step, oldest, newest, number(query, "limit", 50, 200))
    rows = [row(time) for time in times]
    return {"symbol": market.symbol, "category": "linear", "list": rows, "nextPageCursor": following}


def account_ratio(venue: Venue, query: Query) -> dict[str, Any]:
    """How many accounts are long and short, newest first."""
    market = linear_market(venue, query)
    step = choice(query, "period", INTERVALS_MS)
    launched = int(market.listing.get("launchTime") or 0)
    times, following = _page(query, step, launched, venue.clock(), number(query, "limit", 50, 500))
    rows = []
    for time in times:
        long = round(min(0.9, max(0.1, seeded(venue.seed, market.symbol, "ratio", time).gauss(0.52, 0.04))), 4)
        ratios = {"buyRatio": f"{long:.4f}", "sellRatio": f"{1 - long:.4f}"}
        rows.append({"symbol": market.symbol, **ratios, "timestamp": str(time)})
    return {"list": rows, "nextPageCursor": following}


def price_limit(venue: Venue, query: Query) -> dict[str, Any]:
    """The highest price to buy and the lowest to sell at, around the mark price."""
    market = linear_market(venue, query, "linear")
    highest, lowest = market.price_limits()
    return {"symbol": market.symbol, "buyLmt": highest, "sellLmt": lowest, "ts": str(venue.clock())}


def risk_limit(venue: Venue, query: Query) -> dict[str, Any]:
    """One tier a symbol: the exchange holds every position to the same maintenance rate."""
    require_linear(query)
    markets = list(venue.exchange.markets.values())
    if query.get("symbol"):
        markets = [venue.exchange.market(query["symbol"])]
    rows = [
        {
            "id": 1,
            "symbol": market.symbol,
            "riskLimitValue": RISK_LIMIT_VALUE,
            "maintenanceMargin": f"{MAINTENANCE_RATE:f}",
            "initialMargin": f"{(1 / market.rules.max_leverage).quantize(Decimal('0.0001')).normalize():f}",
            "isLowestRisk": 1,
            "maxLeverage": market.listing["leverageFilter"]["maxLeverage"],
            "mmDeduction": "",
        }
        for market in markets
    ]
    return {"category": "linear", "list": rows}


def insurance(venue: Venue, query: Query) -> dict[str, Any]:
    """One pool for all symbols; what is left of it now."""
    coin = query.get("coin") or "USDT"
    # In the order of symbols, with the time of the day's update, as a pool that symbols share has it.
    day_ms = venue.clock() // (24 * HOUR_MS) * 24 * HOUR_MS
    balance = f"{venue.exchange.ledger.insurance['USDT'].normalize():f}"
    pool = {"coin": "USDT", "symbols": ",".join(venue.exchange.markets), "balance": balance}
    return {
        "updatedTime": str(day_ms),
        "list": [{**pool, "value": balance}] if coin == "USDT" else [],
    }


def _page(query: Query, step: int, oldest: int, newest: int, limit: int) -> tuple[list[int], str]:
    """The times of one page, newest first, and the cursor of the next."""
    start, end = period(query)
    before = cursor_time(query)
    if end is not None:
        newest = min(newest, end)
    if before is not None:
        newest = min(newest, before - 1)
    times = range(newest // step * step, max(oldest, start or 0) - 1, -step)
    page = list(times[:limit])
    return page, cursor_of(page[-1]) if len(times) > limit else ""


ENDPOINTS: Mapping[str, Callable[[Venue, Query], dict[str, Any]]] = {
    "/v5/market/funding/history": funding_history,
    "/v5/market/open-interest": open_interest,
    "/v5/market/account-ratio": account_ratio,
    "/v5/market/price-limit": price_limit,
    "/v5/market/risk-limit": risk_limit,
    "/v5/market/insurance": insurance,
    "/v5/spot-margin-trade/collateral": tiered_collateral,
}
