"""Packed bars come out as they went in, whatever they are, and small where they are like a market's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.candles.aggregation import flat_filled, longer_bars
from marketdata.candles.exact_numbers import units_of_floats, units_of_texts
from marketdata.candles.packing import (
    Bars,
    PackError,
    no_bars,
    pack_bars,
    pack_rates,
    rate_bars,
    unpack_bars,
    unpack_rates,
)
from marketdata.candles.priced import Priced, merged
from marketdata.candles.series import CandleSeries
from trading.backtest.bars import longer

MINUTE = 60_000
NUMBERS = st.integers(0, 2**60)


@st.composite
def any_bars(draw: st.DrawFn, most: int = 40) -> Bars:
    """Whatever int64 can hold, with holes."""
    steps = draw(st.lists(st.integers(1, 5), min_size=0, max_size=most))
    begin = draw(st.integers(0, 10**6))
    start = (begin + np.cumsum(steps, dtype=np.int64)) * MINUTE
    columns = [
        np.array(draw(st.lists(NUMBERS, min_size=len(steps), max_size=len(steps))), dtype=np.int64) for _ in range(5)
    ]
    return Bars(start, *columns)


def market_bars(count: int) -> Bars:
    """A walk in ticks of 5, volumes of three decimals."""
    rng = np.random.default_rng(5)
    close = 600_000 + 5 * np.cumsum(rng.integers(-40, 41, count))
    opened = np.concatenate((close[:1], close[:-1]))
    high = np.maximum(opened, close) + 5 * rng.integers(0, 30, count)
    low = np.minimum(opened, close) - 5 * rng.integers(0, 30, count)
    volume = rng.lognormal(9, 1, count).astype(np.int64)
    return Bars(1_700_000_040_000 + MINUTE * np.arange(count), opened, high, low, close, volume)


def assert_same(one: Bars, other: Bars) -> None:
    for ours, theirs in zip(one.columns, other.columns, strict=True):
        assert ours.dtype == np.int64
        np.testing.assert_array_equal(ours, theirs)


@settings(deadline=None, max_examples=50)
@given(any_bars())
def test_any_bars_come_out_as_they_went_in(bars: Bars) -> None:
    assert_same(unpack_bars(pack_bars(bars, MINUTE), MINUTE), bars)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(-(10**15), 10**15)), max_size=30))
def test_any_funding_rates_come_out_as_they_went_in(rows: list[tuple[int, int]]) -> None:
    times = np.array(sorted(at for at, _ in rows), dtype=np.int64)
    rates = rate_bars(times, np.array([rate for _, rate in rows], dtype=np.int64))
    assert_same(unpack_rates(pack_rates(rates)), rates)


def test_a_month_of_minutes_takes_less_than_eight_bytes_a_bar() -> None:
    bars = market_bars(43_200)
    body = pack_bars(bars, MINUTE)
    assert_same(unpack_bars(body, MINUTE), bars)
    assert len(body) < 8 * len(bars)


def test_nothing_is_packed_too() -> None:
    assert_same(unpack_bars(pack_bars(no_bars(), MINUTE), MINUTE), no_bars())


@pytest.mark.parametrize("damage", [slice(-1), slice(20), slice(0), slice(1, None)])
def test_damaged_packs_are_refused(damage: slice) -> None:
    body = pack_bars(market_bars(100), MINUTE)
    with pytest.raises(PackError):
        unpack_bars(body[damage], MINUTE)
    for place in range(0, len(body), 37):
        spoilt = bytearray(body)
        spoilt[place] ^= 0x10
        try:
            found = unpack_bars(bytes(spoilt), MINUTE)
        except PackError:
            continue
        # The header's first time and units are not in the checksum's part.
        assert place < 40 and len(found) == 100


@settings(deadline=None, max_examples=50)
@given(any_bars(), st.sampled_from([2, 5, 15]))
def test_longer_bars_are_what_their_parts_say_and_only_where_all_are_there(bars: Bars, times: int) -> None:
    bars = Bars(*bars.columns[:5], bars.volume >> 8)
    made = longer_bars(bars, MINUTE, times * MINUTE)
    rows = {int(start): place for place, start in enumerate(bars.start)}
    expected = []
    for first in sorted({start // (times * MINUTE) * times * MINUTE for start in rows}):
        places = [rows.get(first + part * MINUTE) for part in range(times)]
        if None in places:
            continue
        expected.append(
            (
                first,
                bars.open[places[0]],
                max(bars.high[place] for place in places),
                min(bars.low[place] for place in places),
                bars.close[places[-1]],
                sum(int(bars.volume[place]) for place in places),
            )
        )
    assert list(zip(*(column.tolist() for column in made.columns), strict=True)) == expected


@settings(deadline=None, max_examples=50)
@given(any_bars(), st.sampled_from(["3", "5", "15"]))
def test_a_backtest_makes_the_bars_that_the_archive_makes(bars: Bars, interval: str) -> None:
    bars = Bars(*bars.columns[:5], bars.volume >> 8)
    series = CandleSeries("bybit", "BTCUSDT", "1", 1, 3, *bars.columns)
    made, archived = longer(series, interval), longer_bars(bars, MINUTE, int(interval) * MINUTE)
    assert made.interval == interval
    columns = (made.start_ms, made.open, made.high, made.low, made.close, made.volume)
    assert [each.tolist() for each in columns] == [each.tolist() for each in archived.columns]


def test_bars_are_not_made_of_what_does_not_divide_them() -> None:
    with pytest.raises(ValueError, match="are not made of"):
        longer_bars(market_bars(10), 2 * MINUTE, 3 * MINUTE)


@settings(deadline=None, max_examples=50)
@given(any_bars())
def test_filled_bars_have_no_hole_and_keep_what_was_there(bars: Bars) -> None:
    found, filled = flat_filled(bars, MINUTE)
    assert filled == len(found) - len(bars)
    if len(bars):
        assert np.all(np.diff(found.start) == MINUTE)
        assert_same(found.rows(np.isin(found.start, bars.start)), bars)


@settings(deadline=None, max_examples=50)
@given(any_bars(), any_bars(), st.booleans())
def test_merged_bars_are_all_of_both_each_time_once(old: Bars, new: Bars, keeps_old: bool) -> None:
    found = merged(Priced(old), Priced(new), keeps_old=keeps_old)
    rows_of = lambda bars: {row[0]: row for row in zip(*(column.tolist() for column in bars.columns), strict=True)}  # noqa: E731
    was, comes = rows_of(old), rows_of(new)
    expected = {**comes, **was} if keeps_old else {**was, **comes}
    assert rows_of(found.all.bars) == expected
    assert found.all.bars.start.tolist() == sorted(expected)
    assert found.new == len(comes.keys() - was.keys())
    assert len(found.contradictions) == sum(was[at] != comes[at] for at in was.keys() & comes.keys())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.decimals(0, 10**9, allow_nan=False, places=5), min_size=1, max_size=20))
def test_numbers_are_kept_exactly_with_as_few_decimals_as_they_need(values: list) -> None:  # type: ignore[type-arg]
    texts = [f"{value:f}" for value in values]
    found = units_of_texts(texts)
    assert not found.bad
    assert [int(units) for units in found.numbers] == [int(value.scaleb(found.decimals)) for value in values]
    assert found.decimals == 0 or any(int(units) % 10 for units in found.numbers)
    floats = units_of_floats(np.array(texts, dtype=np.float64))
    assert (floats.numbers / 10.0**floats.decimals).tolist() == [float(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "units", "decimals"),
    [
        ("0.8159000000000001", 8_159_000_000_000_001, 16),
        ("4.989e-05", 4_989, 8),
        ("-0.5", -5, 1),
        (" 7 ", 7, 0),
        ("1E3", 1_000, 0),
    ],
)
def test_unusual_numbers_are_read_exactly(text: str, units: int, decimals: int) -> None:
    found = units_of_texts([text])
    assert (int(found.numbers[0]), found.decimals, found.bad) == (units, decimals, ())


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "1_0", "0x1", "１", "1,5", "1e999", "9" * 30, "0." + "1" * 23, "--1", "."]
)
def test_what_is_no_number_or_too_long_a_one_is_named(text: str) -> None:
    found = units_of_texts(["1", text, "2.5"])
    assert [place for place, _ in found.bad] == [1]
    assert found.numbers.tolist() == [10, 0, 25]
