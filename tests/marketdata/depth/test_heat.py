"""The heatmap: rows of a book are exact, come back to the last digit from however they are kept, and make a picture."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from django.core.cache import cache
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from marketdata.depth import heat_packing, selectors, services
from marketdata.depth.heat import HeatError, HeatRows, HeatSide, heat_map, heat_rows, row_step
from marketdata.depth.journal import HeatLines
from marketdata.depth.models import DepthHeatHour, DepthHeatMinute
from marketdata.depth.packing import PackError
from marketdata.depth.snapshots import DAY, HOUR, MINUTE, Market, minute_of
from tests import builders
from tests.marketdata.depth.volumes import NOON, book_of, heat_minute

NOW = datetime.fromtimestamp(NOON, tz=UTC)

LEVELS = st.dictionaries(st.integers(1, 4_000), st.integers(1, 10**9), min_size=1, max_size=60)


def coins(rows: HeatRows) -> list[dict[int, Decimal]]:
    """Volume of each side by row, empty rows left out."""
    return [
        {
            side.first + at: Decimal(volume).scaleb(rows.exponent)
            for at, volume in enumerate(side.volumes.tolist())
            if volume
        }
        for side in (rows.bids, rows.asks)
    ]


@settings(max_examples=60, deadline=None)
@given(bids=LEVELS, asks=LEVELS, best=st.integers(4_001, 10**7), tick=st.sampled_from(["0.1", "0.025", "5", "1e-8"]))
def test_rows_equal_a_count_in_decimals(bids: dict[int, int], asks: dict[int, int], best: int, tick: str) -> None:
    size, lot = Decimal(tick), Decimal("0.00002")
    below = {f"{(best - away) * size:f}": f"{lots * lot:f}" for away, lots in sorted(bids.items())}
    above = {f"{(best + away) * size:f}": f"{lots * lot:f}" for away, lots in sorted(asks.items())}
    rows = heat_rows(book_of(below, above, tick, "0.00002"))
    found: list[dict[int, Decimal]] = []
    for side, edge, is_bid in ((below, Decimal("0.95"), True), (above, Decimal("1.05"), False)):
        furthest = int(Decimal(next(iter(side))) * edge // rows.step)
        by_row: dict[int, Decimal] = {}
        for price, quantity in side.items():
            row = int(Decimal(price) // rows.step)
            if row >= furthest if is_bid else row <= furthest:
                by_row[row] = by_row.get(row, Decimal(0)) + Decimal(quantity)
        found.append(by_row)
    assert coins(rows) == found
    assert rows.bids.first + len(rows.bids.volumes) - 1 == int(Decimal(next(iter(below))) // rows.step)
    assert heat_packing.unpack(heat_packing.pack([(59, rows)]))[0][0] == 59


@settings(max_examples=100, deadline=None)
@given(price=st.integers(1, 10**9), places=st.integers(-12, 3), before=st.integers(-12, 6))
def test_a_step_gives_some_two_hundred_rows_and_each_fits_every_larger_one(
    price: int, places: int, before: int
) -> None:
    at, tick = Decimal(price).scaleb(places), Decimal("1e-18")
    step = row_step(at, tick)
    assert 200 / 2.3 <= at / 10 / step <= 200 * 2.3
    for kept in (Decimal(1).scaleb(before), Decimal(5).scaleb(before)):
        larger, smaller = max(step, kept), min(step, kept)
        assert larger % smaller == 0
        assert row_step(at, tick, kept) in (kept, step)
        assert row_step(at, tick, step) == step
    assert row_step(at, at / 10) >= at / 10  # never finer than a tick


@settings(max_examples=60, deadline=None)
@given(price=st.integers(10_000, 10**8), spread=st.integers(1, 20), levels=st.integers(40, 200))
def test_a_book_that_shows_little_has_rows_of_its_own_size(price: int, spread: int, levels: int) -> None:
    bids = {f"{Decimal(price - away) / 10}": "1" for away in range(levels)}
    asks = {f"{Decimal(price + spread + away) / 10}": "2" for away in range(levels)}
    book = book_of(bids, asks)
    rows = heat_rows(book)
    assert len(rows.bids.volumes) + len(rows.asks.volumes) >= min(2 * levels, 80) / 2.5
    assert rows.step >= Decimal("0.1")
    # Asked for again with that step, as each minute does, it stays.
    assert heat_rows(book, rows.step).step == rows.step


def test_rows_go_as_far_as_there_are_levels_and_say_how_far_those_are_all() -> None:
    bids, asks = {"100": "1", "99": "2", "98": "4"}, {"101": "1", "102": "2", "150": "4"}
    rows = heat_rows(book_of(bids, asks, reach=(Decimal("98.95"), Decimal(10) ** 30)))
    assert rows.step == Decimal("0.1") and rows.bids.first == 980 and len(rows.bids.volumes) == 21
    # The row of 98.9 is known in part.
    assert (rows.bids.edge, rows.bids.volumes.sum()) == (990, 7_000)
    # Of asks all is known: rows go on to 5 %.
    assert len(rows.asks.volumes) == 1060 - 1010 + 1 and rows.asks.volumes.sum() == 3_000
    assert rows.asks.edge == 1061
    near = heat_rows(book_of(bids, asks, reach=(Decimal(97), Decimal("101.25"))))
    # A level that was known and is gone: nothing rests there, and that is known.
    assert (near.bids.first, near.bids.edge, near.asks.edge) == (970, 970, 1012)
    assert len(near.asks.volumes) == 51
    nothing = heat_rows(book_of({"100": "1"}, {"100.1": "1"}, reach=(Decimal(100), Decimal("100.1"))))
    assert (nothing.bids.edge, nothing.asks.edge) == (1000, 1001)
    for broken in (book_of({}, asks), book_of({"100": "9e14"}, asks, lot="1e-4")):
        with pytest.raises(HeatError):
            heat_rows(broken)


SIDES = st.builds(
    HeatSide,
    st.integers(0, 2**40),
    st.lists(st.integers(0, 2**61), min_size=1, max_size=12).map(lambda each: np.array(each, dtype=np.int64)),
    st.integers(0, 2**41),
)
STEPS = st.sampled_from([Decimal("0.1"), Decimal("0.5"), Decimal("5E+2"), Decimal("1E-9")])
HOURS = st.dictionaries(st.integers(0, 59), st.builds(HeatRows, STEPS, st.integers(-12, 2), SIDES, SIDES), max_size=20)


def plain(rows: HeatRows) -> Any:
    sides = [(side.first, side.edge, side.volumes.tolist()) for side in (rows.bids, rows.asks)]
    return rows.step, rows.exponent, sides


@settings(max_examples=60, deadline=None)
@given(hour=HOURS)
def test_an_hour_comes_back_from_its_pack_to_the_last_digit(hour: dict[int, HeatRows]) -> None:
    # Sides that begin far from each other make no matrix of a book: they are of different prices' books.
    near = {
        minute: HeatRows(
            rows.step,
            rows.exponent,
            HeatSide(rows.bids.first % 50, rows.bids.volumes, rows.bids.edge),
            HeatSide(2**40 + rows.asks.first % 50, rows.asks.volumes, rows.asks.edge),
        )
        for minute, rows in hour.items()
    }
    found = heat_packing.unpack(heat_packing.pack(list(near.items())))
    assert [(minute, plain(rows)) for minute, rows in found] == [(at, plain(near[at])) for at in sorted(near)]


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 200), change=st.integers(1, 255))
def test_a_damaged_pack_is_refused_or_means_the_same(at: int, change: int) -> None:
    body = bytearray(heat_minute().body)
    whole = heat_packing.unpack(bytes(body))
    body[at % len(body)] ^= change
    # Some bits of the header mean nothing.
    with suppress(PackError):
        assert [plain(rows) for _, rows in heat_packing.unpack(bytes(body))] == [plain(rows) for _, rows in whole]
    with pytest.raises(PackError):
        heat_packing.unpack(bytes(body[: at % len(body)]))


def test_a_journals_line_is_a_minute() -> None:
    form = HeatLines()
    assert form.item(form.text(heat_minute())) == heat_minute()


def picture(minutes: list[tuple[int, HeatRows]], rows: int = 200, columns: int = 720) -> Any:
    return heat_map(minutes, minutes[0][0], minutes[-1][0], rows, columns)


def test_minutes_are_columns_and_prices_are_rows() -> None:
    first = heat_rows(book_of({"100": "1", "99.9": "2"}, {"100.2": "4"}, reach=(Decimal(100), Decimal("100.3"))))
    second = heat_rows(book_of({"100.1": "3"}, {"100.2": "5"}, reach=(Decimal("100.1"), Decimal("100.2"))))
    found = picture([(NOON, first), (NOON + 2 * MINUTE, second)])
    assert found.times == [NOON, NOON + 2 * MINUTE] and found.seconds == MINUTE
    assert found.known == [(Decimal(100), Decimal("100.3")), (Decimal("100.1"), Decimal("100.2"))]
    assert found.prices == [Decimal(text) for text in ("99.9", "100.0", "100.1", "100.2", "100.3")]
    nan = float("nan")
    np.testing.assert_equal(found.bids, [[2, 1, nan, nan, nan], [nan, nan, 3, nan, nan]])
    np.testing.assert_equal(found.asks, [[nan, nan, nan, 4, 0], [nan, nan, nan, 5, nan]])


def test_steps_that_differ_and_limits_that_bind_make_coarser_rows_and_longer_columns() -> None:
    fine = heat_rows(book_of({"100": "1", "99.9": "2", "99.5": "4"}, {"100.2": "8"}))
    coarse = heat_rows(book_of({"100": "1", "99.9": "2", "99.5": "4"}, {"100.2": "8"}), before=Decimal("0.5"))
    # Kept although it is too coarse by now; it would not be chosen anew.
    assert coarse.step == Decimal("0.1") and fine.step == Decimal("0.1")
    coarse = heat_rows(book_of({"100": "1", "99.9": "2", "99.5": "4"}, {"100.2": "8"}, tick="0.5"))
    assert coarse.step == Decimal("0.5")
    both = picture([(NOON, fine), (NOON + MINUTE, coarse)])
    assert both.step == Decimal("0.5")
    np.testing.assert_equal(both.bids[0][np.isfinite(both.bids[0])], both.bids[1][np.isfinite(both.bids[1])])
    start = NOON - NOON % HOUR
    many = [(start + number * MINUTE, fine) for number in range(100)]
    small = picture(many, rows=7, columns=9)
    assert small.bids.shape[1] <= 7 and len(small.times) <= 9 and small.seconds == 12 * MINUTE
    # The mean of equal minutes is each of them, and rows that are summed lose nothing.
    assert np.nansum(small.bids, axis=1).tolist() == [7.0] * len(small.times)
    assert np.nansum(small.asks, axis=1).tolist() == [8.0] * len(small.times)
    assert heat_map([], start, start + HOUR, 200, 720) is None


def test_a_column_is_the_mean_of_the_minutes_in_which_a_row_was_known() -> None:
    near = heat_rows(book_of({"100": "2"}, {"100.1": "1"}, reach=(Decimal(100), Decimal("100.1"))))
    far = heat_rows(book_of({"100": "4", "99.9": "7"}, {"100.1": "1"}, reach=(Decimal("99.9"), Decimal("100.1"))))
    start = NOON - NOON % HOUR
    found = heat_map([(start, near), (start + MINUTE, far)], start, start + MINUTE, 200, 1)
    assert found is not None and found.bids[0].tolist()[:2] == [7.0, 3.0]
    assert found.known == [(Decimal(100), Decimal("100.1"))]


def stored(start: int = 0, end: int = 2**33, symbol: str = "BTCUSDT", market: Market = Market.SPOT) -> Any:
    moments = datetime.fromtimestamp(start, tz=UTC), datetime.fromtimestamp(end, tz=UTC)
    return [(minute, plain(rows)) for minute, rows in selectors.heat_minutes(symbol, market, *moments)]


def bids_of(rows: Any) -> list[tuple[int, float]]:
    return [(minute, sum(sides[0][2]) * 10.0**exponent) for minute, (_, exponent, sides) in rows]


@pytest.mark.django_db
def test_minutes_are_kept_once_packed_by_hours_and_read_as_before() -> None:
    rows = [heat_minute(NOON + number * MINUTE, bid=f"{number + 1}") for number in range(90)]
    now = NOW + timedelta(hours=2)
    assert services.heat_minutes_store(rows, now=now) == 90
    assert services.heat_minutes_store([heat_minute(bid="5"), heat_minute(market=Market.FUTURES)], now=now) == 1
    before = stored()
    assert bids_of(before) == [(NOON + number * MINUTE, number + 1) for number in range(90)]
    # An hour that is not over, or just so, is left alone: minutes may be on their way.
    assert services.heat_hours_pack(now=NOW + timedelta(minutes=64)) == 0
    assert services.heat_hours_pack(now=NOW + timedelta(minutes=66)) == 61
    assert DepthHeatHour.objects.count() == 2 and DepthHeatMinute.objects.count() == 30
    assert stored() == before and stored(market=Market.FUTURES) == stored(NOON, NOON, market=Market.FUTURES)
    assert stored(NOON + 5 * MINUTE, NOON + 70 * MINUTE) == before[5:71]
    # What comes late joins its hour; what is there already stays.
    late = heat_minute(NOON + 3 * MINUTE, bid="99")
    services.heat_minutes_store([late, heat_minute(NOON, bid="77", symbol="ETHUSDT")], now=now)
    assert stored() == before
    assert services.heat_hours_pack(now=now + timedelta(hours=1)) == 32
    assert stored() == before and bids_of(stored(symbol="ETHUSDT")) == [(NOON, 77.0)]
    assert DepthHeatMinute.objects.count() == 0


@pytest.mark.django_db
def test_rows_are_kept_for_fourteen_days() -> None:
    services.heat_minutes_store([heat_minute(), heat_minute(NOON - DAY)], now=NOW)
    services.heat_hours_pack(now=NOW + timedelta(hours=2))
    services.heat_minutes_store([heat_minute(symbol="ETHUSDT")], now=NOW)
    assert services.heat_prune(now=NOW + timedelta(days=14)) == 1
    assert len(stored()) == 1 and len(stored(symbol="ETHUSDT")) == 1
    services.heat_prune(now=NOW + timedelta(days=14, hours=2))
    assert stored() == [] and stored(symbol="ETHUSDT") == []
    too_old, ahead = heat_minute(NOON - 15 * DAY), heat_minute(NOON + HOUR)
    assert services.heat_minutes_store([too_old, ahead], now=NOW) == 0


@pytest.fixture
def alice(db: None) -> Iterator[APIClient]:
    cache.clear()
    client = APIClient()
    client.force_authenticate(builders.user("alice"))
    yield client
    cache.clear()


def test_the_heatmap_is_asked_for_by_symbol_and_time(alice: APIClient) -> None:
    services.collector_symbols_add(symbols=["BTCUSDT"], source="stream", actor="test")
    empty = alice.get("/api/v1/analytics/heatmap?symbol=BTCUSDT").json()
    assert (empty["times"], empty["bids"], empty["step"]) == ([], [], None)
    cache.clear()
    now = minute_of(time.time())
    services.heat_minutes_store(heat_minute(now - number * MINUTE, bid="1234.567") for number in range(30))
    answer = alice.get(f"/api/v1/analytics/heatmap?symbol=BTCUSDT&from={now - 9 * MINUTE}&to={now}")
    body = answer.json()
    assert answer["Content-Type"] == "application/json" and answer["X-RateLimit-Remaining"]
    assert (body["symbol"], body["marketType"], body["interval"], body["step"]) == ("BTCUSDT", "SPOT", MINUTE, 0.1)
    assert body["times"] == [now - number * MINUTE for number in range(9, -1, -1)]
    at = body["prices"].index(100.0)
    # Five digits are enough for a picture; a side has nothing beyond the other's prices.
    assert body["bids"][0][at] == 1234.6 and body["asks"][0][at] is None
    assert body["known"][0] == [95.0, 106.1]
    assert len(body["prices"]) == len(body["bids"][0]) == len(body["asks"][9]) <= 200
    few = alice.get("/api/v1/analytics/heatmap?symbol=BTCUSDT&rows=10").json()
    assert len(few["prices"]) <= 10 and len(few["times"]) == 30
    week = alice.get(f"/api/v1/analytics/heatmap?symbol=BTCUSDT&from={now - 13 * DAY}").json()
    assert week["interval"] == 27 * MINUTE and 1 <= len(week["times"]) <= 3
    for wrong in ("rows=201", "rows=0", "marketType=MARS", f"from={now - 15 * DAY}"):
        assert alice.get(f"/api/v1/analytics/heatmap?symbol=BTCUSDT&{wrong}").status_code == 400, wrong
    assert alice.get("/api/v1/analytics/heatmap?symbol=NOSUCHUSDT").status_code == 404
    assert APIClient().get("/api/v1/analytics/heatmap?symbol=BTCUSDT").status_code in (401, 403)
