"""History of the simulator: made up where nobody ran, kept where somebody did, without a jump between the two."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from trading.simulator.candles import HISTORY_MINUTES, CandleSeries
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
