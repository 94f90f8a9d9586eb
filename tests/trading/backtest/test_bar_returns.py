"""Correlations that a backtest reads from its bars are those that the live engine reckons of the same minutes."""

from __future__ import annotations

import numpy as np
import pytest

from risk import returns as live
from risk.returns import Returns
from tests.trading.backtest.candle_tests import MINUTE, START_MS
from tests.trading.backtest.test_candle_runs import random_walk
from trading.backtest.bar_returns import BarReturns
from trading.backtest.bars import Bars
from trading.backtest.kernels import returns as kernels

NAMES = ("AUSDT", "BUSDT", "CUSDT", "DUSDT")


def told_live(bars: dict[str, Bars], step: int) -> Returns:
    """Every minute of every symbol, as prices come."""
    returns = Returns()
    for at in range(step + 1):
        for symbol, each in bars.items():
            index = each.at(at)
            if index is not None:
                time_ns = (START_MS + (at + 1) * MINUTE) * 1_000_000
                returns.add(symbol, float(each.close(index)), time_ns)
    return returns


@pytest.mark.parametrize("seed", range(4))
def test_bars_tell_what_every_minute_told_live_does(seed: int) -> None:
    chance = np.random.default_rng(seed)
    bars = {
        name: Bars(random_walk(seed * 10 + at, 700, name, gaps=at % 2 == 1), START_MS) for at, name in enumerate(NAMES)
    }
    from_bars = BarReturns(bars, MINUTE)

    for step in sorted(chance.integers(1, 690, 6).tolist()):
        live = told_live(bars, step)
        # Whoever is not asked about now is told later, with all that it missed.
        asked = NAMES if step % 2 else NAMES[:3]
        from_bars.tell(asked, START_MS + (step + 1) * MINUTE)
        for symbol in asked:
            expected = {name: value for name, value in live.of(symbol).items() if name in asked}
            found = {name: value for name, value in from_bars.of(symbol).items() if name != symbol}
            assert found == pytest.approx(expected, rel=1e-12)
            assert from_bars.volatility_percent(symbol) == live.volatility_percent(symbol)


def test_kernels_look_back_as_far_as_the_live_engine() -> None:
    assert (kernels.WINDOW, kernels.FEWEST) == (live.WINDOW, live.FEWEST)


def test_bars_that_are_longer_than_a_minute_tell_nothing() -> None:
    bars = {name: Bars(random_walk(at, 300, name), START_MS) for at, name in enumerate(NAMES)}
    returns = BarReturns(bars, 5 * MINUTE)

    returns.tell(NAMES, START_MS + 300 * MINUTE)

    assert not any(returns.of("AUSDT").values())
    assert returns.volatility_percent("AUSDT") is None


def test_a_symbol_that_is_alone_has_a_volatility() -> None:
    bars = {"AUSDT": Bars(random_walk(1, 300, "AUSDT"), START_MS)}
    returns = BarReturns(bars, MINUTE)

    returns.tell(["AUSDT"], START_MS + 300 * MINUTE)

    assert returns.of("AUSDT") == {}
    assert returns.volatility_percent("AUSDT") == told_live(bars, 299).volatility_percent("AUSDT")
