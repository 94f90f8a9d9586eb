"""Indicators that TA-Lib has not, against their definitions over whole windows; and what all have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategies.indicators import (
    adx,
    atr,
    bollinger,
    donchian,
    elliott,
    ema,
    flat_market,
    macd,
    parabolic_sar,
    realised_volatility,
    rsi,
    sma,
    volume_profile,
    vwap,
    zigzag,
    zscore,
)
from tests.strategies.indicators.bars import MADE_UP, Bars, made_up

Lines = NDArray[np.float64]

ALL: dict[str, tuple[Callable[[Bars], Lines], Callable[[], Lines], Callable[..., float]]] = {
    "sma": (
        lambda b: sma.sma_series(b.close, 7),
        lambda: np.zeros(sma.state_size(7)),
        lambda s, t, hi, lo, c, v: sma.sma_update(s, c, 7),
    ),
    "ema": (
        lambda b: ema.ema_series(b.close, 7),
        lambda: np.zeros(ema.state_size()),
        lambda s, t, hi, lo, c, v: ema.ema_update(s, c, 7),
    ),
    "rsi": (
        lambda b: rsi.rsi_series(b.close, 7),
        lambda: np.zeros(rsi.state_size()),
        lambda s, t, hi, lo, c, v: rsi.rsi_update(s, c, 7),
    ),
    "atr": (
        lambda b: atr.atr_series(b.high, b.low, b.close, 7),
        lambda: np.zeros(atr.state_size()),
        lambda s, t, hi, lo, c, v: atr.atr_update(s, hi, lo, c, 7),
    ),
    "adx": (
        lambda b: adx.adx_series(b.high, b.low, b.close, 7),
        lambda: np.zeros(adx.state_size()),
        lambda s, t, hi, lo, c, v: adx.adx_update(s, hi, lo, c, 7),
    ),
    "bollinger": (
        lambda b: bollinger.bollinger_series(b.close, 7, 2.0),
        lambda: np.zeros(bollinger.state_size(7)),
        lambda s, t, hi, lo, c, v: bollinger.bollinger_update(s, c, 7, 2.0),
    ),
    "macd": (
        lambda b: macd.macd_series(b.close, 5, 9, 4),
        lambda: np.zeros(macd.state_size()),
        lambda s, t, hi, lo, c, v: macd.macd_update(s, c, 5, 9, 4),
    ),
    "parabolic_sar": (
        lambda b: parabolic_sar.parabolic_sar_series(b.high, b.low, 0.02, 0.02, 0.2),
        lambda: np.zeros(parabolic_sar.state_size()),
        lambda s, t, hi, lo, c, v: parabolic_sar.parabolic_sar_update(s, hi, lo, 0.02, 0.02, 0.2),
    ),
    "donchian": (
        lambda b: donchian.donchian_series(b.high, b.low, 7),
        lambda: np.zeros(donchian.state_size(7)),
        lambda s, t, hi, lo, c, v: donchian.donchian_update(s, hi, lo, 7),
    ),
    "zscore": (
        lambda b: zscore.zscore_series(b.close, 7),
        lambda: np.zeros(zscore.state_size(7)),
        lambda s, t, hi, lo, c, v: zscore.zscore_update(s, c, 7),
    ),
    "vwap": (
        lambda b: vwap.vwap_series(b.start_ms, b.high, b.low, b.close, b.volume),
        lambda: np.zeros(vwap.state_size()),
        lambda s, t, hi, lo, c, v: vwap.vwap_update(s, t, hi, lo, c, v),
    ),
    "realised_volatility": (
        lambda b: realised_volatility.realised_volatility_series(b.close, 7),
        lambda: np.zeros(realised_volatility.state_size(7)),
        lambda s, t, hi, lo, c, v: realised_volatility.realised_volatility_update(s, c, 7),
    ),
    "volume_profile": (
        lambda b: volume_profile.volume_profile_series(b.high, b.low, b.close, b.volume, 20, 12, 0.7),
        lambda: np.zeros(volume_profile.state_size(20, 12)),
        lambda s, t, hi, lo, c, v: volume_profile.volume_profile_update(s, hi, lo, c, v, 20, 12, 0.7),
    ),
    "flat_market": (
        lambda b: flat_market.flat_market_series(b.high, b.low, b.close, 7, 20),
        lambda: np.zeros(flat_market.state_size(7, 20)),
        lambda s, t, hi, lo, c, v: flat_market.flat_market_update(s, hi, lo, c, 7, 20),
    ),
    "zigzag": (
        lambda b: zigzag.zigzag_series(b.high, b.low, b.close, 0.5, 2.0, 7),
        lambda: np.zeros(zigzag.state_size()),
        lambda s, t, hi, lo, c, v: zigzag.zigzag_update(s, hi, lo, c, 0.5, 2.0, 7),
    ),
    "elliott": (
        lambda b: elliott.elliott_series(b.high, b.low, b.close, 0.5, 2.0, 7),
        lambda: np.zeros(elliott.state_size()),
        lambda s, t, hi, lo, c, v: elliott.elliott_update(s, hi, lo, c, 0.5, 2.0, 7),
    ),
}


@pytest.mark.parametrize("name", ALL)
def test_bar_by_bar_is_what_the_whole_array_gives(name: str) -> None:
    series, new_state, update = ALL[name]
    bars, state = made_up("wild", 400), new_state()
    rows = zip(*(getattr(bars, field).tolist() for field in Bars.__slots__), strict=True)
    line = np.array([update(state, *row) for row in rows])
    np.testing.assert_array_equal(line, np.atleast_2d(series(bars))[0])
    assert np.isfinite(line[-1])


def bad_bars() -> list[dict[str, float]]:
    return [
        {"high": math.nan, "low": math.nan, "close": math.nan, "volume": math.nan},
        {"high": math.inf, "close": math.inf},
        {"low": -math.inf, "close": -math.inf},
    ]


@pytest.mark.parametrize("name", ALL)
def test_a_bar_that_cannot_be_is_passed_over_as_if_it_had_not_come(name: str) -> None:
    series, _, _ = ALL[name]
    good = made_up("wild", 300)
    places = np.array([0, 1, 5, 20, 21, 22, 150, 299])
    bad = Bars(*(np.insert(getattr(good, field), places, getattr(good, field)[places]) for field in Bars.__slots__))
    at = places + np.arange(len(places))
    for index, place in enumerate(at):
        for field, value in bad_bars()[index % 3].items():
            getattr(bad, field)[place] = value
    with_them, without = np.atleast_2d(series(bad)), np.atleast_2d(series(good))
    np.testing.assert_array_equal(np.delete(with_them, at, axis=1), without)
    assert np.isnan(with_them[0, at]).all()


@pytest.mark.parametrize("name", ["atr", "adx", "vwap", "volume_profile", "flat_market", "zigzag", "elliott"])
def test_a_close_beyond_its_own_bar_is_no_bar(name: str) -> None:
    series, _, _ = ALL[name]
    bars = made_up("calm", 200)
    bars.close[190] = bars.high[190] * 1.1
    assert np.isnan(np.atleast_2d(series(bars))[0, 190])


@pytest.mark.parametrize("spike", [1e12, -1e9])
def test_what_passed_through_a_window_leaves_nothing_behind(spike: float) -> None:
    closes = made_up("calm", 500).close
    closes[250] = spike
    windows = np.lib.stride_tricks.sliding_window_view(closes, 20)[300:]
    np.testing.assert_allclose(sma.sma_series(closes, 20)[319:], windows.mean(axis=1), rtol=1e-14)
    upper, middle = bollinger.bollinger_series(closes, 20, 1.0)[[1, 0], 319:]
    np.testing.assert_allclose(upper - middle, windows.std(axis=1), rtol=1e-9, atol=1e-9)


def test_sums_do_not_drift_over_a_million_bars() -> None:
    rng = np.random.default_rng(4)
    closes = 60_000 * np.exp(np.cumsum(rng.normal(0, 0.002, 1_000_000)))
    last = closes[-50:]
    assert sma.sma_series(closes, 50)[-1] == pytest.approx(math.fsum(last) / 50, rel=3e-16)
    upper, middle = bollinger.bollinger_series(closes, 50, 1.0)[[1, 0], -1]
    assert upper - middle == pytest.approx(last.std(), rel=1e-11)
    changes = np.diff(np.log(closes))[-50:]
    volatility = realised_volatility.realised_volatility_series(closes, 50)[-1]
    assert volatility == pytest.approx(math.sqrt(math.fsum(changes**2) / 50), rel=1e-12)


prices = st.lists(st.integers(1, 40), min_size=1, max_size=120)


@given(prices, st.integers(1, 15))
@settings(max_examples=60, deadline=None)
def test_a_channel_is_the_highest_and_lowest_of_its_bars(walk: list[int], period: int) -> None:
    high, low = np.array(walk, dtype=float) + 1, np.array(walk, dtype=float)
    middle, upper, lower = donchian.donchian_series(high, low, period)
    highest = pd.Series(high).rolling(period).max().to_numpy()
    lowest = pd.Series(low).rolling(period).min().to_numpy()
    np.testing.assert_array_equal(upper, highest)
    np.testing.assert_array_equal(lower, lowest)
    np.testing.assert_array_equal(middle, (highest + lowest) / 2)


def test_a_breakout_is_judged_by_the_channel_before_its_bar() -> None:
    state = np.zeros(donchian.state_size(2))
    seen = []
    for high, low in ((10, 9), (11, 8), (15, 10)):
        donchian.donchian_update(state, high, low, 2)
        seen.append((state[donchian.PREVIOUS_UPPER], state[donchian.UPPER], state[donchian.PREVIOUS_LOWER]))
    assert all(math.isnan(value) for value in (seen[0][0], seen[1][0], seen[1][2]))
    assert seen[2] == (11, 15, 8)


@pytest.mark.parametrize("kind", MADE_UP)
def test_vwap_is_of_its_day_alone(kind: str) -> None:
    bars = made_up(kind)
    bars.volume[1_440:1_444] = 0
    frame = pd.DataFrame({"day": bars.start_ms // 86_400_000, "volume": bars.volume})
    frame["worth"] = bars.volume * (bars.high + bars.low + bars.close) / 3
    sums = frame.groupby("day").cumsum()
    expected = (sums.worth / sums.volume).to_numpy()
    line = vwap.vwap_series(bars.start_ms, bars.high, bars.low, bars.close, bars.volume)
    np.testing.assert_allclose(line, expected, rtol=1e-12)
    assert np.isnan(line[1_440:1_444]).all() and np.isfinite(line[1_444])


@pytest.mark.parametrize("kind", MADE_UP)
def test_realised_volatility_is_the_root_mean_square_of_returns(kind: str) -> None:
    closes = made_up(kind).close
    expected = (pd.Series(np.log(closes)).diff() ** 2).rolling(30).mean() ** 0.5
    line = realised_volatility.realised_volatility_series(closes, 30)
    np.testing.assert_allclose(line, expected.to_numpy(), rtol=1e-9)


def textbook_profile(
    bars: Bars, end: int, lookback: int, rows: int, share: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Volume by row, and the edges of the rows, of the ``lookback`` bars up to ``end``."""
    window = bars.part(slice(end - lookback, end))
    edges = np.linspace(window.low.min(), window.high.max(), rows + 1)
    volumes = np.zeros(rows)
    for high, low, volume in zip(window.high, window.low, window.volume, strict=True):
        overlap = np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0, None)
        volumes += volume * overlap / overlap.sum()
    return volumes, edges


@pytest.mark.parametrize("kind", MADE_UP)
def test_a_volume_profile_is_that_of_its_window(kind: str) -> None:
    bars, lookback, rows = made_up(kind, 400), 60, 24
    line = volume_profile.volume_profile_series(bars.high, bars.low, bars.close, bars.volume, lookback, rows, 0.7)
    assert np.isnan(line[:, : lookback - 1]).all()
    for end in range(lookback, 401):
        volumes, edges = textbook_profile(bars, end, lookback, rows, 0.7)
        poc, high, low, strength = line[:, end - 1]
        row = int((poc - edges[0]) / (edges[1] - edges[0]))
        assert volumes[row] == pytest.approx(volumes.max(), rel=1e-9)
        assert strength == pytest.approx(volumes.max() / volumes.mean(), rel=1e-9)
        first, last = (round((price - edges[0]) / (edges[1] - edges[0])) for price in (low, high))
        assert first <= row < last
        held = volumes[first:last].sum() / volumes.sum()
        # It holds the share, and would not without the last row that it took.
        assert held >= 0.7 - 1e-9
        assert held - max(volumes[first], volumes[last - 1]) / volumes.sum() < 0.7 + 1e-9


def test_volume_at_one_price_is_all_there_is() -> None:
    flat, volumes = np.full(30, 7.0), np.ones(30)
    poc, high, low, _ = volume_profile.volume_profile_series(flat, flat, flat, volumes, 10, 8, 0.7)[:, -1]
    assert (poc, high, low) == (7.0, 7.0, 7.0)
    nothing = volume_profile.volume_profile_series(flat + 1, flat, flat, volumes * 0, 10, 8, 0.7)
    assert np.isnan(nothing).all()


@pytest.mark.parametrize("kind", MADE_UP)
def test_flat_strength_is_made_of_trend_width_and_rise(kind: str) -> None:
    bars, period, lookback = made_up(kind, 600), 14, 50
    line = flat_market.flat_market_series(bars.high, bars.low, bars.close, period, lookback)
    index = talib.ADX(bars.high, bars.low, bars.close, period)
    ranged = talib.ATR(bars.high, bars.low, bars.close, period)
    windows = np.lib.stride_tricks.sliding_window_view(bars.close, period)
    widths = pd.Series([math.nan] * (period - 1) + [4 * w.std() / w.mean() for w in windows])
    for at in range(lookback + period - 1, 600):
        recent = widths[at - lookback + 1 : at + 1]
        narrow = 1 - (recent < recent.iloc[-1]).sum() / (lookback - 1)
        rise = np.polyfit(np.arange(period), bars.close[at - period + 1 : at + 1], 1)[0] * (period - 1)
        level = max(0, 1 - abs(rise) / (ranged[at] * math.sqrt(period)))
        calm = min(1, max(0, (30 - index[at]) / 15))
        assert line[at] == pytest.approx(0.4 * calm + 0.3 * narrow + 0.3 * level, abs=1e-7)
    assert np.isnan(line[: lookback + period - 2]).all()


def test_a_market_that_goes_nowhere_is_flatter_than_chance_and_a_trend_is_not_flat() -> None:
    rng, shape = np.random.default_rng(3), (4_000, 20)

    def strength(ticks: Lines) -> float:
        high, low, close = ticks.max(axis=1), ticks.min(axis=1), np.ascontiguousarray(ticks[:, -1])
        return float(np.nanmedian(flat_market.flat_market_series(high, low, close, 14, 100)))

    chance = 1_000 + np.cumsum(rng.normal(0, 0.1, shape)).reshape(shape)
    noise = 1_000 + rng.normal(0, 1, shape)
    trend = chance + 0.3 * np.arange(shape[0])[:, None]
    assert strength(noise) > 0.7 > 0.6 > strength(chance) > 0.4 > 0.2 > strength(trend)


def turns_by_the_book(walk: list[int], percent: float) -> list[tuple[int, int]]:
    """(bar, kind) of every confirmed turn of closes, one after the other."""
    found: list[tuple[int, int]] = []
    low = high = 0
    extreme, direction = 0, 0
    for at, price in enumerate(walk):
        if direction == 0:
            high, low = (at if price > walk[high] else high), (at if price < walk[low] else low)
            if price - walk[low] >= walk[low] * percent / 100 and low < at:
                found, direction, extreme = [(low, -1)], 1, at
            elif walk[high] - price >= walk[high] * percent / 100 and high < at:
                found, direction, extreme = [(high, 1)], -1, at
        elif (price - walk[extreme]) * direction > 0:
            extreme = at
        elif (walk[extreme] - price) * direction >= walk[extreme] * percent / 100:
            found.append((extreme, direction))
            extreme, direction = at, -direction
    return found


@given(prices, st.sampled_from([5.0, 20.0, 60.0]))
@settings(max_examples=80, deadline=None)
def test_the_turns_of_closes_are_those_of_the_book(walk: list[int], percent: float) -> None:
    state, found = np.zeros(zigzag.state_size()), []
    for price in walk:
        zigzag.zigzag_update(state, price, price, price, percent, 0.0, 14)
        if state[zigzag.CONFIRMED]:
            found.append((int(state[zigzag.PIVOT_BAR]), int(state[zigzag.PIVOT_KIND])))
            assert walk[found[-1][0]] == state[zigzag.PIVOT]
    assert found == turns_by_the_book(walk, percent)
    assert all(a[1] == -b[1] for a, b in pairwise(found))


def test_turns_by_true_range_wait_for_the_range_and_lie_on_highs_and_lows() -> None:
    bars = made_up("calm", 1_000)
    ranged = talib.ATR(bars.high, bars.low, bars.close, 14)
    state, before, turns = np.zeros(zigzag.state_size()), math.nan, 0
    for at, (high, low, close) in enumerate(zip(bars.high, bars.low, bars.close, strict=True)):
        zigzag.zigzag_update(state, high, low, close, 0.0, 3.0, 14)
        if not state[zigzag.CONFIRMED]:
            continue
        turns += 1
        kind, pivot = state[zigzag.PIVOT_KIND], state[zigzag.PIVOT]
        assert pivot == (bars.high if kind > 0 else bars.low)[int(state[zigzag.PIVOT_BAR])]
        assert abs(state[zigzag.EXTREME] - pivot) >= 3 * ranged[at] * 0.999999
        assert turns == 1 or (pivot - before) * kind > 0
        before = pivot
    assert turns > 20


def wave_state(turns: list[float], running: float) -> Any:
    """The indicator after prices went through all turns, and on to ``running``; a twentieth of a percent turns them."""
    state = np.zeros(elliott.state_size())
    for turn in [*turns, running]:
        elliott.elliott_update(state, turn, turn, turn, 0.05, 0.0, 14)
    return state


# Wave 2 takes 0.5 of 1, 3 is 1.618 of 1, 4 takes 0.382 of 3, 5 equals 1; A takes 0.382 of all, B half of A, C equals A.
IMPULSE = [1_000.0, 1_100.0, 1_050.0, 1_211.8, 1_150.0, 1_250.0]
CORRECTION = [1_154.5, 1_202.25, 1_106.75]


@pytest.mark.parametrize("mirrored", [False, True])
def test_perfect_waves_are_counted_one_by_one(mirrored: bool) -> None:
    sign = -1 if mirrored else 1
    turns = [3_000 + sign * price for price in IMPULSE + CORRECTION]
    ahead = [turns[index] + (turns[index] - turns[index - 1]) * -0.3 for index in range(1, len(turns))]
    counted = [wave_state(turns[: index + 2], ahead[index]) for index in range(len(ahead))]
    assert [int(state[elliott.WAVE]) for state in counted] == [2, 3, 4, 5, 6, 7, 8, 1]
    assert {int(state[elliott.TREND]) for state in counted} == {sign}
    ended = np.arange(1, 9)
    confidences = [state[elliott.CONFIDENCE] for state in counted]
    assert confidences[0] == 0.25
    assert confidences[1:] == pytest.approx(list(1 - 0.5 ** ended[1:]), abs=0.002)
    assert [state[elliott.FIRST_HEIGHT] for state in counted[:7]] == pytest.approx([100] * 7)


def longest_count(turns: list[float], running: float) -> tuple[int, float]:
    """Of a count that starts at the first turn: the wave under way and its trend, (0, 0) where another one is surer."""
    state = wave_state(turns, running)
    started = state[elliott.FIRST_HEIGHT] == pytest.approx(abs(turns[1] - turns[0]))
    same = int(state[elliott.WAVE]) == len(turns)
    return (int(state[elliott.WAVE]), float(state[elliott.TREND])) if started and same else (0, 0.0)


@pytest.mark.parametrize(
    ("why", "turns", "running"),
    [
        ("wave 2 went below the start", [1_000, 1_100, 990], 1_050),
        ("wave 2 under way goes below the start", [1_000, 1_100], 995),
        ("wave 3 did not pass wave 1", [1_000, 1_100, 1_050, 1_095], 1_080),
        ("wave 4 came back into wave 1", [1_000, 1_100, 1_050, 1_211, 1_095], 1_150),
        ("wave 4 under way comes back into wave 1", [1_000, 1_100, 1_050, 1_211], 1_099),
        ("wave 3 is the shortest", [1_000, 1_100, 1_050, 1_130, 1_110, 1_300], 1_250),
        ("the correction undoes everything", [*IMPULSE, 1_154, 1_200, 999], 1_050),
    ],
)
def test_a_count_that_breaks_a_rule_is_none(why: str, turns: list[float], running: float) -> None:
    assert longest_count(turns, running) == (0, 0.0), why


@given(st.lists(st.integers(20, 300), min_size=9, max_size=9), st.sampled_from([2.0, 16.0, 1_024.0]))
@settings(max_examples=60, deadline=None)
def test_a_count_knows_no_scale_and_no_up_or_down(legs: list[int], scale: float) -> None:
    walk = np.cumsum([10_000.0, *(leg * (-1) ** index for index, leg in enumerate(legs))])

    def count(prices: Lines) -> tuple[int, float, float]:
        state = wave_state(list(prices[:-1]), float(prices[-1]))
        return int(state[elliott.WAVE]), float(state[elliott.TREND]), float(state[elliott.CONFIDENCE])

    wave, trend, confidence = count(walk)
    assert 0 <= confidence < 1
    assert count(20_000 - walk) == (wave, -trend, pytest.approx(confidence, abs=1e-6))
    assert count(walk * scale) == (wave, trend, pytest.approx(confidence, abs=1e-6))
