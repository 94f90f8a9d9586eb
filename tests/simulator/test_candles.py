"""History of the simulator: made up where nobody ran, kept where somebody did, without a jump between the two."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from trading.simulator.candles import FIRST_LISTING_MS, HISTORY_MINUTES, INTERVALS, CandleSeries
from trading.simulator.instruments import INSTRUMENTS
from trading.simulator.markets import market_of
from trading.simulator.venue import Venue

NOW_MS = 1_800_000_000_000
NOW_MINUTE = NOW_MS // 60_000


@pytest.fixture
def series() -> CandleSeries:
    market = market_of(INSTRUMENTS[0].listing())
    return CandleSeries(
        market.grids, Decimal(60_000), NOW_MS, volatility=0.0005, lots_a_minute=1000.0, rng=np.random.default_rng(3)
    )


def closes_and_opens(series: CandleSeries) -> list[tuple[float, float]]:
    rows = list(reversed(series.rows("1", HISTORY_MINUTES, None, None)))
    return [(float(a[4]), float(b[1])) for a, b in pairwise(rows)]


def test_bars_of_an_earlier_run_are_kept_and_the_time_between_leads_from_one_to_the_other(series: CandleSeries) -> None:
    kept = np.tile([550_000.0, 550_500.0, 549_500.0, 550_100.0, 10.0, 5_501_000.0], (30, 1))
    series.restore([(NOW_MINUTE - 90, kept)])
    rows = list(reversed(series.rows("1", 200, None, None)))
    begins = [row for row in rows if int(row[0]) // 60_000 == NOW_MINUTE - 90]
    assert [row[1:5] for row in begins] == [["55000.0", "55050.0", "54950.0", "55010.0"]]
    jumps = [abs(after / before - 1) for before, after in closes_and_opens(series)[-100:]]
    assert max(jumps) < 0.002
    for row in rows:
        opened, high, low, close = map(float, row[1:5])
        assert low <= min(opened, close) <= max(opened, close) <= high


def test_a_first_start_has_a_whole_history_that_ends_at_the_price_of_now(series: CandleSeries) -> None:
    series.restore([])
    rows = series.rows("1", HISTORY_MINUTES, None, None)
    assert len(rows) == HISTORY_MINUTES
    assert rows[0][1] == "60000.0"
    assert all(before == after for before, after in closes_and_opens(series))


def test_history_does_not_change_from_one_run_to_the_next(tmp_path: Path) -> None:
    first = Venue({}, symbols=1, state=tmp_path / "state.sqlite")
    before = first.candles["BTCUSDT"].rows("60", 900, None, None)
    first.journal.close()
    again = Venue({}, symbols=1, state=tmp_path / "state.sqlite", seed=99)
    after = again.candles["BTCUSDT"].rows("60", 900, None, None)
    again.journal.close()
    assert before[2:] == after[len(after) - len(before) + 2 :]


def sums(rows: list[list[str]], starts: list[str]) -> list[list[Decimal]]:
    """Rows, newest first, added up by hand to bars that begin at these times, newest first too."""
    bars: dict[str, list[Decimal]] = {}
    ahead = sorted(starts, key=int)
    for row in reversed(rows):
        while len(ahead) > 1 and int(ahead[1]) <= int(row[0]):
            ahead.pop(0)
        opened, high, low, close, volume, turnover = map(Decimal, row[1:])
        bar = bars.setdefault(ahead[0], [opened, high, low, close, Decimal(0), Decimal(0)])
        bar[1:] = [max(bar[1], high), min(bar[2], low), close, bar[4] + volume, bar[5] + turnover]
    return [bars[start] for start in starts]


@pytest.mark.parametrize(
    ("long", "count", "short"),
    [
        *(("3", 1_000, "1"), ("15", 60, "5"), ("60", 40, "15"), ("120", 400, "60"), ("240", 400, "120")),
        *(("360", 400, "120"), ("720", 400, "360"), ("D", 300, "240"), ("W", 40, "D"), ("M", 12, "D")),
    ],
)
def test_a_longer_bar_is_the_sum_of_the_shorter_ones_in_it_however_old_it_is(
    long: str, count: int, short: str, series: CandleSeries
) -> None:
    for end_ms in (None, NOW_MS - 39 * 86_400_000, NOW_MS - 1_000 * 86_400_000):
        bars = series.rows(long, count, None, end_ms)
        until = None if end_ms is None else int(bars[0][0]) + (int(bars[0][0]) - int(bars[1][0])) - 1
        if long == "M":
            bars, until = bars[1:], int(bars[0][0]) - 1
        parts = series.rows(short, 1_000_000, int(bars[-1][0]), NOW_MS if until is None else until)
        assert [[Decimal(value) for value in row[1:]] for row in bars] == sums(parts, [row[0] for row in bars])


@pytest.mark.parametrize("interval", INTERVALS)
def test_every_interval_has_as_many_bars_as_one_may_ask_for_or_all_since_the_listing(
    interval: str, series: CandleSeries
) -> None:
    rows = series.rows(interval, 1_000, None, None)
    assert len(rows) == {"W": 355, "M": 83}.get(interval, 1_000)
    assert all(float(after[1]) == float(before[4]) for after, before in pairwise(rows))
    assert all(low <= min(opened, close) and max(opened, close) <= high for opened, high, low, close in prices(rows))
    oldest = series.rows(interval, 1, 0, None)[0]
    assert INTERVALS[interval].number(FIRST_LISTING_MS // 60_000) == INTERVALS[interval].number(
        int(oldest[0]) // 60_000
    )


def prices(rows: list[list[str]]) -> list[tuple[float, ...]]:
    return [tuple(map(float, row[1:5])) for row in rows]


def test_weeks_begin_on_mondays_and_months_on_their_first_day(series: CandleSeries) -> None:
    weeks, months = ([begin(row) for row in series.rows(interval, 300, None, None)] for interval in ("W", "M"))
    assert {(each.weekday(), each.hour, each.minute) for each in weeks} == {(0, 0, 0)}
    assert {(each.day, each.hour, each.minute) for each in months} == {(1, 0, 0)}
    numbers = [each.year * 12 + each.month for each in months]
    assert numbers == list(range(numbers[0], numbers[0] - len(numbers), -1))


def begin(row: list[str]) -> datetime:
    return datetime.fromtimestamp(int(row[0]) / 1_000, UTC)


def test_the_end_of_a_month_is_told_once_on_its_topic(series: CandleSeries) -> None:
    month_end = int(datetime(2027, 2, 1, tzinfo=UTC).timestamp()) * 1_000
    series.advance(month_end - 60_000)
    assert [bar["confirm"] for bar in series.pushes("M", month_end - 60_000)] == [False]
    series.advance(month_end)
    ended, opened = series.pushes("M", month_end)
    assert (ended["confirm"], ended["end"], opened["start"]) == (True, month_end - 1, month_end)
    assert [bar["confirm"] for bar in series.pushes("M", month_end)] == [False]
    assert ended["volume"] == series.rows("M", 2, None, None)[1][5]


def test_the_years_before_do_not_change_from_one_run_to_the_next_even_months_later(tmp_path: Path) -> None:
    first = Venue({}, symbols=1, state=tmp_path / "state.sqlite", clock=lambda: NOW_MS)
    before = first.candles["BTCUSDT"].rows("D", 1_000, None, None)
    first.journal.close()
    later = NOW_MS + 90 * 86_400_000
    again = Venue({}, symbols=1, state=tmp_path / "state.sqlite", seed=99, clock=lambda: later)
    after = again.candles["BTCUSDT"].rows("D", 1_000, None, int(before[1][0]))
    again.journal.close()
    assert after[: len(before) - 1] == before[1:]
