"""Indicators equal TA-Lib's wherever it has them, from their first value on, to 1e-9 of the value or better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import talib
from numpy.typing import NDArray

from strategies.indicators.adx import MINUS, PLUS, adx_series, adx_update
from strategies.indicators.adx import state_size as adx_size
from strategies.indicators.atr import atr_series
from strategies.indicators.bollinger import bollinger_series
from strategies.indicators.donchian import donchian_series
from strategies.indicators.ema import ema_series
from strategies.indicators.macd import macd_series
from strategies.indicators.parabolic_sar import parabolic_sar_series
from strategies.indicators.rsi import rsi_series
from strategies.indicators.sma import sma_series
from strategies.indicators.zscore import zscore_series
from tests.strategies.indicators.bars import MADE_UP, RECORDED, Bars, made_up, recorded

Lines = NDArray[np.float64]

PAIRS: dict[str, tuple[Callable[[Bars], Lines], Callable[[Bars], tuple[Lines, ...]]]] = {
    "SMA 9": (lambda b: sma_series(b.close, 9), lambda b: (talib.SMA(b.close, 9),)),
    "SMA 200": (lambda b: sma_series(b.close, 200), lambda b: (talib.SMA(b.close, 200),)),
    "EMA 21": (lambda b: ema_series(b.close, 21), lambda b: (talib.EMA(b.close, 21),)),
    "RSI 14": (lambda b: rsi_series(b.close, 14), lambda b: (talib.RSI(b.close, 14),)),
    "RSI 2": (lambda b: rsi_series(b.close, 2), lambda b: (talib.RSI(b.close, 2),)),
    "ATR 14": (lambda b: atr_series(b.high, b.low, b.close, 14), lambda b: (talib.ATR(b.high, b.low, b.close, 14),)),
    "ADX 14": (lambda b: adx_series(b.high, b.low, b.close, 14), lambda b: (talib.ADX(b.high, b.low, b.close, 14),)),
    "ADX 5": (lambda b: adx_series(b.high, b.low, b.close, 5), lambda b: (talib.ADX(b.high, b.low, b.close, 5),)),
    "BBANDS 20": (
        lambda b: bollinger_series(b.close, 20, 2.0)[[1, 0, 2]],
        lambda b: talib.BBANDS(b.close, 20, 2.0, 2.0),
    ),
    "SAR": (
        lambda b: parabolic_sar_series(b.high, b.low, 0.02, 0.02, 0.2),
        lambda b: (talib.SAR(b.high, b.low, 0.02, 0.2),),
    ),
    "SAR, step by step": (
        lambda b: parabolic_sar_series(b.high, b.low, 0.01, 0.03, 0.3),
        lambda b: (np.abs(talib.SAREXT(b.high, b.low, 0, 0, 0.01, 0.03, 0.3, 0.01, 0.03, 0.3)),),
    ),
    "Donchian 55": (
        lambda b: donchian_series(b.high, b.low, 55)[1:],
        lambda b: (talib.MAX(b.high, 55), talib.MIN(b.low, 55)),
    ),
}


def bars_of(name: str) -> Bars:
    return made_up(name) if name in MADE_UP else recorded(name)


def bars_and_marks() -> list[object]:
    return [*MADE_UP, *(pytest.param(name, marks=pytest.mark.recording) for name in RECORDED)]


@pytest.mark.parametrize("name", bars_and_marks())
def test_every_bar_is_talibs(name: str) -> None:
    bars = bars_of(name)
    for indicator, (ours, theirs) in PAIRS.items():
        for mine, peer in zip(np.atleast_2d(ours(bars)), theirs(bars), strict=True):
            np.testing.assert_allclose(mine, peer, rtol=1e-9, atol=0, err_msg=indicator)


@pytest.mark.parametrize("name", bars_and_marks())
def test_macd_line_signal_and_histogram_are_talibs(name: str) -> None:
    """A difference of prices: to 1e-12 of the price. TA-Lib hides the line until the signal is there."""
    bars = bars_of(name)
    tolerance = 1e-12 * bars.close.max()
    mine, peer = macd_series(bars.close, 12, 26, 9), talib.MACD(bars.close, 12, 26, 9)
    assert int(np.isnan(mine[0]).sum()) == 25
    np.testing.assert_allclose(np.where(np.isnan(peer[0]), np.nan, mine[0]), peer[0], rtol=0, atol=tolerance)
    for which in (1, 2):
        np.testing.assert_allclose(mine[which], peer[which], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", bars_and_marks())
def test_directional_indicators_are_talibs(name: str) -> None:
    bars = bars_of(name).part(slice(0, 2_000))
    state, rows = np.zeros(adx_size()), []
    for high, low, close in zip(bars.high, bars.low, bars.close, strict=True):
        adx_update(state, high, low, close, 14)
        rows.append((state[PLUS], state[MINUS]))
    plus, minus = np.array(rows).T
    np.testing.assert_allclose(plus[14:], talib.PLUS_DI(bars.high, bars.low, bars.close, 14)[14:], rtol=1e-9)
    np.testing.assert_allclose(minus[14:], talib.MINUS_DI(bars.high, bars.low, bars.close, 14)[14:], rtol=1e-9)


@pytest.mark.parametrize("name", bars_and_marks())
def test_deviations_are_exact_and_talibs_as_far_as_those_are(name: str) -> None:
    """TA-Lib subtracts running sums of squared prices from each other; a window by itself says what is right."""
    bars = bars_of(name)
    upper, middle = bollinger_series(bars.close, 20, 1.0)[[1, 0]]
    deviation = upper - middle
    windows = np.lib.stride_tricks.sliding_window_view(bars.close, 20)
    exact = windows.std(axis=1)
    np.testing.assert_allclose(deviation[19:], exact, rtol=1e-9, atol=1e-14 * bars.close.max())
    scores = (bars.close[19:] - windows.mean(axis=1)) / exact
    np.testing.assert_allclose(zscore_series(bars.close, 20)[19:], scores, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        deviation[19:], talib.STDDEV(bars.close, 20)[19:], rtol=1e-4, atol=1e-7 * bars.close.max()
    )


def test_a_price_that_never_moves_has_no_strength_rather_than_none_left() -> None:
    flat = np.full(40, 5.0)
    assert set(rsi_series(flat, 14)[14:]) == {50.0}
    assert set(talib.RSI(flat, 14)[14:]) == {0.0}
    assert set(zscore_series(flat, 14)[13:]) == {0.0}
    assert set(adx_series(flat, flat, flat, 5)[9:]) == {0.0}
