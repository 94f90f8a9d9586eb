"""What the exchange does by itself: triggers, exits of positions, reduce-only, funding, liquidation - and the money."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from trading.simulator.errors import ApiError
from trading.simulator.exchange import Exchange
from trading.simulator.instruments import INSTRUMENTS
from trading.simulator.keys import ApiKey
from trading.simulator.markets import Market, market_of
from trading.simulator.orders import SimulatedOrder

D = Decimal
USERS = ("alice", "bob", "carol")
SPOT_LISTING = {
    "symbol": "BTCUSDT",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "status": "Trading",
    "lotSizeFilter": {
        "basePrecision": "0.001",
        "quotePrecision": "0.00001",
        "minOrderQty": "0.001",
        "maxLimitOrderQty": "500",
        "maxMarketOrderQty": "200",
        "minOrderAmt": "5",
    },
    "priceFilter": {"tickSize": "0.1"},
    "riskParameters": {"priceLimitRatioX": "0.5"},
}


def exchange(balance: int = 10_000, depth: int = 500) -> Exchange:
    """BTCUSDT at 100.0, as contract and as spot, with background quantity on every tick around it."""
    contract, spot = market_of(INSTRUMENTS[0].listing()), market_of(SPOT_LISTING, "spot")
    keys = {user: ApiKey(user, user, user, D(balance)) for user in USERS}
    made = Exchange({"BTCUSDT": contract}, keys, spot={"BTCUSDT": spot})
    for market in (contract, spot):
        market.price_band = D("0.5")
        settle(made, market, 1_000, depth)
    return made


def settle(venue: Exchange, market: Market, tick: int, depth: int = 500) -> None:
    """Move the whole market to a price."""
    for side in (market.book.bids, market.book.asks):
        for old in list(side.ticks()):
            side.set_background(old, 0)
        for distance in range(1, 200):
            if tick + side.sign * distance > 0:
                side.set_background(tick + side.sign * distance, depth)
    venue.cross_resting(market, 1)
    market.last_price = market.grids.prices.value(tick)
    if market.category == "linear":
        venue.mark(market, market.last_price, market.last_price, 1)


def place(
    venue: Exchange, user: str, side: str, quantity: str, price: str | None = None, **more: Any
) -> SimulatedOrder:
    category = more.pop("category", "linear")
    request = {"symbol": "BTCUSDT", "side": side, "orderType": "Limit" if price else "Market", "qty": quantity}
    return venue.create(user, request | ({"price": price} if price else {}) | more, 1, category)


def told(venue: Exchange, order: SimulatedOrder) -> list[str]:
    """The statuses that the order's owner heard of."""
    return [
        row["orderStatus"] for _, topic, row in venue.outbox if topic == "order" and row["orderId"] == order.order_id
    ]


def by_kind(venue: Exchange, user: str, kind: str) -> list[SimulatedOrder]:
    return [order for order in venue.accounts[user].orders.values() if order.stop_order_type == kind]


def held(venue: Exchange, user: str, index: int = 0) -> Decimal:
    return venue.accounts[user].position("BTCUSDT", index).quantity


@pytest.mark.parametrize("trigger_by", ["LastPrice", "MarkPrice", "IndexPrice"])
def test_a_conditional_order_waits_for_its_price_and_then_works(trigger_by: str) -> None:
    venue = exchange()
    order = place(venue, "alice", "Buy", "1", triggerPrice="105.0", triggerDirection=1, triggerBy=trigger_by)
    settle(venue, venue.markets["BTCUSDT"], 1_040)
    assert (order.status, held(venue, "alice")) == ("Untriggered", 0)
    settle(venue, venue.markets["BTCUSDT"], 1_050)
    assert order.status == "Filled" and told(venue, order)[:3] == ["Untriggered", "Triggered", "New"]


def test_an_order_that_a_trade_triggers_meets_what_the_taker_left_on_the_book() -> None:
    venue = exchange()
    market = venue.markets["BTCUSDT"]
    market.book.bids.replace_background({999: 500})
    waiting = place(venue, "carol", "Buy", "0.2", "100.0", triggerPrice="99.9", triggerDirection=2)
    taker = place(venue, "alice", "Sell", "1", "99.5")
    assert (waiting.status, waiting.filled_value / waiting.filled) == ("Filled", D("99.5"))
    assert (taker.status, taker.leaves) == ("PartiallyFilled", D("0.3"))
    assert market.book.bids.best is None


def test_a_trigger_on_the_wrong_side_of_the_price_is_refused() -> None:
    venue = exchange()
    with pytest.raises(ApiError) as rising:
        place(venue, "alice", "Buy", "1", triggerPrice="99.0", triggerDirection=1)
    with pytest.raises(ApiError) as falling:
        place(venue, "alice", "Buy", "1", triggerPrice="101.0", triggerDirection=2)
    assert (rising.value.code, falling.value.code) == (110092, 110093)


def test_the_eleventh_conditional_order_of_a_symbol_is_refused() -> None:
    venue = exchange()
    for _ in range(10):
        place(venue, "alice", "Buy", "1", triggerPrice="105.0", triggerDirection=1)
    with pytest.raises(ApiError) as refused:
        place(venue, "alice", "Buy", "1", triggerPrice="105.0", triggerDirection=1)
    assert refused.value.code == 110009


def test_a_conditional_order_that_cannot_be_paid_when_it_fires_is_rejected() -> None:
    venue = exchange(balance=50)
    order = place(venue, "alice", "Buy", "100", triggerPrice="105.0", triggerDirection=1)
    settle(venue, venue.markets["BTCUSDT"], 1_060)
    assert (order.status, order.reject_reason) == ("Rejected", "EC_Others")


def test_the_exits_of_an_order_become_exits_of_the_position_and_one_ends_the_other() -> None:
    venue = exchange()
    place(venue, "alice", "Buy", "1", takeProfit="110.0", stopLoss="95.0")
    position = venue.accounts["alice"].position("BTCUSDT")
    assert (position.take_profit, position.stop_loss) == (D("110.0"), D("95.0"))
    settle(venue, venue.markets["BTCUSDT"], 1_110)
    (profit,), (loss,) = by_kind(venue, "alice", "TakeProfit"), by_kind(venue, "alice", "StopLoss")
    assert (profit.status, loss.status, loss.cancel_type) == ("Filled", "Cancelled", "CancelByTpSlTsClear")
    assert held(venue, "alice") == 0 and position.take_profit == position.stop_loss == 0


def test_a_whole_position_exit_closes_what_the_position_is_by_then() -> None:
    venue = exchange()
    place(venue, "alice", "Buy", "1", stopLoss="95.0")
    place(venue, "alice", "Buy", "2")
    settle(venue, venue.markets["BTCUSDT"], 945)
    assert held(venue, "alice") == 0
    assert by_kind(venue, "alice", "StopLoss")[0].filled == 3


def test_partial_exits_close_their_part_as_limit_orders() -> None:
    venue = exchange()
    place(venue, "alice", "Buy", "3")
    request = {"symbol": "BTCUSDT", "tpslMode": "Partial", "takeProfit": "105.0", "tpSize": "1", "tpOrderType": "Limit"}
    venue.set_trading_stop("alice", request | {"tpLimitPrice": "104.0"}, 1)
    settle(venue, venue.markets["BTCUSDT"], 1_051)
    (profit,) = by_kind(venue, "alice", "PartialTakeProfit")
    assert (profit.status, profit.order_type, held(venue, "alice")) == ("Filled", "Limit", 2)


def test_a_trailing_stop_follows_the_price_up_and_not_down() -> None:
    venue = exchange()
    market = venue.markets["BTCUSDT"]
    place(venue, "alice", "Buy", "1")
    venue.set_trading_stop("alice", {"symbol": "BTCUSDT", "trailingStop": "3.0", "activePrice": "102.0"}, 1)
    (trailing,) = by_kind(venue, "alice", "TrailingStop")
    settle(venue, market, 960)
    assert trailing.status == "Untriggered"  # not active yet
    settle(venue, market, 1_050)
    settle(venue, market, 1_030)
    assert (trailing.status, trailing.trigger_price) == ("Untriggered", D("102.0"))
    settle(venue, market, 1_019)
    assert trailing.status == "Filled" and held(venue, "alice") == 0


def test_a_trading_stop_that_changes_nothing_or_stands_on_the_wrong_side_is_refused() -> None:
    venue = exchange()
    place(venue, "alice", "Buy", "1", stopLoss="95.0")
    for request, code in (
        ({"stopLoss": "95.0"}, 34040),
        ({"takeProfit": "99.0"}, 10001),
        ({"stopLoss": "101.0"}, 10001),
        ({"stopLoss": "94.0", "positionIdx": 1}, 10001),
    ):
        with pytest.raises(ApiError) as refused:
            venue.set_trading_stop("alice", {"symbol": "BTCUSDT", **request}, 1)
        assert refused.value.code == code
    venue.set_trading_stop("alice", {"symbol": "BTCUSDT", "stopLoss": "0"}, 1)
    assert venue.accounts["alice"].position("BTCUSDT").stop_loss == 0
    assert by_kind(venue, "alice", "StopLoss")[0].status == "Cancelled"


def test_reduce_only_orders_shrink_with_their_position_and_end_with_it() -> None:
    venue = exchange()
    place(venue, "alice", "Buy", "3")
    near = place(venue, "alice", "Sell", "2", "105.0", reduceOnly=True)
    far = place(venue, "alice", "Sell", "3", "106.0", reduceOnly=True)
    place(venue, "alice", "Sell", "0.5")
    assert (near.leaves, far.leaves) == (2, D("0.5"))
    place(venue, "alice", "Sell", "2.5")
    assert (near.status, near.cancel_type, far.status) == ("Cancelled", "CancelByReduceOnly", "Cancelled")


@pytest.mark.parametrize(
    ("smp", "maker", "taker"),
    [
        ("None", "Filled", "Filled"),
        ("CancelMaker", "Cancelled", "Filled"),
        ("CancelTaker", "New", "Cancelled"),
        ("CancelBoth", "Cancelled", "Cancelled"),
    ],
)
def test_the_taker_decides_what_becomes_of_a_match_with_oneself(smp: str, maker: str, taker: str) -> None:
    venue = exchange()
    venue.markets["BTCUSDT"].book.asks.set_background(1_001, 0)
    mine = place(venue, "alice", "Sell", "1", "100.1")
    crossing = place(venue, "alice", "Buy", "1", "100.3", smpType=smp)
    assert (mine.status, crossing.status) == (maker, taker)
    if smp != "None":
        ended = mine if maker == "Cancelled" else crossing
        assert ended.cancel_type == "CancelBySmp"


def test_hedge_mode_holds_both_sides_and_one_closes_only_its_own() -> None:
    venue = exchange()
    venue.switch_mode("alice", "BTCUSDT", 3)
    place(venue, "alice", "Buy", "2", positionIdx=1)
    place(venue, "alice", "Sell", "1", positionIdx=2)
    assert (held(venue, "alice", 1), held(venue, "alice", 2)) == (2, 1)
    place(venue, "alice", "Sell", "5", positionIdx=1)
    assert (held(venue, "alice", 1), held(venue, "alice", 2)) == (0, 1)
    for index in (0, 3):
        with pytest.raises(ApiError, match="position idx"):
            place(venue, "alice", "Buy", "1", positionIdx=index)
    with pytest.raises(ApiError) as refused:
        venue.switch_mode("alice", "BTCUSDT", 0)
    assert refused.value.code == 110024


def test_the_mode_cannot_change_with_open_orders_and_says_when_it_would_not_change() -> None:
    venue = exchange()
    order = place(venue, "alice", "Buy", "1", "90.0")
    with pytest.raises(ApiError) as orders:
        venue.switch_mode("alice", "BTCUSDT", 3)
    with pytest.raises(ApiError) as same:
        venue.switch_mode("alice", "BTCUSDT", 0)
    assert (orders.value.code, same.value.code) == (110028, 110025)
    venue.cancel("alice", {"orderId": order.order_id}, 1)
    venue.switch_mode("alice", "BTCUSDT", 3)
    assert len(venue.accounts["alice"].positions_of("BTCUSDT")) == 2


def test_less_quantity_keeps_the_place_in_the_queue_and_anything_else_loses_it() -> None:
    venue = exchange()
    book = venue.markets["BTCUSDT"].book
    book.asks.set_background(1_001, 0)
    first = place(venue, "alice", "Sell", "2", "100.1")
    second = place(venue, "bob", "Sell", "1", "100.1")
    venue.amend("alice", {"orderId": first.order_id, "qty": "1"}, 1)
    place(venue, "carol", "Buy", "1", "100.1")
    assert (first.status, second.status) == ("Filled", "New")
    third = place(venue, "alice", "Sell", "1", "100.1")
    venue.amend("bob", {"orderId": second.order_id, "qty": "2"}, 1)
    place(venue, "carol", "Buy", "1", "100.1")
    assert (third.status, second.status) == ("Filled", "New")
    with pytest.raises(ApiError, match="remains unchanged"):
        venue.amend("bob", {"orderId": second.order_id, "qty": "2"}, 1)


def test_funding_is_paid_by_longs_and_received_by_shorts_and_is_recorded() -> None:
    venue = exchange()
    market = venue.markets["BTCUSDT"]
    place(venue, "alice", "Buy", "1")
    place(venue, "bob", "Sell", "1")
    before = {user: venue.accounts[user].balance for user in USERS}
    market.funding_rate = D("0.001")
    venue.margin.pay_funding(market, 5)
    changes = {user: venue.accounts[user].balance - before[user] for user in USERS}
    assert changes == {"alice": D("-0.1"), "bob": D("0.1"), "carol": 0}
    row = venue.accounts["alice"].executions[-1]
    assert (row["execType"], D(row["execFee"])) == ("Funding", D("0.1"))
    settlement = venue.accounts["alice"].transactions[-1]
    assert (settlement["type"], D(settlement["funding"]), D(settlement["change"])) == (
        "SETTLEMENT",
        D("-0.1"),
        D("-0.1"),
    )


def test_an_account_that_no_longer_covers_maintenance_is_liquidated_at_its_bankruptcy_price() -> None:
    venue = exchange(balance=100, depth=5_000)
    market = venue.markets["BTCUSDT"]
    venue.set_leverage("alice", "BTCUSDT", "50")
    place(venue, "alice", "Buy", "30")
    resting = place(venue, "alice", "Buy", "0.1", "90.0")
    liquidation = venue.accounts["alice"].position("BTCUSDT").liquidation_price(D(100) - venue.ledger.fees["USDT"])
    settle(venue, market, int(liquidation * 10) + 2, 5_000)
    assert held(venue, "alice") == 30
    settle(venue, market, int(liquidation * 10) - 1, 5_000)
    assert held(venue, "alice") == 0 and resting.cancel_type == "CancelAllBeforeLiq"
    (report,) = venue.liquidations
    assert (report.side, report.quantity) == ("Buy", 30)
    row = venue.accounts["alice"].executions[-1]
    assert (row["execType"], row["createType"], row["orderLinkId"]) == (
        "BustTrade",
        "CreateByTakeOver_PassThrough",
        "",
    )
    # Nothing is left but what one tick of the position is worth, and nothing is owed.
    assert 0 <= venue.accounts["alice"].balance < D("3.1")
    assert abs(venue.ledger.total("USDT") - 300) < D("1e-9")


def test_spot_moves_coins_takes_its_fee_from_what_is_received_and_lends_nothing() -> None:
    venue = exchange(depth=5_000)
    bought = place(venue, "alice", "Buy", "200.2", category="spot")  # a market buy is told in the quote coin
    wallets = venue.accounts["alice"].wallets
    assert (bought.status, bought.filled, wallets["BTC"]) == ("Filled", 2, D("1.998"))
    assert wallets["USDT"] == 10_000 - D("200.2") and bought.fee_currency == "BTC"
    with pytest.raises(ApiError) as refused:
        place(venue, "alice", "Sell", "2", category="spot")
    assert refused.value.code == 170131
    resting = place(venue, "alice", "Sell", "1.998", "101.0", category="spot")
    assert venue.accounts["alice"].locked("BTC") == D("1.998")
    settle(venue, venue.spot["BTCUSDT"], 1_020)
    assert (resting.status, wallets["BTC"]) == ("Filled", 0)
    for coin, total in (("USDT", 30_000), ("BTC", 0)):
        assert abs(venue.ledger.total(coin) - total) < D("1e-9")


@pytest.mark.parametrize(("side", "price"), [("Sell", "101.0"), ("Buy", "99.0")])
def test_a_spot_order_cannot_grow_beyond_what_its_owner_has(side: str, price: str) -> None:
    venue = exchange(balance=200)
    venue.accounts["alice"].pay("BTC", D(2))
    order = place(venue, "alice", side, "1", price, category="spot")
    with pytest.raises(ApiError) as refused:
        venue.amend("alice", {"orderId": order.order_id, "qty": "3"}, 1, "spot")
    assert refused.value.code == 170131 and order.quantity == 1
    venue.amend("alice", {"orderId": order.order_id, "qty": "2"}, 1, "spot")
    assert order.quantity == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quantity": "0.0001"}, 170137),
        ({"price": "100.01"}, 170134),
        ({"quantity": "0.01"}, 170140),
        ({"quantity": "501"}, 170124),
        ({"symbol": "NOPEUSDT"}, 170121),
    ],
)
def test_spot_refuses_with_its_own_codes(changes: dict[str, str], code: int) -> None:
    venue = exchange()
    values = {"quantity": "1", "price": "100.0"} | changes
    with pytest.raises(ApiError) as refused:
        place(venue, "alice", "Buy", values.pop("quantity"), values.pop("price"), category="spot", **values)
    assert refused.value.code == code


def test_closed_pnl_adds_up_the_fills_of_one_order() -> None:
    venue = exchange()
    place(venue, "alice", "Buy", "1")
    settle(venue, venue.markets["BTCUSDT"], 1_100)
    order = place(venue, "alice", "Sell", "1")
    (row,) = venue.accounts["alice"].closed_pnl.values()
    assert row["orderId"] == order.order_id and int(row["fillCount"]) == 2
    assert D(row["closedPnl"]) == order.closed_pnl == D(row["cumExitValue"]) - D(row["cumEntryValue"])
