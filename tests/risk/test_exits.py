"""A position ends where its rules say: levels follow the price and never move away from it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.engine.feature_table import FEATURES, feature_index
from risk.exits import Exit, ExitKind, ExitRuleError, ExitRules, ExitState, advance, judge, profit_percent
from risk.exposure import PositionExposure
from risk.reversal import THRESHOLDS, indicators_against

D = Decimal
ENTRY = D(100)
SECOND = 10**9
LONG = PositionExposure("Buy", D(2), ENTRY, ENTRY, D(10))
SHORT = replace(LONG, side="Sell")
ONLY_LOSS = ExitRules(trailing_take_profit=False, trailing_stop=False, reversal=False)
ONLY_TAKE = replace(ONLY_LOSS, trailing_take_profit=True)
ONLY_STOP = replace(ONLY_LOSS, trailing_stop=True)
ONLY_REVERSAL = replace(ONLY_LOSS, reversal=True)
MOVES = st.lists(st.decimals("-3", "3", places=2), min_size=1, max_size=60)


def walk(rules: ExitRules, prices: list[Any], position: PositionExposure = LONG) -> tuple[ExitState, Exit | None]:
    """Until the first exit, or the end."""
    state, found = ExitState.of(position), None
    for price in prices:
        state, found = judge(rules, position, state, D(str(price)), 0)
        if found is not None:
            break
    return state, found


def mirrored(price: D) -> D:
    """What a short gains as a long gains at the price."""
    return ENTRY * 2 - price


def kind(found: Exit | None) -> str | None:
    return found.kind.value if found is not None else None


@pytest.mark.parametrize(
    ("rules", "prices", "expected"),
    [
        (ONLY_LOSS, ["98.01"], None),
        (ONLY_LOSS, ["98.00"], "max_loss"),
        # Active at 101, half a percent behind: 100.5; at 101.5 a third behind; at 102 two ninths.
        (ONLY_TAKE, ["100.99", "100.00"], None),
        (ONLY_TAKE, ["101.00", "100.51"], None),
        (ONLY_TAKE, ["101.00", "100.50"], "trailing_take_profit"),
        (ONLY_TAKE, ["101.50", "101.17"], None),
        (ONLY_TAKE, ["101.50", "101.16"], "trailing_take_profit"),
        (ONLY_TAKE, ["102.00", "101.77"], "trailing_take_profit"),
        # Active at 102: one percent behind; from 105 on one and a half; from 110 on two.
        (ONLY_STOP, ["101.99", "100.00"], None),
        (ONLY_STOP, ["102.00", "101.01"], None),
        (ONLY_STOP, ["102.00", "101.00"], "trailing_stop"),
        (ONLY_STOP, ["106.00", "104.51"], None),
        (ONLY_STOP, ["106.00", "104.50"], "trailing_stop"),
        (ONLY_STOP, ["112.00", "110.01"], None),
        (ONLY_STOP, ["112.00", "110.00"], "trailing_stop"),
        # A wider distance begins at 5 %; what was kept before stays kept.
        (ONLY_STOP, ["104.90", "105.00", "103.89"], "trailing_stop"),
    ],
)
def test_a_position_ends_at_the_level_that_its_rules_name(
    rules: ExitRules, prices: list[str], expected: str | None
) -> None:
    assert kind(walk(rules, prices)[1]) == expected
    assert kind(walk(rules, [mirrored(D(price)) for price in prices], SHORT)[1]) == expected


@given(MOVES)
def test_trailing_levels_never_move_away_from_the_price(moves: list[D]) -> None:
    state, price = ExitState.of(LONG), ENTRY
    for move in moves:
        price = max(price + move, D(1))
        after = advance(ExitRules(), LONG, state, price)
        for level in ("take_price", "stop_price"):
            before, now = getattr(state, level), getattr(after, level)
            assert before is None or (now is not None and now >= before)
            assert now is None or now <= after.best_price
        assert after.best_price == max(state.best_price, price)
        state = after


@given(MOVES)
def test_a_short_ends_where_the_mirrored_long_does(moves: list[D]) -> None:
    price, prices = ENTRY, []
    for move in moves:
        price = min(max(price + move, D(1)), D(199))
        prices.append(price)
    rules = replace(ExitRules(), reversal=False, partial_exits=((D(1), D(50)),))
    long_state, long_exit = walk(rules, prices)
    short_state, short_exit = walk(rules, [mirrored(price) for price in prices], SHORT)
    assert kind(long_exit) == kind(short_exit)
    assert mirrored(long_state.best_price) == short_state.best_price
    if long_state.stop_price is not None and short_state.stop_price is not None:
        assert mirrored(long_state.stop_price) == short_state.stop_price


@given(MOVES)
def test_no_loss_beyond_the_limit_stays_open_and_no_trailing_exit_gives_a_profit_away(moves: list[D]) -> None:
    rules, state, price = ExitRules(), ExitState.of(LONG), ENTRY
    for move in moves:
        before, price = price, max(price + move, D(1))
        state, found = judge(rules, LONG, state, price, 0)
        if profit_percent(LONG, price) <= -rules.max_loss_percent:
            assert found is not None and found.share == 1
        if found is not None and found.kind is ExitKind.TRAILING_TAKE_PROFIT:
            assert state.take_price is not None and before > state.take_price >= price
            assert profit_percent(LONG, state.take_price) >= rules.min_profit_percent
        if found is not None:
            return


def test_partial_exits_close_their_shares_of_the_first_position_once_each() -> None:
    rules = replace(ONLY_LOSS, partial_exits=((D(1), D(50)), (D(2), D(25))))
    state, first = judge(rules, LONG, ExitState.of(LONG), D("101"), 0)
    assert first is not None and (first.kind, first.share, state.partials) == (ExitKind.PARTIAL, D("0.5"), 1)
    state, again = judge(rules, LONG, state, D("101.5"), 0)
    assert again is None
    # A quarter of the whole is half of what is left.
    state, second = judge(rules, replace(LONG, quantity=D(1)), state, D("102"), 0)
    assert second is not None and second.share == D("0.5")
    # Both at once, when the price jumps over them.
    _, both = judge(rules, LONG, ExitState.of(LONG), D("103"), 0)
    assert both is not None and both.share == D("0.75")


def test_no_profit_is_taken_below_the_least_that_is_worth_it() -> None:
    rules = replace(ONLY_LOSS, min_profit_percent=D("0.8"), partial_exits=((D("0.2"), D(50)),))
    assert judge(rules, LONG, ExitState.of(LONG), D("100.5"), 0)[1] is None
    assert judge(rules, LONG, ExitState.of(LONG), D("100.8"), 0)[1] is not None
    wide = replace(ONLY_TAKE, take_profit_step_percent=D("0.9"))
    assert advance(wide, LONG, ExitState.of(LONG), D(101)).take_price == D("100.3")


def test_a_reversal_needs_three_voices_a_move_and_a_pause_since_the_last() -> None:
    state = replace(ExitState.of(LONG), best_price=D("101"), reversal_ns=100 * SECOND)

    def reversed_(price: str, second: int, against: int) -> bool:
        return judge(ONLY_REVERSAL, LONG, state, D(price), second * SECOND, against)[1] is not None

    assert reversed_("100.5", 160, 3)
    assert not reversed_("100.5", 160, 2)
    assert not reversed_("100.5", 159, 5)
    assert not reversed_("100.9", 160, 5)
    after, _ = judge(ONLY_REVERSAL, LONG, state, D("100.5"), 160 * SECOND, 3)
    assert after.reversal_ns == 160 * SECOND


def test_rules_that_are_off_end_nothing() -> None:
    assert judge(ExitRules(enabled=False), LONG, ExitState.of(LONG), D(50), 0, 5)[1] is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_loss_percent": D(0)}, "max_loss_percent is 0; expected 0.1 to 100"),
        ({"take_profit_acceleration": D("0.5")}, "take_profit_acceleration is 0.5; expected 1 to 10"),
        ({"reversal_indicators": 6}, "reversal_indicators is 6; expected 1 to 5"),
        ({"partial_exits": ((D(2), D(50)), (D(1), D(50)))}, "expected rising profits"),
        ({"partial_exits": ((D(1), D(150)),)}, "partial_exits is [1, 150]"),
        ({"trailing_stop_distances": ()}, "at least one"),
    ],
)
def test_a_rule_outside_its_range_is_refused_by_its_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ExitRuleError) as refused:
        ExitRules(**changes)
    assert words in str(refused.value)


def test_each_indicator_has_one_vote_for_its_side_and_none_where_it_is_not_known() -> None:
    falling = np.full(len(FEATURES), np.nan)
    assert indicators_against("Buy", falling) == 0
    for count, (name, threshold) in enumerate(THRESHOLDS.items(), 1):
        falling[feature_index(name)] = -threshold * 1.1
        assert indicators_against("Buy", falling) == count
    assert indicators_against("Sell", falling) == 0
    assert indicators_against("Sell", -falling) == len(THRESHOLDS)
