"""Signals become one by the results of those that made them: by symbol and regime, in the data's own time."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marketdata.events import Candle
from strategies.signals import Signal
from strategies.weights import (
    CALM_RANGE,
    CALM_TREND,
    RECENT,
    REGIMES,
    SAMPLES,
    VOLATILE_RANGE,
    VOLATILE_TREND,
    Combiner,
    Combining,
    Listening,
    Performance,
    Vote,
    combine,
    raw_weights_of,
    regimes_of,
)

D = Decimal
MINUTE = 60_000


def signal(
    minute: int = 0, side: str = "Buy", strength: float = 0.5, strategy: str = "one", symbol: str = "BTCUSDT"
) -> Signal:
    """At 100, for 2 of profit or 1 of loss."""
    direction = 1 if side == "Buy" else -1
    exits = D(100 + 2 * direction), D(100 - direction)
    return Signal(strategy, symbol, side, strength, D(100), *exits, "why", minute * MINUTE * 1_000_000)


def candle(minute: int, low: float, high: float, close: float = 100.0, symbol: str = "BTCUSDT") -> Candle:
    values = (D(str(value)) for value in (close, high, low, close))
    return Candle(symbol, "1", minute * MINUTE, *values, D(1), D(1), True)


votes = st.lists(
    st.tuples(st.integers(1, 1_000), st.integers(0, 100), st.sampled_from(["Buy", "Sell"])), min_size=2, max_size=6
)


@given(votes, st.integers(0, 100))
@example([(261, 0, "Buy"), (261, 89, "Buy")], 0)
def test_the_weighted_mean_decides_direction_and_strength(drawn: list[tuple[int, int, str]], percent: int) -> None:
    least = percent / 100
    many = [
        Vote(key, weight / 100, signal(side=side, strength=strength / 100))
        for key, (weight, strength, side) in enumerate(drawn)
    ]
    mean = sum(w * s * (1 if side == "Buy" else -1) for w, s, side in drawn) / sum(w for w, _, _ in drawn) / 100
    found = combine(many, least)
    if found.carrier is None:
        assert abs(mean) < least + 1e-9 or abs(mean) < 1e-9
        return
    assert abs(mean) >= least - 1e-9
    assert found.carrier.signal.direction == (1 if mean > 0 else -1)
    assert found.carrier.signal.strength == pytest.approx(abs(mean))
    side = [abs(vote.pull) for vote in many if vote.signal.direction == found.carrier.signal.direction]
    assert abs(many[found.carrier.key].pull) == max(side)
    # The words have two decimals; of half of one, floats decide either way.
    (told,) = re.findall(r"weighted sum ([+-][0-9.]+) of", found.carrier.signal.reason)
    assert abs(float(told) - mean) <= 0.005 + 1e-9


def test_the_strongest_vote_of_the_direction_lends_its_levels_and_words() -> None:
    weak = replace(signal(strength=0.3, strategy="weak"), stop_loss=D("99.5"))
    strong = signal(strength=0.9, strategy="strong")
    against = signal(side="Sell", strength=0.4, strategy="against")
    found = combine([Vote(1, 1.0, weak), Vote(2, 1.0, strong), Vote(3, 1.0, against)], 0.2)
    assert found.carrier is not None and found.carrier.key == 2
    assert found.carrier.signal.stop_loss == strong.stop_loss
    assert found.carrier.signal.strength == pytest.approx(0.8 / 3)
    assert found.words == (
        "weighted sum +0.27 of weak Buy 0.30 x 1.00, strong Buy 0.90 x 1.00, against Sell 0.40 x 1.00"
    )


def test_what_asks_for_a_model_still_does_in_company_that_agrees() -> None:
    asks = replace(signal(strength=0.3), metadata=MappingProxyType({"min_probability": 0.8}))
    other = signal(strength=0.9)
    found = combine([Vote(1, 1.0, asks), Vote(2, 1.0, other)], 0.0)
    assert found.carrier is not None and found.carrier.signal.metadata["min_probability"] == 0.8
    found = combine([Vote(1, 1.0, asks), Vote(2, 1.0, signal(side="Sell", strength=0.9))], 0.0)
    assert found.carrier is not None and "min_probability" not in found.carrier.signal.metadata


def test_weights_are_one_without_results_and_follow_from_a_symbols_own() -> None:
    rng = np.random.default_rng(1)
    results, counts = rng.normal(0, 5, (4, 30, REGIMES)), rng.integers(1, 50, (4, 30, REGIMES)).astype(float)
    regimes = rng.integers(0, REGIMES, 30)
    made = raw_weights_of(results, counts, regimes, prior=10.0, gain=2.0)
    # One symbol alone gives what it gives among others.
    alone = raw_weights_of(results[:, 7:8], counts[:, 7:8], regimes[7:8], prior=10.0, gain=2.0)
    np.testing.assert_allclose(alone[:, 0], made[:, 7])
    nothing = np.zeros((4, 30, REGIMES))
    assert (raw_weights_of(nothing, nothing, regimes, prior=10.0, gain=2.0) == 1).all()


def test_a_strategy_counts_by_what_it_did_in_the_regime_of_the_moment() -> None:
    results, counts = np.zeros((2, 1, REGIMES)), np.zeros((2, 1, REGIMES))
    counts[:, 0, [CALM_RANGE, CALM_TREND]] = 40
    results[0, 0, CALM_TREND], results[0, 0, CALM_RANGE] = 40, -40
    in_trend, in_range = (
        raw_weights_of(results, counts, np.array([regime]), prior=10.0, gain=2.0)[:, 0]
        for regime in (CALM_TREND, CALM_RANGE)
    )
    assert in_trend[0] > 1.5 > 1 == in_trend[1]
    assert in_range[0] < 0.5 < 1 == in_range[1]


def test_regimes_are_told_by_direction_and_by_how_the_price_moved_before() -> None:
    sway = np.where(np.arange(SAMPLES - 1) % 2, 0.001, -0.001)
    now = np.arange(SAMPLES - 1) >= SAMPLES - 1 - RECENT
    changes = [
        np.where(now, 0.2, 1) * sway,
        np.where(now, 5, 1) * sway,
        np.where(now, 0.2 * sway + 0.01, sway),
        np.where(now, 5 * sway + 0.01, sway),
    ]
    prices = 100 * np.exp(np.cumsum(np.insert(changes, 0, 0.0, axis=1), axis=1))
    assert regimes_of(prices).tolist() == [CALM_RANGE, VOLATILE_RANGE, CALM_TREND, VOLATILE_TREND]
    assert regimes_of(np.full((3, SAMPLES), np.nan)).tolist() == [CALM_RANGE] * 3
    assert regimes_of(np.full((1, SAMPLES), 5.0)).tolist() == [CALM_RANGE]


def score(performance: Performance) -> float:
    return float(performance._results.sum())


@pytest.mark.parametrize(
    ("side", "low", "high", "result"),
    [
        ("Buy", 99.5, 102, 2.0),
        ("Buy", 99, 101, -1.0),
        ("Buy", 99, 102, -1.0),
        ("Sell", 98, 100.5, 2.0),
        ("Sell", 99.5, 101, -1.0),
    ],
)
def test_a_signal_is_scored_by_target_or_stop_whichever_the_bar_met(
    side: str, low: float, high: float, result: float
) -> None:
    performance = Performance(Combining())
    performance.note_signal(1, signal(5, side))
    performance.note_candle(candle(4, 50, 150))
    assert score(performance) == 0, "a bar that began before the signal tells nothing of it"
    performance.note_candle(candle(5, 99.5, 100.5))
    performance.note_candle(candle(6, low, high))
    assert score(performance) == result
    performance.note_candle(candle(7, 50, 150))
    assert score(performance) == result


def test_what_meets_neither_is_worth_what_it_is_at_the_horizon() -> None:
    performance = Performance(Combining(horizon_s=300))
    performance.note_signal(1, signal(0))
    for minute in range(5):
        performance.note_candle(candle(minute, 99.5, 101, 100.5))
    assert score(performance) == 0.5


def rounds(combiner: Combiner, account: int, count: int, begin: int = 0) -> int:
    """A buyer (1) and a seller (2) who always disagree, in a market that always rises; the minute after."""
    for number in range(begin, begin + count):
        at = number * 2
        combiner.combined([(account, 1, signal(at, "Buy")), (account, 2, signal(at, "Sell"))])
        combiner.note_candle(candle(at, 99.5, 102.5))
    return (begin + count) * 2


def weight_words(combiner: Combiner, account: int, minute: int) -> str:
    return combiner.combined([(account, 1, signal(minute, "Buy")), (account, 2, signal(minute, "Sell"))])[account].words


def bitcoin(*accounts: int) -> dict[int, Listening]:
    """They watch bars of a minute."""
    return dict.fromkeys(accounts, Listening(frozenset({("BTCUSDT", "1")})))


def test_who_was_right_lately_decides_and_nobody_elses_results_count() -> None:
    combiner = Combiner()
    alice, bob = 1, 2
    combiner.hold_for(bitcoin(alice, bob), Combining())
    end = rounds(combiner, alice, 40)
    found = combiner.combined(
        [(who, key, signal(end, side)) for who in (alice, bob) for key, side in ((1, "Buy"), (2, "Sell"))]
    )
    assert found[alice].carrier is not None and found[alice].carrier.signal.side == "Buy"
    assert found[bob].carrier is None and "Buy 0.50 x 1.00" in found[bob].words


def test_a_strategy_of_which_nothing_is_known_counts_less_than_one_that_did_well() -> None:
    combiner = Combiner()
    combiner.hold_for(bitcoin(1), Combining())
    for number in range(20):
        combiner.combined([(1, 1, signal(number * 5, "Buy"))])
        combiner.note_candle(candle(number * 5, 99.5, 102.5))
    words = weight_words(combiner, 1, 200)
    one, other = (float(each) for each in re.findall(r"x ([0-9.]+)", words))
    assert one > 1.4 and other < 0.6 and one + other == pytest.approx(2, abs=0.011)


def test_what_others_watch_and_trade_changes_nothing() -> None:
    """Bob's shorter bars, his books and other symbols reach the same process."""

    def told(others: bool) -> str:
        combiner = Combiner()
        mine = {1: Listening(frozenset({("BTCUSDT", "5")}))}
        bobs = {2: Listening(frozenset({("BTCUSDT", "1"), ("ETHUSDT", "1")}), frozenset({"BTCUSDT"}))}
        combiner.hold_for(mine | bobs if others else mine, Combining())
        for number in range(60):
            at = number * 5
            combiner.combined([(1, 1, signal(at, "Buy")), (1, 2, signal(at, "Sell"))])
            if others:
                combiner.combined([(2, 3, signal(at, "Sell")), (2, 4, signal(at, "Sell", symbol="ETHUSDT"))])
            for minute in range(at, at + 5):
                combiner.note_candle(candle(minute, 98.5, 100.5))
                combiner.note_candle(candle(minute, 98.5, 100.5, symbol="ETHUSDT"))
            combiner.note_candle(replace(candle(at, 99.5, 102.5), interval="5"))
        return weight_words(combiner, 1, 300)

    assert told(others=True) == told(others=False) != ""
    assert "Buy 0.50 x 1.00" not in told(others=True)


def test_weights_stay_for_five_minutes_of_the_datas_time() -> None:
    combiner = Combiner()
    combiner.hold_for(bitcoin(1), Combining())
    rounds(combiner, 1, 2)
    before = weight_words(combiner, 1, 4)
    assert before == weight_words(combiner, 1, 0) and "x 1.00" in before
    assert weight_words(combiner, 1, 5) != before


def test_rules_that_stay_keep_what_is_known_and_others_begin_anew() -> None:
    combiner = Combiner()
    combiner.hold_for(bitcoin(1), Combining())
    end = rounds(combiner, 1, 30)
    known = weight_words(combiner, 1, end)
    combiner.hold_for(bitcoin(1, 2), Combining())
    assert weight_words(combiner, 1, end) == known
    combiner.hold_for(bitcoin(1), Combining(gain=1.0))
    assert weight_words(combiner, 1, end) != known
    combiner.hold_for({}, Combining())
    assert combiner.combined([(1, 1, signal()), (1, 2, signal())]) == {}


def test_results_fade_with_their_half_life() -> None:
    performance = Performance(Combining(half_life_s=3_600))
    performance.note_signal(1, signal(0))
    performance.note_candle(candle(0, 99.5, 103))
    performance.weights([1], 3_600 * 10**9)
    assert score(performance) == pytest.approx(1.0)


minutes = st.lists(
    st.tuples(
        st.sampled_from(["", "Buy", "Sell"]), st.sampled_from(["", "Buy", "Sell"]),
        st.integers(960, 1000), st.integers(1000, 1040), st.booleans(),
    ),
    min_size=1, max_size=60,
)  # fmt: skip


@given(minutes)
def test_an_engine_that_starts_again_goes_on_as_if_it_had_not(drawn: list[tuple[str, str, int, int, bool]]) -> None:
    """Before any bar what is known may be kept as JSON and read again, and bars be told twice as a start replays
    them."""
    steady, broken = Combiner(), Combiner()
    for each in (steady, broken):
        each.hold_for(bitcoin(1), Combining(refresh_s=120, half_life_s=3_000, horizon_s=600))
    replayed: list[Candle] = []
    for minute, (one, other, low, high, restarts) in enumerate(drawn):
        if restarts:
            kept = json.loads(json.dumps(broken.performances()[1, "BTCUSDT"].state()))
            broken = Combiner()
            broken.hold_for(bitcoin(1), Combining(refresh_s=120, half_life_s=3_000, horizon_s=600))
            broken.restore({(1, "BTCUSDT"): kept, (2, "BTCUSDT"): kept})
            for each in replayed:
                broken.note_candle(each)
        bar = candle(minute, low / 10, high / 10, (low + high) / 20)
        replayed.append(bar)
        made = [(1, key, signal(minute + 1, side)) for key, side in ((1, one), (2, other)) if side]
        for each in (steady, broken):
            each.note_candle(bar)
        assert steady.combined(made) == broken.combined(made)
    states = [each.performances()[1, "BTCUSDT"].state() for each in (steady, broken)]
    assert states[0] == states[1]


@pytest.mark.parametrize("damage", [{}, {"regime": 9}, {"prices": [1.0]}, {"results": [[1.0]]}, {"trials": [[1, 2]]}])
def test_a_state_that_is_none_is_refused_and_changes_nothing(damage: dict[str, object]) -> None:
    combiner = Combiner()
    combiner.hold_for(bitcoin(1), Combining())
    rounds(combiner, 1, 3)
    before = combiner.performances()[1, "BTCUSDT"].state()
    with pytest.raises((KeyError, TypeError, ValueError, IndexError)):
        combiner.restore({(1, "BTCUSDT"): {**before, **damage} if damage else {}})
    assert combiner.performances()[1, "BTCUSDT"].state() == before


@pytest.mark.parametrize(
    ("name", "value"), [("least", 1.5), ("half_life_s", 0), ("prior", -1), ("gain", 11), ("refresh_s", float("nan"))]
)
def test_rules_that_cannot_be_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Combining(**{name: value})
