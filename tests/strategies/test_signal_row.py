"""What kernels write as a signal can be ordered, however prices and distances round."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.candle_strategy import ROW, Slot, exact
from strategies.kernels import signal_row
from strategies.signals import Signal

# Kernels that only kernels call have no way in from Python; what they are made of has.
fill_row: Any = signal_row.fill_row.py_func  # type: ignore[attr-defined]
clamped_stop: Any = signal_row.clamped_stop.py_func  # type: ignore[attr-defined]
is_a_bar: Any = signal_row.is_a_bar.py_func  # type: ignore[attr-defined]

PRICES = st.builds(
    lambda digits, decimals: Decimal(digits).scaleb(-decimals), st.integers(1, 10**12), st.integers(0, 10)
)


@given(
    entry=PRICES,
    side=st.sampled_from([1, -1]),
    stop_percent=st.floats(0.0, 60.0),
    ratio=st.sampled_from([0.0, 1.5, 1.5000000001, 2.0, 20.0]),
    strength=st.floats(allow_nan=True, allow_infinity=True),
)
def test_a_row_is_a_signal_that_pays_one_and_a_half_times_its_risk_or_none(
    entry: Decimal, side: int, stop_percent: float, ratio: float, strength: float
) -> None:
    close, row = float(entry), np.zeros(ROW)
    distance = close * stop_percent / 100.0
    if not fill_row(row, side, strength, close, distance, distance * ratio):
        # Only where a price would be about 0 or below.
        reach = max(distance, 1e-9) * max(ratio, 1.5) + 1e-9
        assert close - reach <= 1e-9 or close < 1e-8
        return
    side_word = "Buy" if side > 0 else "Sell"
    prices = (exact(row[Slot.TAKE_PROFIT]), exact(row[Slot.STOP_LOSS]))
    signal = Signal("test", "BTCUSDT", side_word, float(row[Slot.STRENGTH]), entry, *prices, "why", 0)
    assert signal.reward >= signal.risk * Decimal("1.5")
    assert float(signal.risk) == pytest.approx(distance, abs=3e-10 + 4e-15 * close)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_there_is_no_signal_without_a_stop_and_a_target(wrong: float) -> None:
    assert not fill_row(np.zeros(ROW), 1, 0.5, 100.0, wrong, 2.0)
    assert not fill_row(np.zeros(ROW), 1, 0.5, 100.0, 1.0, wrong)
    assert not fill_row(np.zeros(ROW), -1, 0.5, wrong, 1.0, 2.0)


def test_a_stop_is_kept_within_its_band() -> None:
    assert [clamped_stop(each, 200.0, 0.1, 3.0) for each in (0.0, 1.0, 50.0)] == [0.2, 1.0, 6.0]
    assert clamped_stop(1.0, 200.0, 2.0, 1.0) == 2.0


def test_only_what_can_be_a_bar_is_one() -> None:
    assert is_a_bar(1.0, 2.0, 0.5, 1.5, 0.0) and is_a_bar(1.0, 1.0, 1.0, 1.0, 7.0)
    wrong = [(3, 2, 1, 1.5, 1), (1, 2, 1.2, 1.5, 1), (1, 2, 0, 1, 1), (1, 2, 1, 2, -1), (1, np.inf, 1, 1, 1)]
    assert not any(is_a_bar(*map(float, each)) for each in wrong)
    for place in range(5):
        values = [1.0, 2.0, 0.5, 1.5, 1.0]
        values[place] = np.nan
        assert not is_a_bar(*values), place
