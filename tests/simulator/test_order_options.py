"""What an order request can ask for beyond price and quantity, and what the exchange makes of it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.simulator.test_margin_and_exits import exchange, held, place, settle
from trading.simulator.errors import ApiError
from trading.simulator.exchange import Exchange

D = Decimal


def limit_sizes(venue: Exchange, largest: str) -> None:
    market = venue.markets["BTCUSDT"]
    market.rules = replace(market.rules, max_quantity=D(largest), max_market_quantity=D(largest))


@pytest.mark.parametrize(
    ("side", "kind", "tolerance", "worst"),
    [
        ("Buy", "TickSize", "4", "100.5"),
        ("Sell", "TickSize", "4", "99.5"),
        ("Buy", "Percent", "1", "101.1"),
        ("Sell", "Percent", "0.75", "99.2"),
    ],
)
def test_a_slippage_tolerance_bounds_a_market_order_from_the_best_price(
    side: str, kind: str, tolerance: str, worst: str
) -> None:
    venue = exchange()
    order = place(venue, "alice", side, "20", slippageToleranceType=kind, slippageTolerance=tolerance)
    prices = [D(row["execPrice"]) for row in venue.accounts["alice"].executions]
    assert prices[-1] == D(worst)
    assert (order.status, order.reject_reason) == ("Cancelled", "EC_NoImmediateQtyToFill")
    row = order.as_row()
    assert (row["slippageToleranceType"], row["slippageTolerance"]) == (kind, tolerance)


def test_a_spot_market_order_can_have_a_slippage_tolerance_too() -> None:
    venue = exchange()
    more = {"category": "spot", "slippageToleranceType": "TickSize", "slippageTolerance": "1"}
    order = place(venue, "alice", "Buy", "1000", **more)
    assert order.filled == 1 and order.status == "Filled"


def test_an_order_without_a_tolerance_says_so() -> None:
    row = place(exchange(), "alice", "Buy", "1").as_message()
    assert (row["slippageToleranceType"], row["slippageTolerance"]) == ("UNKNOWN", "")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"slippageToleranceType": "Ticks", "slippageTolerance": "5"}, "slippageToleranceType"),
        ({"slippageTolerance": "5"}, "slippageToleranceType"),
        ({"slippageToleranceType": "TickSize"}, "slippageTolerance"),
        ({"slippageToleranceType": "TickSize", "slippageTolerance": "0"}, "slippageTolerance"),
        ({"slippageToleranceType": "TickSize", "slippageTolerance": "10001"}, "slippageTolerance"),
        ({"slippageToleranceType": "TickSize", "slippageTolerance": "1.5"}, "slippageTolerance"),
        ({"slippageToleranceType": "Percent", "slippageTolerance": "0.001"}, "slippageTolerance"),
        ({"slippageToleranceType": "Percent", "slippageTolerance": "0.015"}, "slippageTolerance"),
        ({"slippageToleranceType": "Percent", "slippageTolerance": "10.01"}, "slippageTolerance"),
        ({"slippageToleranceType": "Percent", "slippageTolerance": "1e1"}, "slippageTolerance"),
        ({"slippageToleranceType": "Percent", "slippageTolerance": "-1"}, "slippageTolerance"),
        ({"slippageToleranceType": "Percent", "slippageTolerance": "1", "price": "100.0"}, "slippageToleranceType"),
        (
            {
                "slippageToleranceType": "Percent",
                "slippageTolerance": "1",
                "triggerPrice": "105.0",
                "triggerDirection": 1,
            },
            "slippageToleranceType",
        ),
        ({"price": "100.0", "bboSideType": "Best", "bboLevel": "1"}, "bboSideType"),
        ({"price": "100.0", "bboLevel": "1"}, "bboSideType"),
        ({"price": "100.0", "bboSideType": "Queue"}, "bboLevel"),
        ({"price": "100.0", "bboSideType": "Queue", "bboLevel": "6"}, "bboLevel"),
        ({"bboSideType": "Queue", "bboLevel": "1"}, "bboSideType"),
        ({"price": "100.0", "bboSideType": "Queue", "bboLevel": "1", "category": "spot"}, "bboSideType"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(more: dict[str, Any], field: str) -> None:
    venue = exchange()
    with pytest.raises(ApiError, match=f"{field}\\b") as refused:
        place(venue, "alice", "Buy", "1", **more)
    assert refused.value.code == 10001
    assert not venue.accounts["alice"].orders


@pytest.mark.parametrize(
    ("side", "where", "level", "price"),
    [
        ("Buy", "Queue", "1", "99.9"),
        ("Buy", "Queue", "3", "99.7"),
        ("Sell", "Queue", "2", "100.2"),
        ("Sell", "Counterparty", "5", "99.5"),
        ("Buy", "Counterparty", "1", "100.1"),
    ],
)
def test_a_limit_order_can_take_its_price_from_the_book(side: str, where: str, level: str, price: str) -> None:
    venue = exchange()
    request = {"symbol": "BTCUSDT", "side": side, "orderType": "Limit", "qty": "0.1"}
    order = venue.create("alice", request | {"bboSideType": where, "bboLevel": level}, 1)
    assert (order.price, order.create_type) == (D(price), "CreateByBboOrder")
    assert order.status == ("New" if where == "Queue" else "Filled")
    settle(venue, venue.markets["BTCUSDT"], 1_001)
    assert order.price == D(price)  # it does not follow the book


def test_a_level_that_the_book_does_not_have_is_no_price() -> None:
    venue = exchange()
    venue.markets["BTCUSDT"].book.bids.replace_background({999: 5, 998: 5})
    with pytest.raises(ApiError, match="bboLevel invalid"):
        place(venue, "alice", "Buy", "1", "100.0", bboSideType="Queue", bboLevel="3")


def test_a_market_order_does_not_run_beyond_the_band_around_the_mark_price() -> None:
    venue = exchange(balance=1_000_000)
    market = venue.markets["BTCUSDT"]
    market.price_band = D("0.01")
    order = place(venue, "alice", "Buy", "50")
    assert (order.status, order.filled) == ("Cancelled", 5)  # 0.5 on each tick up to 101.0
    venue.mark(market, D("90.0"), D("90.0"), 2)
    nothing = place(venue, "bob", "Buy", "1")
    assert (nothing.status, nothing.filled, nothing.reject_reason) == ("Cancelled", 0, "EC_NoImmediateQtyToFill")


def test_a_post_only_order_that_would_take_is_cancelled_and_not_rejected() -> None:
    order = place(exchange(), "alice", "Buy", "1", "100.1", timeInForce="PostOnly")
    assert (order.status, order.reject_reason, order.filled) == ("Cancelled", "EC_PostOnlyWillTakeLiquidity", 0)


@pytest.mark.parametrize("order_type", ["Limit", "Market"])
def test_a_reduce_only_order_beyond_the_largest_size_becomes_several(order_type: str) -> None:
    venue = exchange()
    place(venue, "alice", "Buy", "5")
    limit_sizes(venue, "2")
    price = "105.0" if order_type == "Limit" else None
    first = place(venue, "alice", "Sell", "5", price, reduceOnly=True, orderLinkId="close")
    pieces = list(venue.accounts["alice"].orders.values())[1:]
    assert [order.quantity for order in pieces] == [2, 2, 1] and pieces[0] is first
    assert [order.link_id for order in pieces] == ["close", "", ""]
    assert len({order.order_id for order in pieces}) == 3
    assert held(venue, "alice") == (5 if price else 0)
    with pytest.raises(ApiError, match="exceeds maximum limit"):
        place(venue, "alice", "Buy", "5", price)


def test_a_waiting_reduce_only_order_is_not_split_without_end() -> None:
    venue = exchange()
    limit_sizes(venue, "2")
    trigger = {"triggerPrice": "105.0", "triggerDirection": 1, "reduceOnly": True}
    with pytest.raises(ApiError) as refused:
        place(venue, "alice", "Sell", "999999999", **trigger)
    assert refused.value.code == 110009
    place(venue, "alice", "Sell", "5", **trigger)
    assert [order.quantity for order in venue.accounts["alice"].working.values()] == [2, 2, 1]


def test_quantity_zero_closes_the_position_up_to_the_largest_size() -> None:
    venue = exchange()
    place(venue, "alice", "Buy", "5")
    close = {"reduceOnly": True, "closeOnTrigger": True}
    limit_sizes(venue, "4")
    assert place(venue, "alice", "Sell", "0", **close).filled == 4
    assert place(venue, "alice", "Sell", "0", **close).filled == 1
    for more in (close, {"reduceOnly": True}, {}):
        with pytest.raises(ApiError):
            place(venue, "alice", "Sell", "0", **more)


def test_a_waiting_order_of_quantity_zero_closes_what_is_held_when_its_price_comes() -> None:
    venue = exchange()
    close = {"reduceOnly": True, "closeOnTrigger": True, "triggerPrice": "95.0", "triggerDirection": 2}
    place(venue, "alice", "Buy", "2")
    waiting = place(venue, "alice", "Sell", "0", **close)
    assert (waiting.status, waiting.as_row()["qty"], waiting.as_row()["leavesQty"]) == ("Untriggered", "0", "0")
    venue.amend("alice", {"symbol": "BTCUSDT", "orderId": waiting.order_id, "triggerPrice": "94.0"}, 2)
    place(venue, "alice", "Buy", "3")
    market = venue.market("BTCUSDT")
    market.last_price = D("94.0")
    venue.exits.look(market, 3)
    assert (waiting.status, waiting.quantity, waiting.filled) == ("Filled", 5, 5)
    nothing = place(venue, "alice", "Sell", "0", **(close | {"triggerPrice": "80.0"}))
    market.last_price = D("80.0")
    venue.exits.look(market, 4)
    assert (nothing.status, nothing.cancel_type) == ("Cancelled", "CancelByReduceOnly")


def test_a_reduce_only_order_cannot_carry_exits() -> None:
    venue = exchange()
    place(venue, "alice", "Buy", "1")
    for exits in ({"takeProfit": "90.0"}, {"stopLoss": "110.0"}):
        with pytest.raises(ApiError, match="reduce-only") as refused:
            place(venue, "alice", "Sell", "1", "101.0", reduceOnly=True, **exits)
        assert refused.value.code == 10001


@pytest.mark.parametrize(
    ("category", "conditional", "most", "code"),
    [
        ("linear", False, 500, 110020),
        ("linear", True, 10, 110009),
        ("spot", False, 500, 170810),
        ("spot", True, 30, 170810),
    ],
)
def test_each_symbol_has_only_so_many_open_orders(category: str, conditional: bool, most: int, code: int) -> None:
    venue = exchange(balance=1_000_000)
    more: dict[str, Any] = {"category": category}
    if conditional:
        more |= {"triggerPrice": "105.0", "triggerDirection": 1}
    for _ in range(most):
        place(venue, "alice", "Buy", "0.1", "90.0", **more)
    with pytest.raises(ApiError) as refused:
        place(venue, "alice", "Buy", "0.1", "90.0", **more)
    assert refused.value.code == code
    place(venue, "bob", "Buy", "0.1", "90.0", **more)


def test_a_spot_market_buy_counts_in_the_quote_coin_unless_it_says_base() -> None:
    venue = exchange(depth=5_000)
    quote = place(venue, "alice", "Buy", "100.1", category="spot")
    base = place(venue, "alice", "Buy", "1", category="spot", marketUnit="baseCoin")
    sold = place(venue, "alice", "Sell", "0.5", category="spot")
    value = place(venue, "alice", "Sell", "50", category="spot", marketUnit="quoteCoin")
    assert [order.filled for order in (quote, base, sold)] == [1, 1, D("0.5")]
    assert (quote.market_unit, base.market_unit, sold.market_unit) == ("quoteCoin", "baseCoin", "baseCoin")
    assert 0 < D(50) - value.filled_value < D("0.1")


@pytest.mark.parametrize(
    ("side", "rate", "coin", "fee"),
    [
        ("Buy", "0.001", "BTC", "0.001"),
        ("Sell", "0.001", "USDT", "0.1002"),
        ("Buy", "-0.0005", "USDT", "-0.0499"),
        ("Sell", "-0.0005", "BTC", "-0.0005"),
    ],
)
def test_a_spot_maker_pays_in_what_he_gets_and_is_paid_in_what_he_gives(
    side: str, rate: str, coin: str, fee: str
) -> None:
    venue = exchange(depth=5_000)
    spot = venue.spot["BTCUSDT"]
    spot.maker_fee = D(rate)
    venue.accounts["alice"].pay("BTC", D(5))
    spot.book.asks.replace_background({1_010: 5_000})
    spot.book.bids.replace_background({990: 5_000})
    price = "99.8" if side == "Buy" else "100.2"
    order = place(venue, "alice", side, "1", price, category="spot")
    venue.background_take(spot, "Sell" if side == "Buy" else "Buy", 1_000, None, 2)
    row = venue.accounts["alice"].executions[-1]
    assert (order.status, row["feeCurrency"], D(row["execFee"])) == ("Filled", coin, D(fee))
    assert row["feeRate"] == rate and list(order.as_row()["cumFeeDetail"]) == [coin]
    assert abs(venue.ledger.total("USDT") - 30_000) < D("1e-9") and abs(venue.ledger.total("BTC") - 5) < D("1e-9")


def test_a_spot_taker_pays_in_what_he_gets_even_where_makers_are_paid() -> None:
    venue = exchange(depth=5_000)
    venue.spot["BTCUSDT"].maker_fee = D("-0.0005")
    assert place(venue, "alice", "Buy", "100.1", category="spot").fee_currency == "BTC"
    assert place(venue, "alice", "Sell", "0.5", category="spot").fee_currency == "USDT"
