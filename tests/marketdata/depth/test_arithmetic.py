"""Depth volumes equal an independent count in decimals to the last digit; so do groups, differences and packed days."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.depth.bands import depth_volumes, engine_volumes
from marketdata.depth.book_reading import BookReadingError, read_depth
from marketdata.depth.indicators import correlations, group_volumes, market_difference_percent, rolling_correlations
from marketdata.depth.packing import PackError, pack, unpack, unpack_points
from marketdata.depth.snapshots import DAY, DEPTHS, MINUTE, DepthVolume, difference_percent
from marketdata.feeds.book_replay import Replay
from marketdata.feeds.recorded import HTTP, RECEIVED, read_recording
from tests.marketdata.depth.volumes import volume, walk
from tests.recordings import recording

Levels = list[tuple[Decimal, Decimal]]


def counted(bids: Levels, asks: Levels, bids_end: bool, asks_end: bool) -> list[tuple[Any, ...]]:
    """The specification's sentences, word for word."""
    rows = []
    with localcontext(prec=90):
        best_bid, best_ask = max(price for price, _ in bids), min(price for price, _ in asks)
        for per_mille in DEPTHS:
            percent = Decimal(per_mille) / 10
            lowest, highest = best_bid * (1 - percent / 100), best_ask * (1 + percent / 100)
            inside_bids = [(price, quantity) for price, quantity in bids if price >= lowest]
            inside_asks = [(price, quantity) for price, quantity in asks if price <= highest]
            rows.append(
                (
                    per_mille,
                    sum((quantity for _, quantity in inside_bids), Decimal(0)),
                    sum((quantity for _, quantity in inside_asks), Decimal(0)),
                    sum((price * quantity for price, quantity in inside_bids), Decimal(0)),
                    sum((price * quantity for price, quantity in inside_asks), Decimal(0)),
                    bids_end or min(price for price, _ in bids) <= lowest,
                    asks_end or max(price for price, _ in asks) >= highest,
                )
            )
    return rows


def shown(volumes: list[DepthVolume]) -> list[tuple[Any, ...]]:
    return [(each.depth, *each.volumes, each.bid_covered, each.ask_covered) for each in volumes]


def without_coverage(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [row[:5] for row in rows]


def levels(rows: list[list[str]]) -> Levels:
    return [(Decimal(price), Decimal(quantity)) for price, quantity, *_ in rows]


@pytest.mark.recording
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("binance-raw", "spot_btcusdt_20240808.gz"),
        ("binance-raw", "usdm_ethusdt_20240808.gz"),
        ("binance-sessions", "spot_2021-10-12.http.zst"),
        ("binance-sessions", "usdm_2021-07-22.http.zst"),
    ],
)
def test_snapshots_of_recordings_equal_a_count_in_decimals(folder: str, name: str) -> None:
    compared = 0
    for frame in read_recording(recording(folder, name)):
        if frame.kind not in (HTTP, RECEIVED) or not frame.data.startswith(b'{"lastUpdateId"'):
            continue
        told = json.loads(frame.data)
        bids, asks = levels(told["bids"]), levels(told["asks"])
        book = read_depth(frame.data, limit=len(bids))
        expected = counted(bids, asks, False, len(asks) < len(bids))
        assert shown(depth_volumes(book)) == expected
        compared += 1
    assert compared > 0


@pytest.mark.recording
@pytest.mark.parametrize("name", ["spot_btcusdt_20240808.gz", "usdm_btcusdt_20240808.gz"])
def test_books_kept_by_the_engine_equal_a_count_in_decimals(name: str) -> None:
    replay, compared = Replay(), 0
    for number, step in enumerate(replay.run(read_recording(recording("binance-raw", name)))):
        book = step.book
        if number % 1_000 or book.best_bid_ticks is None or book.best_ask_ticks is None:
            continue
        bids, asks = (
            [(ticks * book.tick_size, lots * book.lot_size) for ticks, lots in side]
            for side in (book.bids(), book.asks())
        )
        expected = counted(bids, asks, True, True)
        assert without_coverage(shown(engine_volumes(book.bands()))) == without_coverage(expected)
        compared += 1
    assert compared >= 2


SIDE = st.lists(
    st.tuples(st.integers(1, 3_000), st.integers(1, 10**9)), min_size=1, max_size=60, unique_by=lambda level: level[0]
)


@settings(max_examples=40, deadline=None)
@given(
    bids=SIDE, asks=SIDE, tick=st.sampled_from(["0.01", "0.5", "1", "0.00000001"]), lot=st.sampled_from(["0.001", "1"])
)
def test_any_book_equals_a_count_in_decimals(bids: Any, asks: Any, tick: str, lot: str) -> None:
    bid_levels = sorted(((4_000 - at) * Decimal(tick), lots * Decimal(lot)) for at, lots in bids)[::-1]
    ask_levels = sorted(((4_000 + at) * Decimal(tick), lots * Decimal(lot)) for at, lots in asks)
    body = json.dumps(
        {
            "lastUpdateId": 7,
            "bids": [[f"{price:f}", f"{quantity:f}"] for price, quantity in bid_levels],
            "asks": [[f"{price:f}", f"{quantity:f}"] for price, quantity in ask_levels],
        }
    ).encode()
    book = read_depth(body, limit=1_000)
    assert shown(depth_volumes(book)) == counted(bid_levels, ask_levels, True, True)


def test_a_sum_beyond_64_bits_is_still_exact() -> None:
    bids = [["900000000000000003", "700000000000000001"], ["890000000000000001", "3"]]
    asks = [["900000000000000005", "999999999999999999"]]
    book = read_depth(json.dumps({"lastUpdateId": 1, "bids": bids, "asks": asks}).encode(), limit=5)
    assert shown(depth_volumes(book)) == counted(levels(bids), levels(asks), True, True)


def test_both_edges_of_a_depth_belong_to_it_and_what_is_known_is_told() -> None:
    bids = [["100", "1"], ["98.5", "2"], ["98.4999", "4"], ["70", "8"]]
    asks = [["101", "1"], ["102.515", "2"], ["102.5151", "4"]]
    book = read_depth(json.dumps({"lastUpdateId": 1, "bids": bids, "asks": asks}).encode(), limit=4)
    nearest, *_, widest = depth_volumes(book)
    assert (nearest.bid_volume, nearest.ask_volume) == (3, 3)
    assert nearest.bid_covered and widest.bid_covered and widest.ask_covered  # the asks end: fewer than were asked for
    book = read_depth(json.dumps({"lastUpdateId": 1, "bids": bids, "asks": asks}).encode(), limit=3)
    nearest, third, *_ = depth_volumes(book)
    assert nearest.ask_covered and not third.ask_covered


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not a book"),
        (b'{"bids":[],"asks":[["1","1"]]}', "empty"),
        (b'{"bids":[["1","1"]],"asks":[["1","1"]]}', "crossed"),
        (b'{"bids":[["1","1"],["2","1"]],"asks":[["3","1"]]}', "order"),
        (b'{"bids":[["1e3","1"]],"asks":[["3000","1"]]}', "plain number"),
        (b'{"bids":[["-1","1"]],"asks":[["3000","1"]]}', "plain number"),
        (b'{"bids":[[1,1]],"asks":[["3000","1"]]}', "not a book"),
    ],
)
def test_an_answer_that_is_no_book_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(BookReadingError, match=why):
        read_depth(body, limit=500)


def test_the_difference_is_in_percent_of_both_sides_and_zero_of_nothing() -> None:
    assert difference_percent(Decimal(3), Decimal(1)) == 50
    assert difference_percent(Decimal(0), Decimal(0)) == 0
    assert difference_percent(Decimal(1), Decimal(2)) == Decimal("-33.333333")
    assert volume(bid="3", ask="5").diff == -2


def test_groups_leave_out_what_their_names_say() -> None:
    volumes = {f"COIN{number}USDT": volume(bid="1", ask="1", price=str(number)) for number in range(1, 15)}
    volumes |= {"BTCUSDT": volume(bid="2", ask="1", price="1000"), "ETHUSDT": volume(bid="3", ask="1", price="100")}
    groups = {each.name: each for each in group_volumes(volumes)}
    assert [groups[name].symbols for name in ("TOTAL", "TOTAL1", "TOTAL2", "OTHERS")] == [16, 15, 14, 10]
    assert groups["TOTAL"].bid_usd == 2_000 + 300 + sum(range(1, 15))
    assert groups["TOTAL1"].ask_usd == 100 + sum(range(1, 15))
    assert groups["OTHERS"].bid_usd == sum(range(5, 15)) and groups["OTHERS"].diff_usd == 0


def test_spot_against_futures_is_in_percent_of_spot() -> None:
    assert market_difference_percent(Decimal(4), Decimal(5)) == 25
    assert market_difference_percent(Decimal(0), Decimal(5)) is None


def test_correlations_equal_those_of_numpy_over_what_both_have() -> None:
    chance = np.random.default_rng(3)
    series = chance.normal(1e9, 1e4, (5, 90))
    series[1] = series[0] * 2 + chance.normal(0, 1e3, 90)
    series[2, 10:30] = np.nan
    series[3] = 7.0
    series[4, 2:] = np.nan
    found = correlations(series)
    for first in range(3):
        for second in range(3):
            both = np.isfinite(series[first]) & np.isfinite(series[second])
            expected = np.corrcoef(series[first, both], series[second, both])[0, 1]
            assert found[first, second] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(found[3]).all() and np.isnan(found[4]).all()
    rolling = rolling_correlations(series[:2], window=30, step=20)
    assert rolling.shape == (4, 2, 2)
    assert rolling[1, 0, 1] == pytest.approx(correlations(series[:2, 20:50])[0, 1])


NUMBERS = st.one_of(
    st.decimals(0, 10**9, places=5),
    st.decimals(0, 10**30, places=3, allow_nan=False),
    st.just(Decimal(0)),
    st.integers(0, 10**12).map(Decimal),
    st.integers(0, 10**6).map(lambda number: Decimal(number).scaleb(-45)),
)
ROWS = st.lists(
    st.tuples(st.integers(0, 1_439), NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.booleans(), st.booleans()),
    max_size=40,
    unique_by=lambda row: row[0],
)


def unpacked(body: bytes, depth: int = 50, **nearer: bytes) -> list[tuple[int, DepthVolume]]:
    return unpack({depth: body} | {int(name[1:]): each for name, each in nearer.items()}, depth)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_a_packed_day_comes_back_exactly(rows: list[Any]) -> None:
    day = [(minute * MINUTE, DepthVolume(50, *numbers)) for minute, *numbers in rows]
    assert unpacked(pack(day)) == sorted(day, key=lambda row: row[0])


@settings(max_examples=60, deadline=None)
@given(nearer=ROWS, late=ROWS, rows=ROWS, is_same=st.booleans())
def test_a_day_packed_beyond_a_nearer_depth_comes_back_exactly_whatever_joins_that_one(
    nearer: list[Any], late: list[Any], rows: list[Any], is_same: bool
) -> None:
    inner = {minute * MINUTE: DepthVolume(30, *numbers) for minute, *numbers in nearer}
    day = {minute * MINUTE: DepthVolume(50, *numbers) for minute, *numbers in rows}
    if is_same:  # a book that is known no further than the nearer depth
        day |= {second: replace(volume, depth=50) for second, volume in inner.items()}
    body = pack(list(day.items()), list(inner.items()), 30)
    joined = {minute * MINUTE: DepthVolume(30, *numbers) for minute, *numbers in late} | inner
    for known in (inner, joined):
        assert unpacked(body, d30=pack(list(known.items()))) == sorted(day.items())


def test_a_depth_that_is_known_no_further_than_the_nearer_one_takes_next_to_nothing() -> None:
    inner = [(row.minute - DAY, replace(row.volume, depth=30)) for row in walk(range(DAY, 2 * DAY, MINUTE))]
    same = [(second, replace(volume, depth=50)) for second, volume in inner]
    body = pack(same, inner, 30)
    assert len(body) < 150 and unpacked(body, d30=pack(inner)) == same
    with pytest.raises(PackError, match="not there"):
        unpacked(body)
    others = [(second, replace(volume, bid_volume=volume.bid_volume + 1)) for second, volume in inner]
    with pytest.raises(PackError, match="another day"):
        unpacked(body, d30=pack(others))


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_damaged_pack_is_refused(at: float, bit: int) -> None:
    body = bytearray(pack([(0, volume()), (MINUTE, volume(bid="11"))]))
    body[int(len(body) * at)] ^= 1 << bit
    with pytest.raises(PackError):
        unpacked(bytes(body))
    with pytest.raises(PackError):
        unpacked(bytes(body[: int(len(body) * at)]))


def test_a_packed_day_of_a_wandering_volume_is_small() -> None:
    day = [(row.minute, row.volume) for row in walk(range(0 + DAY, 2 * DAY, MINUTE))]
    body = pack([(minute - DAY, volume) for minute, volume in day])
    assert len(body) / len(day) < 15.5
    points = unpack_points({50: body}, 50)
    assert points == [(minute - DAY, float(row.bid_volume), float(row.ask_volume)) for minute, row in day]


def test_reading_a_fraction_as_python_does_gives_the_same_volume() -> None:
    """Another way to the same number: fractions have no precision to choose."""
    bids = [["60000.10", "0.00001"], ["59999.99", "3.14159"]]
    book = read_depth(json.dumps({"lastUpdateId": 1, "bids": bids, "asks": [["60001", "1"]]}).encode(), limit=500)
    exact = sum(Fraction(price) * Fraction(quantity) for price, quantity in bids)
    assert Fraction(depth_volumes(book)[0].bid_volume_usd) == exact
