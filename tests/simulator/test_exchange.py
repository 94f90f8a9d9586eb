"""The matching core: price before time, never crossed, and no money from nowhere."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.simulator.errors import ApiError
from trading.simulator.exchange import Exchange
from trading.simulator.instruments import INSTRUMENTS
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.markets import market_of
from trading.simulator.orderflow import OrderFlow
from trading.simulator.orders import SimulatedOrder

D = Decimal
START = D(300_000)


def exchange(*, background: bool = False) -> Exchange:
    market = market_of(INSTRUMENTS[0].listing())
    market.last_price = market.mark_price = D(100)
    made = Exchange({"BTCUSDT": market}, DEMO_KEYS)
    if background:
        for distance in range(1, 20):
            market.book.bids.set_background(1000 - distance, 500)
            market.book.asks.set_background(1000 + distance, 500)
    return made


def place(
    venue: Exchange, user: str, side: str, quantity: str, price: str | None = None, **more: str
) -> SimulatedOrder:
    request = {"symbol": "BTCUSDT", "side": side, "orderType": "Limit" if price else "Market", "qty": quantity}
    return venue.create(user, request | ({"price": price} if price else {}) | more, 1)


def test_the_better_price_fills_first_and_at_one_price_the_older_order() -> None:
    venue = exchange()
    late_but_better = None
    first = place(venue, "alice", "Sell", "1", "101.0")
    second = place(venue, "bob", "Sell", "1", "101.0")
    late_but_better = place(venue, "alice", "Sell", "1", "100.5")
    place(venue, "desk", "Buy", "1.5", "101.0")
    assert (late_but_better.status, first.status, second.status) == ("Filled", "PartiallyFilled", "New")
    assert first.filled == D("0.5")


def test_a_resting_order_keeps_its_place_while_the_background_flickers() -> None:
    venue = exchange()
    book = venue.markets["BTCUSDT"].book
    book.asks.set_background(1010, 700)
    mine = place(venue, "alice", "Sell", "1", "101.0")
    book.asks.set_background(1010, 2_000)  # more arrives behind it
    book.asks.set_background(1010, 300)  # and leaves again, from the back
    place(venue, "bob", "Buy", "0.3", "101.0")
    assert mine.filled == 0
    place(venue, "bob", "Buy", "1", "101.0")
    assert mine.status == "Filled"


def test_in_a_replay_our_order_waits_for_what_was_recorded_ahead_of_it() -> None:
    venue = exchange(background=True)
    market = venue.markets["BTCUSDT"]
    mine = place(venue, "alice", "Sell", "0.4", "100.1")  # 500 lots stand ahead of it
    venue.background_trade(market, 1_001, 300, "Buy", 2)
    market.book.asks.set_background(1_001, 200)  # the recording's word on the level after its trade
    assert mine.filled == 0
    venue.background_trade(market, 1_001, 500, "Buy", 3)
    assert mine.filled == D("0.3")
    venue.background_trade(market, 1_002, 1, "Buy", 4)
    assert mine.status == "Filled" and mine.filled_value == D("0.4") * D("100.1")


@pytest.mark.parametrize("book_first", [True, False])
def test_a_recorded_trade_is_not_taken_twice_whether_the_book_speaks_of_it_before_or_after(book_first: bool) -> None:
    venue = exchange(background=True)
    market = venue.markets["BTCUSDT"]
    asks = market.book.asks
    mine = place(venue, "alice", "Sell", "0.4", "100.1")  # 500 lots stand ahead of it
    asks.set_background(1_001, 900)
    if book_first:
        asks.set_background(1_001, 600)
    venue.background_trade(market, 1_001, 300, "Buy", 2)
    if not book_first:
        asks.set_background(1_001, 600)
    assert [each.lots for each in asks.queue(1_001)] == [200, 400, 400]
    assert mine.filled == 0
    venue.background_trade(market, 1_001, 300, "Buy", 3)
    assert mine.filled == D("0.1")
    assert asks.background_at(1_001) == 600


def test_a_fill_or_kill_order_fills_whole_or_not_at_all() -> None:
    venue = exchange(background=True)
    assert place(venue, "alice", "Buy", "1.1", "100.2", timeInForce="FOK").status == "Cancelled"
    assert place(venue, "alice", "Buy", "1", "100.2", timeInForce="FOK").status == "Filled"


def test_an_immediate_or_cancel_order_never_rests() -> None:
    venue = exchange(background=True)
    order = place(venue, "alice", "Buy", "0.8", "100.1", timeInForce="IOC")
    assert (order.status, order.filled) == ("Cancelled", D("0.5"))


def test_reduce_only_never_turns_a_position_around() -> None:
    venue = exchange(background=True)
    place(venue, "alice", "Buy", "0.5")
    place(venue, "alice", "Sell", "2", reduceOnly="true")
    assert venue.accounts["alice"].position("BTCUSDT").quantity == 0
    with pytest.raises(ApiError, match="current position is zero"):
        place(venue, "alice", "Sell", "1", reduceOnly="true")


def test_take_profit_and_stop_loss_close_the_position_when_the_last_price_gets_there() -> None:
    venue = exchange(background=True)
    market = venue.markets["BTCUSDT"]
    place(venue, "alice", "Buy", "0.5", takeProfit="110.0", stopLoss="99.5")
    venue.background_take(market, "Sell", 3_000, None, 2)
    venue.mark(market, D("99.0"), D("99.0"), 3)
    account = venue.accounts["alice"]
    assert account.position("BTCUSDT").quantity == 0
    assert list(account.orders.values())[-1].stop_order_type == "StopLoss"


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["alice", "bob", "desk"]),
        st.sampled_from(["Buy", "Sell"]),
        st.sampled_from(["GTC", "IOC", "FOK", "PostOnly", "Market", "cancel", "background"]),
        st.integers(1, 2_000),
        st.integers(980, 1_020),
    ),
    max_size=60,
)


@settings(max_examples=120, deadline=None)
@given(ACTIONS)
def test_money_adds_up_and_the_book_is_never_crossed(actions: list) -> None:
    venue = exchange(background=True)
    market = venue.markets["BTCUSDT"]
    for user, side, kind, lots, tick in actions:
        try:
            if kind == "cancel":
                venue.cancel_all(user, None, 1)
            elif kind == "background":
                venue.background_take(market, side, lots, tick, 1)
            elif kind == "Market":
                place(venue, user, side, str(D(lots) / 1000))
            else:
                place(venue, user, side, str(D(lots) / 1000), str(D(tick) / 10), timeInForce=kind)
        except ApiError:
            continue
        bid, ask = market.book.bids.best, market.book.asks.best
        assert bid is None or ask is None or bid < ask
        for resting in (market.book.bids, market.book.asks):
            for tick in resting.ticks():
                assert resting.lots_at(tick) == sum(entry.lots for entry in resting.queue(tick)) > 0
    assert abs(venue.ledger.total("USDT") - START) < D("1e-9")
    for account in venue.accounts.values():
        net = sum((1 if row["side"] == "Buy" else -1) * D(row["execQty"]) for row in account.executions)
        position = account.position("BTCUSDT")
        assert position.quantity == abs(net)


def test_the_same_seed_makes_the_same_market() -> None:
    def run(seed: int) -> list[tuple[str, str]]:
        venue = exchange()
        flow = OrderFlow(venue, seed)
        each = INSTRUMENTS[0]
        flow.add(venue.markets["BTCUSDT"], each.price, each.volatility, each.level_value)
        for step in range(6_000):
            flow.step(step * 20)
        return [(f"{trade.price}", f"{trade.quantity}") for trade in venue.trades]

    first, again, other = run(3), run(3), run(4)
    assert first == again and first != other and len(first) > 100
