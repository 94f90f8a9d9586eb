"""Correlations and volatilities come from the live prices of minutes; leverage follows the volatility."""

from __future__ import annotations

import math
import random
from decimal import Decimal

import numpy as np
import pytest

from risk.leverage import LeverageRules, allowed_leverage
from risk.returns import STEP_NS, WINDOW, Returns

D = Decimal


def walk(minutes: int, seed: int = 1) -> list[float]:
    numbers, price, prices = random.Random(seed), 100.0, []
    for _ in range(minutes):
        price *= 1 + numbers.gauss(0, 0.001)
        prices.append(price)
    return prices


def test_a_correlation_is_numpys_and_unknown_before_twenty_common_minutes() -> None:
    returns, one = Returns(), walk(60)
    two = [price * 2 * (1 + 0.0005 * math.sin(index)) for index, price in enumerate(one)]
    for minute, (a, b) in enumerate(zip(one, two, strict=True)):
        if minute == 21:
            assert returns.of("A")["B"] is None
        returns.add("A", a, minute * STEP_NS)
        returns.add("B", b, minute * STEP_NS + 5)
    # The last minute has not ended.
    expected = np.corrcoef(np.diff(np.log(one[:-1])), np.diff(np.log(two[:-1])))[0, 1]
    assert returns.of("A")["B"] == pytest.approx(expected) == returns.of("B")["A"]
    assert 0.5 < expected < 1


def test_minutes_without_a_price_belong_to_no_return_and_old_ones_leave_the_window() -> None:
    returns = Returns(fewest=2)
    for minute, price in ((0, 100.0), (1, 101.0), (2, 102.0), (5, 200.0), (6, 202.0), (7, 204.0), (8, 205.0)):
        returns.add("A", price, minute * STEP_NS)
    known = [math.log(102 / 101), math.log(101 / 100), math.log(202 / 200), math.log(204 / 202)]
    expected = math.sqrt(sum(value * value for value in known) / 4 * 1440) * 100
    assert returns.volatility_percent("A") == pytest.approx(expected)
    for minute in range(8 + 2 * WINDOW, 12 + 2 * WINDOW):
        returns.add("A", 300.0, minute * STEP_NS)
    assert returns.volatility_percent("A") == 0.0


def test_a_price_that_is_none_or_comes_late_changes_nothing() -> None:
    returns = Returns(fewest=2)
    for minute, price in enumerate(walk(10)):
        returns.add("A", price, minute * STEP_NS)
    before = returns.volatility_percent("A")
    for price in (0.0, -1.0, math.nan, math.inf):
        returns.add("A", price, 20 * STEP_NS)
    returns.add("A", 1.0, 3 * STEP_NS)
    assert returns.volatility_percent("A") == before
    assert returns.volatility_percent("B") is None and returns.of("B") == {}


def test_a_wilder_market_gets_less_leverage_and_one_that_is_not_known_the_least() -> None:
    rules = LeverageRules()
    assert [rules.leverage(value) for value in (0.5, 2.0, 2.1, 4.9, 5.0, 30.0, None)] == [
        D(20), D(20), D(10), D(10), D(5), D(5), D(5),
    ]  # fmt: skip
    assert allowed_leverage(D(20), D(10), None, D(12)) == D(10)
    with pytest.raises(ValueError, match="low_volatility_percent"):
        LeverageRules(D(5), D(5))
    with pytest.raises(ValueError, match="expected 1 to 50"):
        LeverageRules(low=D(51))
