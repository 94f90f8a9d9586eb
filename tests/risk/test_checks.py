"""Each refusal names the limit, its value and what was asked; getting out is always possible."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.checks import check_intent
from risk.exposure import Exposure, PendingExposure, PositionExposure
from risk.intents import CLIENT_ORDER_ID, new_client_order_id
from risk.limits import Limits, strictest
from risk.sizing import size_position, within_limits
from tests.builders import RULES, intent

D = Decimal
PRICE = D(60_000)
RICH = Exposure(known=True, equity=D(100_000), available_balance=D(100_000))
LONG = {"BTCUSDT": PositionExposure("Buy", D("0.5"), PRICE, PRICE, D(10))}


def refusals(changes: dict[str, Any], limits: Limits = Limits(), exposure: Exposure = RICH) -> dict[str, str]:  # noqa: B008
    decision = check_intent(intent(**changes), limits, exposure, RULES, PRICE)
    assert decision.approved == (not decision.refusals)
    return {refusal.limit: refusal.message for refusal in decision.refusals}


def test_an_order_within_every_limit_is_approved() -> None:
    assert refusals({}) == {}


@pytest.mark.parametrize(
    ("changes", "limits", "exposure", "limit"),
    [
        ({}, Limits(), Exposure(), "reconciliation"),
        ({}, Limits(trading_enabled=False), RICH, "trading_enabled"),
        ({"quantity": D("0.0105")}, Limits(), RICH, "instrument.quantity"),
        ({"price": D("60000.05")}, Limits(), RICH, "instrument.price"),
        ({"quantity": D("0.001"), "price": D("100.0")}, Limits(), RICH, "instrument.quantity"),
        ({"price": D("64000.0")}, Limits(price_collar_percent=D(5)), RICH, "price_collar_percent"),
        ({"quantity": D(1)}, Limits(max_order_notional=D(50_000)), RICH, "max_order_notional"),
        (
            {"quantity": D("0.5")},
            Limits(max_position_notional=D(50_000)),
            replace(RICH, pending={"BTCUSDT": PendingExposure(buy_quantity=D("0.5"))}),
            "max_position_notional",
        ),
        (
            {"symbol": "BTCUSDT"},
            Limits(max_positions=1),
            replace(RICH, positions={"ETHUSDT": LONG["BTCUSDT"]}),
            "max_positions",
        ),
        ({}, Limits(max_open_orders=3), replace(RICH, open_orders=3), "max_open_orders"),
        (
            {},
            Limits(max_daily_loss_percent=D(5)),
            replace(RICH, equity=D(95_000), day_pnl=D(-5_000)),
            "max_daily_loss_percent",
        ),
        ({"leverage": D(60)}, Limits(max_leverage=D(50)), RICH, "max_leverage"),
        ({"quantity": D(100), "leverage": D(1)}, Limits(), RICH, "available_balance"),
        ({}, Limits(max_order_rate=2), replace(RICH, orders_last_second=2), "max_order_rate"),
    ],
)
def test_what_breaks_a_limit_is_refused_by_its_name(
    changes: dict[str, Any], limits: Limits, exposure: Exposure, limit: str
) -> None:
    found = refusals(changes, limits, exposure)
    assert found.get(limit)


def test_orders_that_reduce_pass_every_limit_on_growth() -> None:
    tight = Limits(False, D(1), D(1), 1, 0, D(1), D(1), None, 0)
    losing = replace(RICH, positions=LONG, day_pnl=D(-90_000), equity=D(10_000), available_balance=D(0), open_orders=99)
    assert refusals({"side": "Sell", "quantity": D("0.5"), "reduce_only": True}, tight, losing) == {}
    assert refusals({"side": "Sell", "quantity": D("0.4")}, tight, losing) == {}
    assert "max_order_notional" in refusals({"side": "Sell", "quantity": D("0.6")}, tight, losing)


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(max_order_notional=D(1_000)), "max_order_notional"),
        (Limits(max_position_notional=D(1_000)), "max_position_notional"),
    ],
)
def test_a_sell_far_below_the_market_is_worth_what_the_market_pays(limits: Limits, limit: str) -> None:
    assert limit in refusals({"side": "Sell", "quantity": D("0.1"), "price": D("6000.0")}, limits)


def test_what_is_held_is_worth_the_market_however_low_an_order_buys() -> None:
    held = replace(RICH, positions=LONG)
    change = {"quantity": D("0.1"), "price": D("1000.0")}
    assert "max_position_notional" in refusals(change, Limits(max_position_notional=D(10_000)), held)


@pytest.mark.parametrize(("side", "held"), [("Sell", "Buy"), ("Buy", "Sell")])
def test_orders_that_reduce_one_by_one_and_turn_the_position_together_are_growth(side: str, held: str) -> None:
    pending = PendingExposure().plus(side, D("0.4"))
    positions = {"BTCUSDT": replace(LONG["BTCUSDT"], side=held)}
    exposure = replace(RICH, positions=positions, pending={"BTCUSDT": pending})
    off = Limits(trading_enabled=False)
    assert "trading_enabled" in refusals({"side": side, "quantity": D("0.2")}, off, exposure)
    assert refusals({"side": side, "quantity": D("0.1")}, off, exposure) == {}


def test_a_position_can_be_reduced_before_the_account_is_reconciled() -> None:
    assert refusals({"side": "Sell", "reduce_only": True}, exposure=Exposure()) == {}


def test_all_refusals_are_told_not_only_the_first() -> None:
    found = refusals({"quantity": D("0.0105")}, Limits(trading_enabled=False, max_open_orders=0))
    assert {"trading_enabled", "instrument.quantity", "max_open_orders"} <= set(found)


def test_the_strictest_level_wins() -> None:
    combined = strictest(
        Limits(max_order_notional=D(100), max_leverage=D(5)),
        Limits(max_order_notional=D(50)),
        Limits(trading_enabled=False),
    )
    assert (combined.max_order_notional, combined.max_leverage, combined.trading_enabled) == (D(50), D(5), False)
    assert combined.max_positions is None


@given(
    st.integers(10**12, 10**13 - 1),
    st.text(min_size=1, max_size=40),
    st.text(min_size=1, max_size=40),
    st.text(max_size=20),
)
def test_a_client_order_id_always_fits_the_venue(time_ms: int, symbol: str, strategy: str, token: str) -> None:
    made = new_client_order_id(time_ms, symbol, strategy, token)
    assert CLIENT_ORDER_ID.fullmatch(made) and made.startswith(f"{time_ms}_")
    assert made == new_client_order_id(time_ms, symbol, strategy, token)


@given(
    st.decimals("0.01", "100", places=2), st.decimals("10", "1000000", places=2), st.decimals("1", "200000", places=1)
)
def test_a_size_is_on_the_lot_grid_and_above_the_minimum_or_nothing(value: D, equity: D, price: D) -> None:
    quantity = size_position("percent", value, equity=equity, leverage=D(10), price=price, rules=RULES)
    assert quantity % RULES.lot_size == 0 and quantity <= RULES.max_market_quantity
    assert quantity == 0 or (quantity >= RULES.min_quantity and quantity * price >= RULES.min_notional)
    assert quantity * price <= equity * value / 100 * 10 + D("1e-9")


@given(
    st.sampled_from(["percent", "fixed_usd", "minimum"]),
    st.decimals("0.01", "100", places=2),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_stronger_signal_never_gets_less_and_never_more_than_the_modes_size(
    mode: str, value: D, weak: float, strong: float
) -> None:
    def sized(confidence: float | None) -> D:
        return size_position(
            mode, value, equity=D(10_000), leverage=D(10), price=PRICE, rules=RULES, confidence=confidence
        )

    full = sized(None)
    assert sized(min(weak, strong)) <= sized(max(weak, strong)) <= full == sized(1.0)
    if full > 0:
        assert sized(0.0) == sized(None) == full or sized(0.0) == D("0.001")


@given(
    st.decimals("0.001", "50", places=3),
    st.decimals("100", "100000", places=0),
    st.decimals("1", "20", places=1),
    st.decimals("50000", "70000", places=1),
)
def test_a_size_within_limits_passes_the_checks_of_those_limits(quantity: D, notional: D, percent: D, stop: D) -> None:
    limits = Limits(
        max_order_notional=notional,
        max_position_notional=notional,
        max_risk_per_trade_percent=percent,
        max_total_risk_percent=percent,
    )
    side = "Buy" if stop < PRICE else "Sell"
    allowed = within_limits(
        quantity, closing=D(0), side=side, price=PRICE, stop_loss=stop, limits=limits, exposure=RICH, rules=RULES
    )
    assert allowed <= quantity and allowed % RULES.lot_size == 0
    if allowed > 0:
        order = {"side": side, "order_type": "Market", "price": None, "quantity": allowed, "stop_loss": stop}
        found = refusals({**order, "leverage": D(50)}, limits, replace(RICH, available_balance=D(10**9)))
        assert found == {}
