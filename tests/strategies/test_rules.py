"""Each strategy signals where its page says so: the rules once more, in plain Python over whole arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib
from numpy.typing import NDArray

from strategies.base import parse_parameters
from strategies.candle_strategy import Slot
from strategies.indicators import elliott, flat_market, parabolic_sar
from strategies.library import STRATEGIES
from tests.strategies.bars import Bars, made, rows_at_once, walk
from tests.strategies.test_candle_strategies import LIVELY
from tests.strategies.test_library import textbook_supertrend

PAGES = Path(__file__).resolve().parents[2] / "docs" / "strategies"
# The bar, 1 or -1, the strength, and how far the stop and the target are from the close.
Expected = tuple[int, int, float, float, float]
Array = NDArray[np.float64]


def banded(distance: float, close: float) -> float:
    return min(max(distance, close * 0.001), close * 0.03)


def supertrend(bars: Bars, numbers: dict[str, Any]) -> Iterator[Expected]:
    close = bars.arrays()[4]
    lines, trends = textbook_supertrend(bars.candles(), numbers["period"], numbers["multiplier"])
    _, _, highs, lows, closes, _ = bars.arrays()
    ranges = np.maximum(highs, np.r_[highs[0], closes[:-1]]) - np.minimum(lows, np.r_[lows[0], closes[:-1]])
    atr = ranges[: numbers["period"]].mean()
    for bar in range(numbers["period"], len(bars)):
        atr += (ranges[bar] - atr) / numbers["period"]
        if trends[bar] == -trends[bar - 1]:
            away = abs(close[bar] - lines[bar])
            strength = min(1.0, 0.5 + away / (4 * numbers["multiplier"] * atr))
            yield bar, trends[bar], strength, banded(away, close[bar]), 2 * banded(away, close[bar])


def breakout(bars: Bars, numbers: dict[str, Any]) -> Iterator[Expected]:
    _, _, high, low, close, volume = bars.arrays()
    lookback, near = numbers["lookback"], numbers["price_threshold"]
    for bar in range(lookback, len(bars)):
        before = slice(bar - lookback, bar)
        crowd = volume[bar] / (numbers["volume_multiplier"] * volume[before].mean())
        for side, level, reached in ((1, high[before].max(), high[before]), (-1, low[before].min(), low[before])):
            behind = level * (1 - side * near)
            at_level = np.r_[False, side * reached >= side * behind]
            touches = int((at_level[1:] & ~at_level[:-1]).sum()) / numbers["resistance_strength"]
            if side * close[bar] > side * level * (1 + side * near) and crowd > 1 and touches >= 1:
                stop = banded(abs(close[bar] - behind), close[bar])
                yield bar, side, 0.4 + 0.3 * min(crowd - 1, 1) + 0.3 * min(touches - 1, 1), stop, 2 * stop


def trend_following(bars: Bars, numbers: dict[str, Any]) -> Iterator[Expected]:
    _, _, high, low, close, _ = bars.arrays()
    sides = np.sign(talib.EMA(close, numbers["ma_fast"]) - talib.EMA(close, numbers["ma_slow"]))
    rsi = talib.RSI(close, numbers["rsi_period"])
    adx = talib.ADX(high, low, close, numbers["adx_period"])
    atr = talib.ATR(high, low, close, numbers["atr_period"])
    crossed, side = -math.inf, 0.0
    for bar in range(numbers["ma_slow"], len(bars)):
        if sides[bar] != sides[bar - 1] and not math.isnan(sides[bar - 1]):
            crossed, side = bar, sides[bar]
        room = 70 - rsi[bar] if side > 0 else rsi[bar] - 30
        if bar - crossed <= 5 and room > 0 and adx[bar] >= numbers["adx_threshold"]:
            crossed, stop = -math.inf, banded(2 * atr[bar], close[bar])
            strength = 0.5 + 0.3 * min((adx[bar] - numbers["adx_threshold"]) / 25, 1) + 0.2 * min(room / 20, 1)
            yield bar, int(side), strength, stop, 2 * stop


def mean_reversion(bars: Bars, numbers: dict[str, Any]) -> Iterator[Expected]:
    _, _, high, low, closes, _ = bars.arrays()
    rolling = pd.Series(closes).rolling(numbers["bollinger_period"])
    mean, deviation = rolling.mean().to_numpy(), rolling.std(ddof=0).to_numpy()
    score = (closes - mean) / deviation
    side, first, last = 0, 0, 0
    for bar in range(numbers["bollinger_period"], len(bars)):
        if abs(score[bar]) >= numbers["zscore"]:
            if side != -np.sign(score[bar]):
                side, first = -int(np.sign(score[bar])), bar
            last = bar
            continue
        outside = -side * score[bar] >= numbers["bollinger_deviations"]
        if side == 0 or (outside and bar - last < 5):
            continue
        stretch, extreme = slice(first, bar + 1), 0.0
        extreme = low[stretch].min() if side > 0 else high[stretch].max()
        stop, target = banded(abs(closes[bar] - extreme), closes[bar]), side * (mean[bar] - closes[bar])
        wide = 2 * numbers["bollinger_deviations"] * deviation[bar] >= numbers["min_volatility"] * mean[bar]
        inside = abs(score[bar]) < numbers["bollinger_deviations"]
        if inside and bar - last <= 5 and wide and target >= 1.5 * stop:
            farthest = np.abs(score[first : bar + 1])[-side * score[first : bar + 1] > 0].max()
            yield bar, side, min(1.0, 0.5 + 0.5 * (farthest - numbers["zscore"])), stop, target
        side = 0


def profile(bars: Bars, rows: int) -> tuple[float, float, float, float]:
    """POC, value area and strength of all bars given, volume laid out cell by cell."""
    _, _, high, low, _, volume = bars.arrays()
    edges = np.linspace(low.min(), high.max(), rows + 1)
    shared = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
    held = (volume[:, None] * np.maximum(shared, 0) / (high - low)[:, None]).sum(axis=0)
    first = last = most = int(held.argmax())
    while held[first : last + 1].sum() < 0.7 * held.sum():
        above = held[last + 1] if last + 1 < rows else -1
        below = held[first - 1] if first > 0 else -1
        first, last = (first, last + 1) if above >= below else (first - 1, last)
    poc = (edges[most] + edges[most + 1]) / 2
    return poc, edges[first], edges[last + 1], held[most] / held.mean()


def volume_profile(bars: Bars, numbers: dict[str, Any]) -> Iterator[Expected]:
    _, _, high, low, close, _ = bars.arrays()
    side, left = 0, 0
    for bar in range(numbers["lookback"] - 1, len(bars)):
        poc, bottom, top, strength = profile(bars[bar + 1 - numbers["lookback"] : bar + 1], numbers["rows"])
        outside = int(close[bar] < bottom) - int(close[bar] > top)
        if outside:
            side, left = (outside, bar) if outside != side else (side, left)
            continue
        was, side, stayed = side, 0, bar - left
        if was == 0 or stayed > 10 or strength < numbers["poc_strength"]:
            continue
        extreme = low[left : bar + 1].min() if was > 0 else high[left : bar + 1].max()
        stop = banded(abs(close[bar] - extreme), close[bar])
        rewards = [was * (poc - close[bar]), top - close[bar] if was > 0 else close[bar] - bottom]
        worth = [reward for reward in rewards if reward >= 1.5 * stop]
        if worth:
            dense = min(strength / numbers["poc_strength"] - 1, 1)
            yield bar, was, 0.5 + 0.25 * dense + 0.25 * (1 - (stayed - 1) / 10), stop, worth[0]


def sar_wave(bars: Bars, numbers: dict[str, Any]) -> Iterator[Expected]:
    _, _, high, low, close, _ = bars.arrays()
    period = numbers["flat_period"]
    flat = flat_market.flat_market_series(high, low, close, period, numbers["flat_lookback"])
    sar, waves = np.zeros(parabolic_sar.state_size()), np.zeros(elliott.state_size())
    for bar in range(len(bars)):
        before = sar[parabolic_sar.DIRECTION]
        parabolic_sar.parabolic_sar_update(sar, high[bar], low[bar], 0.02, 0.02, 0.2)
        wave = elliott.elliott_update(waves, high[bar], low[bar], close[bar], 0.0, numbers["swing_atr"], period)
        side, confidence = sar[parabolic_sar.DIRECTION], waves[elliott.CONFIDENCE]
        turned = before != 0 and side != before and flat[bar] >= numbers["min_flat_strength"]
        if not turned or wave not in (1, 2, 3, 4, 5) or confidence < numbers["min_wave_confidence"]:
            continue
        turns = waves[elliott.TURNS :][:3]
        retraced = abs(turns[0] - turns[1]) / abs(turns[1] - turns[2])
        levels = (0.236, 0.382, 0.5, 0.618, 0.786)
        is_near = any(abs(retraced - level) <= numbers["fibonacci_tolerance"] for level in levels)
        if side != waves[elliott.TREND] * (1 if wave % 2 else -1) or (wave in (3, 5) and not is_near):
            continue
        height = {1: 1.618, 2: 0.618, 3: 2.618, 4: 0.618, 5: 1.0}[int(wave)] * waves[elliott.FIRST_HEIGHT]
        target = side * (waves[elliott.WAVE_START] + side * height - close[bar])
        stop = banded(side * (close[bar] - sar[parabolic_sar.NEXT_STOP]), close[bar])
        if target >= 1.5 * stop:
            better = {1: 1.1, 3: 1.2, 5: 1.2}.get(int(wave), 1.0)
            yield bar, int(side), min(1.0, better * (0.6 * confidence + 0.4 * flat[bar])), stop, target


RULES: dict[str, Callable[[Bars, dict[str, Any]], Iterator[Expected]]] = {
    "supertrend": supertrend,
    "momentum.breakout": breakout,
    "momentum.trend_following": trend_following,
    "momentum.mean_reversion": mean_reversion,
    "sar_wave": sar_wave,
    "volume_profile": volume_profile,
}


@pytest.mark.parametrize("key", sorted(LIVELY))
def test_a_strategy_signals_where_its_rule_says_and_nowhere_else(key: str) -> None:
    bars = walk(2_000, 1)
    numbers = {spec.name: spec.default for spec in STRATEGIES[key].parameters} | LIVELY[key]
    at, rows, running = rows_at_once(key, bars, LIVELY[key])
    close = bars.arrays()[4][at]
    prices = [rows[:, Slot.STOP_LOSS], rows[:, Slot.TAKE_PROFIT]]
    columns = [at, rows[:, Slot.DIRECTION], rows[:, Slot.STRENGTH], *(np.abs(price - close) for price in prices)]
    found = np.array(columns).T
    expected = np.array(list(RULES[key](bars, numbers)))
    warm = running.warm_up  # other definitions of the first bars of an average differ
    found, expected = found[found[:, 0] >= warm], expected[expected[:, 0] >= warm]
    assert len(found) >= 5
    assert found[:, :2].tolist() == expected[:, :2].tolist()
    np.testing.assert_allclose(found[:, 2:], expected[:, 2:], rtol=1e-5, atol=1e-8)
    assert (np.sign(rows[:, Slot.TAKE_PROFIT] - close) == rows[:, Slot.DIRECTION]).all()


def test_configurations_of_supertrend_from_before_it_had_a_kernel_are_still_valid() -> None:
    kept = {"period": 10, "multiplier": 3.0, "reward_risk": 2.0, "min_stop_percent": 0.1, "max_stop_percent": 3.0}
    for timeframe in ("1", "5", "15", "30", "60", "240"):
        parameters = kept | {"timeframe": timeframe}
        assert parse_parameters(STRATEGIES["supertrend"].parameters, parameters) == parameters


def test_a_breakout_needs_a_level_that_was_tested_and_a_crowd() -> None:
    hour = np.full(60, 100.0)
    hour[[10, 11, 25, 40]] = 101.0  # three visits to the level
    calm, crowd = np.full(61, 5.0), np.full(61, 5.0)
    crowd[-1] = 20.0
    closes = np.r_[hour, 101.5]
    parameters = {"lookback": 50}
    for volume, touches, signals in ((crowd, 3, 1), (crowd, 4, 0), (calm, 3, 0)):
        bars = made(closes, np.full((2, 61), 1e-4), volume, 5, 2)
        at, rows, running = rows_at_once("momentum.breakout", bars, parameters | {"resistance_strength": touches})
        assert len(at) == signals
    at, rows, running = rows_at_once("momentum.breakout", made(closes, np.full((2, 61), 1e-4), crowd, 5, 2), parameters)
    signal = running.signal(bars.candle(60), rows[0])
    assert (signal.side, signal.entry_price) == ("Buy", bars.candle(60).close)
    assert "resistance 101.01 of 50 bars of 5 m, touched 3 times, on 4.0 x mean volume" in signal.reason


@pytest.mark.parametrize("key", sorted(STRATEGIES))
def test_the_page_of_a_strategy_names_its_parameters_and_says_what_it_did(key: str) -> None:
    page = (PAGES / f"{key}.md").read_text()
    assert page.startswith(f"# {STRATEGIES[key].title}\n")
    assert all(f"## {part}\n" in page for part in ("Rule", "Parameters", "When it fails", "A trade", "Results"))
    assert f"](../images/strategies/{key}.svg)" in page and (PAGES / f"../images/strategies/{key}.svg").is_file()
    for spec in STRATEGIES[key].parameters:
        span = ", ".join(spec.choices) or f"{spec.minimum:g} to {spec.maximum:g}"
        assert f"| `{spec.name}` | {spec.default} | {span} | {spec.unit} | {spec.help} |" in page
