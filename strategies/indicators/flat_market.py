"""How flat a market is, 0 (trending) to 1 (going nowhere): 0.4 * calm + 0.3 * narrow + 0.3 * level.

``calm``: 1 where the ADX is 15 or less, 0 from 30 on. ``narrow``: the share of the last ``lookback`` Bollinger bands (2
deviations wide, relative to their middle) that were not narrower than this one. ``level``: 1 less the rise of the
straight line through the last ``period`` closes, in units of ``ATR * sqrt(period)``, about what a random walk moves;
not below 0. A random walk is near 0.5, and a trend near 0: from 0.6 on more speaks for flat than for chance.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import inner, kernel, plain
from strategies.indicators.adx import adx_update
from strategies.indicators.adx import state_size as adx_size
from strategies.indicators.atr import atr_update
from strategies.indicators.atr import state_size as atr_size
from strategies.indicators.bars import is_bar
from strategies.indicators.bollinger import LOWER, UPPER, bollinger_update
from strategies.indicators.bollinger import state_size as bollinger_size

State = NDArray[np.float64]
# CALM, NARROW and LEVEL are 0 to 1; rings of closes and widths and the states of the three indicators follow.
CALM, NARROW, LEVEL, CLOSES, WIDTHS, RINGS = range(6)
NO_TREND, TREND = 15.0, 30.0


@plain
def state_size(period: int, lookback: int) -> int:
    return RINGS + period + lookback + adx_size() + atr_size() + bollinger_size(period)


@inner
def _ring_add(ring: State, count: float, value: float) -> float:
    ring[int(count) % len(ring)] = value
    return count + 1.0


@inner
def _share_not_narrower(widths: State, width: float) -> float:
    narrower = 0
    for other in widths:
        narrower += other < width
    return 1.0 - narrower / max(1, len(widths) - 1)


@inner
def _rise(closes: State, count: int) -> float:
    """How far the least-squares line through the closes goes from the first to the last of them."""
    period = len(closes)
    if period < 2:
        return 0.0
    oldest, middle, product = closes[count % period], (period - 1) / 2.0, 0.0
    for index in range(period):
        product += (index - middle) * (closes[(count + index) % period] - oldest)
    # Over the sum of (index - middle) squared, times the way of period - 1 bars.
    return product * 12.0 / (period * (period + 1.0))


@kernel("float64(float64[::1], float64, float64, float64, int64, int64)")
def flat_market_update(state: State, high: float, low: float, close: float, period: int, lookback: int) -> float:
    """0 to 1, once both ``2 * period`` bars and ``lookback`` widths of bands are there. Takes as long as both are
    together: what it looks through lies side by side."""
    if not is_bar(high, low, close):
        return np.nan
    closes = state[RINGS : RINGS + period]
    widths = state[RINGS + period : RINGS + period + lookback]
    indicators = state[RINGS + period + lookback :]
    bands = indicators[adx_size() + atr_size() :]
    index = adx_update(indicators[: adx_size()], high, low, close, period)
    ranged = atr_update(indicators[adx_size() : adx_size() + atr_size()], high, low, close, period)
    middle = bollinger_update(bands, close, period, 2.0)
    state[CLOSES] = _ring_add(closes, state[CLOSES], close)
    if math.isnan(middle):
        return np.nan
    width = (bands[UPPER] - bands[LOWER]) / middle
    state[WIDTHS] = _ring_add(widths, state[WIDTHS], width)
    if math.isnan(index) or state[WIDTHS] < lookback:
        return np.nan
    state[CALM] = min(1.0, max(0.0, (TREND - index) / (TREND - NO_TREND)))
    state[NARROW] = _share_not_narrower(widths, width)
    walk = ranged * math.sqrt(period)
    state[LEVEL] = max(0.0, 1.0 - abs(_rise(closes, int(state[CLOSES]))) / walk) if walk > 0 else 1.0
    return 0.4 * state[CALM] + 0.3 * state[NARROW] + 0.3 * state[LEVEL]


@kernel("float64[::1](float64[::1], float64[::1], float64[::1], int64, int64)")
def flat_market_series(highs: State, lows: State, closes: State, period: int, lookback: int) -> State:
    state, line = np.zeros(state_size(period, lookback)), np.empty(len(closes))
    for index in range(len(closes)):
        line[index] = flat_market_update(state, highs[index], lows[index], closes[index], period, lookback)
    return line
