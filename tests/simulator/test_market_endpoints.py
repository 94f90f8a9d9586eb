"""The public endpoints: filters, pages, limits and refusals; they agree with the market and with themselves."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from trading.simulator.errors import ApiError
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.rest_market import ENDPOINTS
from trading.simulator.venue import Venue

LINEAR = {"category": "linear", "symbol": "ETHUSDT"}
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def venue() -> Venue:
    return Venue(DEMO_KEYS, symbols=5)


def ask(venue: Venue, name: str, **query: Any) -> dict[str, Any]:
    return ENDPOINTS[f"/v5/market/{name}"](venue, {key: str(value) for key, value in query.items()})


def test_instruments_come_in_pages_and_by_filter(venue: Venue) -> None:
    found, cursor = [], ""
    for size in (2, 2, 1):
        page = ask(venue, "instruments-info", category="linear", limit=2, cursor=cursor)
        assert len(page["list"]) == size
        found += [row["symbol"] for row in page["list"]]
        cursor = page["nextPageCursor"]
    assert found == list(venue.exchange.markets) and cursor == ""
    assert ask(venue, "instruments-info", category="linear", baseCoin="SOL")["list"][0]["symbol"] == "SOLUSDT"
    assert ask(venue, "instruments-info", category="linear", status="PreLaunch")["list"] == []
    ids = [row["symbolId"] for row in ask(venue, "instruments-info", category="linear")["list"]]
    assert ids == [1, 2, 3, 4, 5]


def test_funding_of_the_past_is_the_same_for_the_same_seed(venue: Venue) -> None:
    rows = ask(venue, "funding/history", **LINEAR)["list"]
    assert len(rows) == 200
    times = [int(row["fundingRateTimestamp"]) for row in rows]
    assert all(later - earlier == 8 * HOUR_MS for later, earlier in pairwise(times))
    assert len({row["fundingRate"] for row in rows}) > 50
    again = Venue(DEMO_KEYS, symbols=5)
    period = {"startTime": times[3], "endTime": times[1]}
    assert ask(again, "funding/history", **LINEAR, **period)["list"] == rows[1:4]
    other = Venue(DEMO_KEYS, symbols=5, seed=8)
    assert ask(other, "funding/history", **LINEAR, **period)["list"] != rows[1:4]


@pytest.mark.parametrize(
    ("name", "word"), [("open-interest", {"intervalTime": "4h"}), ("account-ratio", {"period": "4h"})]
)
def test_pages_of_a_statistic_join_without_a_hole(venue: Venue, name: str, word: dict[str, str]) -> None:
    whole = ask(venue, name, **LINEAR, **word, limit=30)["list"]
    first = ask(venue, name, **LINEAR, **word, limit=10)
    second = ask(venue, name, **LINEAR, **word, limit=20, cursor=first["nextPageCursor"])
    assert first["list"] + second["list"] == whole
    times = [int(row["timestamp"]) for row in whole]
    assert all(later - earlier == 4 * HOUR_MS for later, earlier in pairwise(times))


def test_open_interest_is_that_of_the_ticker(venue: Venue) -> None:
    told = float(ask(venue, "open-interest", **LINEAR, intervalTime="5min", limit=1)["list"][0]["openInterest"])
    ticker = ask(venue, "tickers", **LINEAR)["list"][0]
    assert told == pytest.approx(float(ticker["openInterest"]), rel=0.02)


def test_candles_from_a_start_are_the_oldest_ones_and_else_the_newest(venue: Venue) -> None:
    whole = ask(venue, "kline", **LINEAR, interval="60", limit=50)["list"]
    assert len(whole) == 50
    start, end = int(whole[40][0]), int(whole[30][0])
    assert ask(venue, "kline", **LINEAR, interval="60", start=start, limit=5)["list"] == whole[36:41]
    assert ask(venue, "kline", **LINEAR, interval="60", start=start - 1, limit=5)["list"] == whole[36:41]
    assert ask(venue, "kline", **LINEAR, interval="60", end=end, limit=5)["list"] == whole[30:35]
    assert ask(venue, "kline", **LINEAR, interval="60", start=start, end=end)["list"] == whole[30:41]
    mark = ask(venue, "mark-price-kline", **LINEAR, interval="60", start=start, end=end)["list"]
    assert mark == [row[:5] for row in whole[30:41]]


def test_the_premium_index_explains_the_funding_rate_and_every_interval_agrees(venue: Venue) -> None:
    rates = ask(venue, "funding/history", **LINEAR, limit=30)["list"]
    for row in rates:
        paid = int(row["fundingRateTimestamp"])
        period = {"start": paid - 8 * HOUR_MS, "end": paid - HOUR_MS}
        hours = ask(venue, "premium-index-price-kline", **LINEAR, interval="60", **period)["list"]
        premium = sum(float(hour[1]) for hour in hours) / len(hours)
        rate = premium + min(0.0005, max(-0.0005, 0.0001 - premium))
        assert len(hours) == 8 and rate == pytest.approx(float(row["fundingRate"]), abs=4e-5)
    days = ask(venue, "premium-index-price-kline", **LINEAR, interval="D", limit=3)["list"]
    for day in days[1:]:
        within = {"start": day[0], "end": int(day[0]) + 24 * HOUR_MS - 1}
        for interval in ("1", "15", "240"):
            parts = [
                row
                for half in (within, {**within, "end": int(day[0]) + 12 * HOUR_MS - 1})
                for row in ask(venue, "premium-index-price-kline", **LINEAR, interval=interval, limit=1_000, **half)[
                    "list"
                ]
            ]
            assert max(float(part[2]) for part in parts) == float(day[2])
            assert min(float(part[3]) for part in parts) == float(day[3])
            assert parts[0][4] == day[4]


def test_the_price_limit_surrounds_the_mark_price_on_the_grid(venue: Venue) -> None:
    market = venue.exchange.market("ETHUSDT")
    limit = ask(venue, "price-limit", symbol="ETHUSDT")
    low, high = (market.grids.prices.units(limit[name]) for name in ("sellLmt", "buyLmt"))
    mark = float(market.mark_price / market.rules.tick_size)
    assert low / mark == pytest.approx(0.95, abs=1e-4) and high / mark == pytest.approx(1.05, abs=1e-4)


def test_an_update_id_is_never_two_different_books(venue: Venue) -> None:
    books: dict[int, Any] = {}
    for step in range(60):
        venue.tick(venue.started_ms + 20 * step)
        book = ask(venue, "orderbook", **LINEAR, limit=1000)
        assert books.setdefault(book["u"], (book["b"], book["a"])) == (book["b"], book["a"])
    assert len(books) > 5 and len(ask(venue, "orderbook", **LINEAR)["b"]) == 25


@pytest.mark.parametrize(
    ("name", "query", "sentence"),
    [
        ("tickers", {"category": "linear", "symbol": "NOPE"}, "params error: symbol invalid NOPE"),
        ("tickers", {}, "params error: category invalid"),
        ("tickers", {"category": "swap"}, "params error: category invalid swap"),
        ("orderbook", {"category": "option", "symbol": "ETHUSDT"}, "category invalid"),
        ("orderbook", {**LINEAR, "limit": "1001"}, "limit must be 1 to 1000"),
        ("orderbook", {**LINEAR, "limit": "0"}, "limit must be 1 to 1000"),
        ("orderbook", {**LINEAR, "limit": "²"}, "limit must be 1 to 1000"),
        ("recent-trade", {**LINEAR, "limit": "-1"}, "limit must be 1 to 1000"),
        ("kline", {**LINEAR, "interval": "7"}, "Invalid period!"),
        ("kline", {**LINEAR, "interval": "1", "start": "x"}, "start invalid x"),
        ("kline", {**LINEAR, "interval": "1", "start": "2", "end": "1"}, "start must not be after end"),
        ("funding/history", {**LINEAR, "startTime": "1"}, "startTime needs endTime"),
        ("open-interest", {**LINEAR, "intervalTime": "2h"}, "intervalTime invalid 2h"),
        ("account-ratio", LINEAR, "period invalid"),
        ("account-ratio", {**LINEAR, "period": "1h", "cursor": "x"}, "cursor invalid"),
        ("instruments-info", {"category": "linear", "status": "Fog"}, "status invalid Fog"),
        ("instruments-info", {"category": "linear", "cursor": "x"}, "cursor invalid"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    venue: Venue, name: str, query: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ApiError, match=sentence.replace("!", r"\!")) as refused:
        ask(venue, name, **query)
    assert refused.value.code == 10001
