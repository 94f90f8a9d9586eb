"""Plans of chaos runs: reproducible, complete, and such that everything in them can happen."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from platform_site.chaos.scenario import (
    BEYOND_PERCENT,
    BLOWS,
    LOAD_SECONDS,
    NEAR_PERCENT,
    SELDOM,
    SYMBOLS,
    USERS,
    Blow,
    plan,
)
from risk.exits import ExitRules
from trading.crash_points import ACTIONS, POINTS, crash_point
from trading.simulator.faults.rules import Known, rules_of
from trading.simulator.rest import ENDPOINTS

SEEDS = st.integers(0, 2**31)
NUMBERS = st.integers(0, 100_000)


@given(SEEDS, NUMBERS)
def test_the_same_seed_and_number_give_the_same_plan(seed: int, number: int) -> None:
    first, again = plan(seed, number), plan(seed, number)
    assert first == again
    assert json.loads(json.dumps(first.as_dict())) == again.as_dict()


@given(SEEDS, NUMBERS)
def test_another_number_is_another_plan(seed: int, number: int) -> None:
    assert plan(seed, number) != plan(seed, number + 1) != plan(seed + 1, number + 1)


@settings(max_examples=20)
@given(SEEDS, st.integers(0, 50))
def test_a_deal_of_the_deck_strikes_every_blow_once_and_arms_every_label(seed: int, deal: int) -> None:
    dealt = [plan(seed, deal * len(BLOWS) + place).blow for place in range(len(BLOWS))]
    assert Counter(what(blow) for blow in dealt) == Counter(what(blow) for blow in BLOWS)
    assert {blow.label for blow in dealt} >= set(POINTS)


@settings(max_examples=20)
@given(SEEDS)
def test_a_hundred_runs_arm_every_label_early_and_twice_where_a_run_may_miss_it(seed: int) -> None:
    labels = [plan(seed, number).blow.label for number in range(100)]
    assert set(labels[: len(POINTS)]) == set(POINTS)
    counts = Counter(labels)
    assert all(counts[name] >= 2 for name in POINTS if name.startswith(SELDOM))
    assert len(BLOWS) <= 100


def what(blow: Blow) -> tuple[str, str, str]:
    return blow.target, blow.action, blow.label


@given(SEEDS, NUMBERS)
def test_every_label_that_is_armed_can_be_read(seed: int, number: int) -> None:
    blow = plan(seed, number).blow
    if blow.label:
        assert crash_point(f"{blow.label}:{blow.passage}:{blow.action}").name == blow.label
        assert blow.action in ACTIONS and blow.passage >= 1 and blow.after == 0.0
    else:
        assert 0 < blow.after <= LOAD_SECONDS
    assert blow.user in USERS


@given(SEEDS, NUMBERS)
def test_the_simulator_takes_every_fault(seed: int, number: int) -> None:
    faults = plan(seed, number).faults
    assert len(rules_of(list(faults), Known(ENDPOINTS, USERS))) == len(faults) <= 3


@given(SEEDS, NUMBERS)
def test_orders_have_names_of_their_own_and_amendments_and_cancels_name_orders_before_them(
    seed: int, number: int
) -> None:
    orders = plan(seed, number).orders
    placed = [each for each in orders if each.kind not in ("amend", "cancel")]
    assert len({each.client_order_id for each in placed}) == len(placed)
    assert {each.user for each in placed} == set(USERS)
    for each in placed:
        assert each.symbol in SYMBOLS and each.lots >= 1 and each.side in ("Buy", "Sell")
        assert len(each.client_order_id) <= 36
    at = {each.client_order_id: each.at for each in placed}
    later = [each for each in orders if each.kind in ("amend", "cancel")]
    assert all(each.at > at[each.client_order_id] for each in later)
    assert not any(each.take or each.stop for each in placed if each.kind == "reduce")
    assert {each.kind for each in placed} >= {"market", "limit", "reduce"}


@given(SEEDS, NUMBERS)
def test_a_price_jumps_beyond_near_exits_and_not_as_far_as_the_accounts_rules_allow(seed: int, number: int) -> None:
    move = plan(seed, number).move
    if move is not None:
        assert NEAR_PERCENT[1] < abs(move.percent) < ExitRules().max_loss_percent < BEYOND_PERCENT[0]
        assert move.symbol in SYMBOLS and 0 < move.at <= LOAD_SECONDS


@given(SEEDS, NUMBERS)
def test_each_user_amends_an_order_that_is_not_cancelled_before(seed: int, number: int) -> None:
    orders = plan(seed, number).orders
    cancelled = {each.client_order_id: each.at for each in orders if each.kind == "cancel"}
    amended = [each for each in orders if each.kind == "amend" and each.at < cancelled.get(each.client_order_id, 99)]
    assert {each.user for each in amended} == set(USERS)
    limits = {each.client_order_id: each for each in orders if each.kind == "limit"}
    for each in amended:
        assert (each.symbol, each.side) == (limits[each.client_order_id].symbol, limits[each.client_order_id].side)
