"""Strategies decide by their data alone."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.engine.feature_table import FEATURES, feature_index
from marketdata.events import BookView, Candle
from strategies.base import ParameterError, parse_parameters
from strategies.indicators.supertrend import DIRECTION, new_state, supertrend_update
from strategies.library import STRATEGIES
from strategies.signals import Signal, SignalError

D = Decimal


def candles(count: int, seed: int = 5) -> list[Candle]:
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, count)))
    made = []
    for index in range(count):
        opened, close = closes[max(0, index - 1)], closes[index]
        high, low = max(opened, close) * 1.003, min(opened, close) * 0.997
        values = [D(str(round(value, 4))) for value in (opened, high, low, close)]
        made.append(Candle("BTCUSDT", "1", index * 60_000, *values, D(1), D(1), True))
    return made


def textbook_supertrend(bars: list[Candle], period: int, multiplier: float) -> tuple[list[float], list[int]]:
    """The published recursion, bar by bar, over a pandas Wilder average."""
    frame = pd.DataFrame(
        {"h": [float(b.high) for b in bars], "l": [float(b.low) for b in bars], "c": [float(b.close) for b in bars]}
    )
    previous = frame.c.shift()
    ranges = pd.concat([frame.h - frame.l, (frame.h - previous).abs(), (frame.l - previous).abs()], axis=1).max(axis=1)
    atr = [math.nan] * len(bars)
    atr[period - 1] = ranges[:period].mean()
    for index in range(period, len(bars)):
        atr[index] = (atr[index - 1] * (period - 1) + ranges[index]) / period
    lines, directions, upper, lower, direction = [], [], math.nan, math.nan, 0
    for index, (high, low, close) in enumerate(frame.itertuples(index=False)):
        if index < period - 1:
            lines.append(math.nan)
            directions.append(0)
            continue
        middle, width = (high + low) / 2, multiplier * atr[index]
        if direction == 0:
            upper, lower, direction = middle + width, middle - width, 1 if close > middle else -1
        else:
            upper = middle + width if middle + width < upper or frame.c[index - 1] > upper else upper
            lower = middle - width if middle - width > lower or frame.c[index - 1] < lower else lower
            direction = (
                -1 if direction == 1 and close < lower else 1 if direction == -1 and close > upper else direction
            )
        lines.append(lower if direction == 1 else upper)
        directions.append(direction)
    return lines, directions


def test_supertrend_equals_the_textbook_on_every_bar() -> None:
    bars = candles(600)
    lines, directions = textbook_supertrend(bars, 10, 3.0)
    state = new_state()
    for index, bar in enumerate(bars):
        line = supertrend_update(state, float(bar.high), float(bar.low), float(bar.close), 10, 3.0)
        assert int(state[DIRECTION]) == directions[index]
        assert (math.isnan(line) and math.isnan(lines[index])) or line == pytest.approx(lines[index], rel=1e-12)
    assert {1, -1} <= set(directions)


def run_supertrend(bars: list[Candle]) -> list[Signal]:
    kind = STRATEGIES["supertrend"]
    strategy = kind.create("BTCUSDT", parse_parameters(kind.parameters, {"timeframe": "1", "multiplier": 2}))
    return [signal for bar in bars if (signal := strategy.on_candle(bar)) is not None]


def test_supertrend_signals_on_flips_alternate_and_keep_their_stop_on_the_right_side() -> None:
    signals = run_supertrend(candles(800))
    assert len(signals) > 5
    assert all(a.side != b.side for a, b in pairwise(signals))
    assert all(signal.reward >= signal.risk * D("1.5") for signal in signals)


def test_supertrend_never_looks_ahead() -> None:
    bars = candles(500)
    whole = run_supertrend(bars)
    for cut in (150, 300, 450):
        assert run_supertrend(bars[:cut]) == [
            s for s in whole if s.time_ns <= bars[cut - 1].start_ms * 10**6 + 60 * 10**9
        ]


def test_an_open_or_repeated_candle_is_no_news() -> None:
    bars = candles(300)
    noisy: list[Candle] = []
    for bar in bars:
        noisy += [Candle(*[getattr(bar, n) for n in Candle.__slots__][:-1], False), bar, bar]
    assert run_supertrend(noisy) == run_supertrend(bars)


def view(imbalance: float, milliseconds: int) -> BookView:
    features = np.full(len(FEATURES), np.nan)
    features[feature_index("imbalance_5")] = imbalance
    return BookView("BTCUSDT", "LIVE", milliseconds * 10**6, 0, 1, D("100.0"), D("100.01"), features)


def imbalance_strategy(**changes: Any) -> Any:
    kind = STRATEGIES["scalping.imbalance"]
    return kind.create("BTCUSDT", parse_parameters(kind.parameters, {"hold_ms": 500, "cooldown_s": 1} | changes))


def test_imbalance_must_last_before_it_is_a_signal_and_rests_afterwards() -> None:
    strategy = imbalance_strategy()
    assert strategy.on_book(view(0.6, 0)) is None
    assert strategy.on_book(view(0.6, 400)) is None
    signal = strategy.on_book(view(0.6, 500))
    assert signal is not None and (signal.side, signal.entry_price) == ("Buy", D("100.01"))
    assert "bid share 0.80" in signal.reason and "threshold 0.70" in signal.reason
    assert strategy.on_book(view(0.6, 900)) is None
    assert strategy.on_book(view(0.6, 1600)) is not None


def test_imbalance_that_wavers_starts_to_last_anew() -> None:
    strategy = imbalance_strategy()
    strategy.on_book(view(0.6, 0))
    strategy.on_book(view(0.1, 300))
    assert strategy.on_book(view(0.6, 600)) is None
    assert strategy.on_book(view(-0.9, 700)) is None
    signal = strategy.on_book(view(-0.9, 1300))
    assert signal is not None and signal.side == "Sell"


def test_a_wide_spread_is_no_place_to_trade() -> None:
    strategy = imbalance_strategy(max_spread_percent=0.005)
    strategy.on_book(view(0.9, 0))
    assert strategy.on_book(view(0.9, 900)) is None


@pytest.mark.parametrize("kind", sorted(STRATEGIES))
def test_defaults_are_valid_parameters(kind: str) -> None:
    specs = STRATEGIES[kind].parameters
    parsed = parse_parameters(specs, {})
    assert parsed == {spec.name: spec.default for spec in specs} and all(spec.help for spec in specs)


@pytest.mark.parametrize(
    ("name", "value"),
    [("period", 1), ("period", 2.5), ("period", "ten"), ("multiplier", True), ("timeframe", "7"), ("perod", 1)],
)
def test_a_wrong_parameter_is_refused_with_name_value_and_rule(name: str, value: object) -> None:
    with pytest.raises(ParameterError) as refused:
        parse_parameters(STRATEGIES["supertrend"].parameters, {name: value})
    assert (refused.value.name, refused.value.value) == (name, value) and refused.value.rule


@given(st.sampled_from(["Buy", "Sell"]), st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
def test_a_signal_with_too_little_reward_or_a_wrong_side_cannot_exist(
    side: str, entry: int, profit: int, stop: int
) -> None:
    direction = 1 if side == "Buy" else -1
    reward, risk = (profit - entry) * direction, (entry - stop) * direction
    values = ("test", "BTCUSDT", side, 0.5, D(entry), D(profit), D(stop), "why", 0)
    if reward > 0 and risk > 0 and reward >= risk * 1.5:
        assert Signal(*values).reward == reward
    else:
        with pytest.raises(SignalError):
            Signal(*values)
