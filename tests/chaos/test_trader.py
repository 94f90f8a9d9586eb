"""What the bots of a chaos run ask the API for: prices and exits that an exchange takes."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from platform_site.chaos.scenario import PlannedOrder, plan
from platform_site.chaos.trader import Market, amendment_body, request_body
from trading.simulator.order_checks import check_exit_side

D = Decimal
MARKETS = st.builds(
    lambda ticks, tick: Market(ticks * tick, tick, D("0.001")),
    st.integers(20_000, 10_000_000),
    st.sampled_from([D("0.01"), D("0.1"), D("0.5")]),
)
ORDERS = st.builds(plan, st.integers(0, 2**31), st.integers(0, 10_000)).map(lambda made: made.orders)


@given(ORDERS, MARKETS)
def test_limits_and_exits_are_on_the_grid_and_on_their_side(orders: tuple[PlannedOrder, ...], market: Market) -> None:
    for order in orders:
        if order.kind in ("amend", "cancel"):
            continue
        body = request_body(order, market, 1, order.side)
        base = D(body.get("price", f"{market.price:f}"))
        take, stop = D(body.get("take_profit", 0)), D(body.get("stop_loss", 0))
        assert ("take_profit" in body, "stop_loss" in body) == (bool(order.take), bool(order.stop))
        check_exit_side(order.side, base, take, stop)
        assert all(price % market.tick_size == 0 for price in (base, take, stop))
        if order.kind == "limit":
            assert base <= market.price if order.side == "Buy" else base >= market.price


@given(ORDERS, MARKETS)
def test_an_amended_order_stays_on_its_side_of_the_price(orders: tuple[PlannedOrder, ...], market: Market) -> None:
    for order in orders:
        if order.kind == "amend":
            body = amendment_body(order, market)
            assert D(body["quantity"]) == order.lots * market.lot_size > 0
            price = D(body["price"])
            assert price % market.tick_size == 0
            assert price <= market.price if order.side == "Buy" else price >= market.price
