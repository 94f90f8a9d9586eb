"""Own orders in a replayed book: worked out by hand, and as the simulator's exchange has it event by event."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trading.backtest.feed_tests import GRIDS, Row, feed, message, trade
from trading.backtest.replay import Fill, Force, Replay, Status, Watched, Why
from trading.simulator.book import Side
from trading.simulator.errors import ApiError
from trading.simulator.exchange import Exchange
from trading.simulator.instruments import INSTRUMENTS
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.markets import Market, market_of
from trading.simulator.orders import SimulatedOrder

FIRST = message(10, {100: 50, 99: 80}, {102: 60, 103: 70}, snapshot=True)
LAST = message(90, {}, {})


def fills(replay: Replay, until: int) -> list[Fill]:
    """Go on to a time, through every stop before it."""
    while not replay.advance(until) & Why.TIME:
        pass
    return replay.take_fills()


def traded(found: list[Fill]) -> list[tuple[int, int, int, bool]]:
    return [(each.time_ns, each.tick, each.lots, each.is_maker) for each in found]


# By hand.


def test_an_order_waits_until_what_stood_before_it_has_traded_and_fills_in_parts() -> None:
    replay = Replay(
        feed(FIRST, trade(20, "Sell", 100, 30), trade(30, "Sell", 100, 25), trade(40, "Sell", 100, 20), LAST)
    )
    replay.advance(10)
    order = replay.submit("Buy", 10, 100)
    assert replay.advance(15) == Why.TIME
    assert replay.order(order).ahead == 50
    assert fills(replay, 20) == []
    assert replay.order(order).ahead == 20
    assert replay.advance(35) == Why.FILLED
    assert traded(replay.take_fills()) == [(30, 100, 5, True)]
    assert (replay.time_ns, replay.order(order).left, replay.order(order).ahead) == (30, 5, 0)
    assert traded(fills(replay, 90)) == [(40, 100, 5, True)]
    assert replay.order(order).status is Status.FILLED


def test_what_goes_away_goes_from_behind_an_order_first() -> None:
    """30 come behind the order and leave again; then 15 of those before it."""
    parts = (message(20, {100: 80}, {}), message(30, {100: 50}, {}), message(40, {100: 35}, {}))
    replay = Replay(feed(FIRST, *parts))
    replay.advance(10)
    order = replay.submit("Buy", 10, 100)
    seen = [(replay.advance(time), replay.order(order).ahead)[1] for time in (20, 30, 40)]
    assert seen == [50, 50, 35]


def test_a_level_that_vanishes_leaves_the_order_at_its_front() -> None:
    replay = Replay(feed(FIRST, message(20, {100: 0}, {}), message(30, {100: 7}, {}), trade(40, "Sell", 100, 4)))
    replay.advance(10)
    order = replay.submit("Buy", 10, 100)
    replay.advance(20)
    assert (replay.bids.best, replay.order(order).ahead) == (99, 0)
    assert traded(fills(replay, 40)) == [(40, 100, 4, True)]
    assert replay.bids.lots_at(100) == 7


def test_a_trade_goes_through_orders_at_better_prices() -> None:
    replay = Replay(feed(FIRST, trade(20, "Sell", 99, 1)))
    replay.advance(10)
    replay.submit("Buy", 10, 100)
    replay.submit("Buy", 5, 101)
    assert traded(fills(replay, 20)) == [(20, 101, 5, True), (20, 100, 10, True)]


def test_orders_that_the_book_comes_to_cross_fill_at_their_own_price_as_far_as_it_reaches() -> None:
    replay = Replay(feed(FIRST, message(20, {}, {99: 4, 102: 0, 103: 0})))
    replay.advance(10)
    order = replay.submit("Buy", 10, 100)
    assert traded(fills(replay, 20)) == [(20, 100, 4, True)]
    assert replay.order(order).left == 6
    assert (replay.asks.best, replay.asks.lots_at(99)) == (None, 0)


def test_a_market_order_walks_the_levels_and_what_it_took_is_gone_until_the_feed_speaks_of_it() -> None:
    replay = Replay(feed(FIRST, message(30, {}, {102: 65}), LAST))
    replay.advance(10)
    replay.submit("Buy", 100, at_ns=20)
    assert traded(fills(replay, 25)) == [(20, 102, 60, False), (20, 103, 40, False)]
    assert replay.asks.top(5) == {103: 30}
    fills(replay, 30)
    assert replay.asks.top(5) == {102: 65, 103: 30}


def test_what_a_market_order_cannot_get_ends() -> None:
    replay = Replay(feed(FIRST, LAST))
    replay.advance(10)
    order = replay.submit("Sell", 200)
    assert replay.advance(20) == Why.FILLED | Why.ENDED
    assert traded(replay.take_fills()) == [(10, 100, 50, False), (10, 99, 80, False)]
    (end,) = replay.take_ends()
    assert (end.order_id, end.status, end.left) == (order, Status.NO_LIQUIDITY, 70)


def test_orders_arrive_after_their_way_and_are_known_after_the_way_back() -> None:
    """The best ask is gone when the order arrives at 40: what it was sent for at 10."""
    replay = Replay(feed(FIRST, message(30, {}, {102: 0}), LAST), entry_ns=30, response_ns=7)
    replay.advance(10)
    replay.submit("Buy", 10, 103, Force.IOC)
    (found,) = fills(replay, 90)
    assert (found.time_ns, found.known_ns, found.tick, found.is_maker) == (40, 47, 103, False)


def test_a_cancel_that_comes_too_late_changes_nothing() -> None:
    replay = Replay(feed(FIRST, trade(20, "Sell", 99, 1), LAST))
    replay.advance(10)
    order = replay.submit("Buy", 10, 100)
    replay.advance(12)
    replay.cancel(order, at_ns=20)
    assert traded(fills(replay, 30)) == [(20, 100, 10, True)]
    assert replay.take_ends() == []


def test_post_only_never_takes_and_fill_or_kill_takes_all_or_nothing() -> None:
    replay = Replay(feed(FIRST, LAST))
    replay.advance(10)
    post, kill = replay.submit("Buy", 10, 102, Force.POST_ONLY), replay.submit("Buy", 131, 103, Force.FOK)
    replay.submit("Buy", 130, 103, Force.FOK)
    assert traded(fills(replay, 20)) == [(10, 102, 60, False), (10, 103, 70, False)]
    assert [(end.order_id, end.status) for end in replay.take_ends()] == [
        (post, Status.WOULD_TAKE),
        (kill, Status.NO_LIQUIDITY),
    ]


def test_only_a_smaller_quantity_keeps_the_place() -> None:
    replay = Replay(feed(FIRST, message(20, {100: 80}, {}), LAST))
    replay.advance(10)
    order = replay.submit("Buy", 10, 100)
    replay.advance(20)
    replay.amend(order, 6, 100)
    replay.advance(25)
    assert (replay.order(order).left, replay.order(order).ahead) == (6, 50)
    replay.amend(order, 8, 100)
    replay.advance(30)
    assert (replay.order(order).left, replay.order(order).ahead) == (8, 80)


def test_a_snapshot_takes_away_what_it_does_not_tell_and_leaves_orders_where_they_stand() -> None:
    replay = Replay(feed(FIRST, message(20, {100: 20, 98: 5}, {104: 1}, snapshot=True), LAST))
    replay.advance(10)
    first, second = replay.submit("Buy", 10, 100), replay.submit("Buy", 10, 99)
    replay.advance(20)
    assert (replay.bids.top(5), replay.asks.top(5)) == ({100: 20, 98: 5}, {104: 1})
    assert (replay.order(first).ahead, replay.order(second).ahead) == (20, 0)


def test_a_watched_price_stops_the_replay_once() -> None:
    replay = Replay(feed(FIRST, trade(20, "Buy", 102, 1), trade(30, "Buy", 103, 1), trade(40, "Buy", 104, 1), LAST))
    replay.watch(None, 103)
    assert (replay.advance(90), replay.time_ns, replay.last_tick) == (Why.WATCHED, 30, 103)
    assert replay.advance(90) == Why.TIME | Why.END
    replay = Replay(feed(FIRST, message(20, {100: 0}, {}), message(30, {99: 0}, {}), LAST))
    replay.watch(99, None, Watched.BID)
    assert (replay.advance(90), replay.time_ns) == (Why.WATCHED, 20)


def test_orders_that_cannot_be_are_refused_with_words() -> None:
    replay = Replay(feed(FIRST, LAST))
    replay.advance(50)
    with pytest.raises(ValueError, match="expected Buy or Sell, above 0"):
        replay.submit("Buy", 0, 100)
    with pytest.raises(ValueError, match="it would arrive at 40, but it is 50"):
        replay.submit("Buy", 1, 100, at_ns=40)
    with pytest.raises(KeyError, match="no order 7"):
        replay.cancel(7)


def test_more_orders_than_there_was_room_for_keep_their_places() -> None:
    replay = Replay(feed(FIRST, *(trade(20 + number, "Sell", 100, 1) for number in range(40)), LAST))
    replay.advance(10)
    orders = [replay.submit("Buy", 1, 100) for _ in range(1_000)]
    replay.advance(12)
    assert replay.open_orders == orders
    assert [replay.order(each).ahead for each in orders] == [50] * 1_000
    replay.submit("Sell", 70)
    found = fills(replay, 90)
    # 50 of others, then the first 20 of its own; then the feed's 40.
    assert [each.order_id for each in found if each.is_maker] == orders[:60]


# Trades alone.


def of_trades(*parts: list[Row], **assumed: Any) -> Replay:
    return Replay(feed(*parts, has_book=False), **assumed)


def test_takers_pay_half_the_spread_and_slippage_beyond_the_last_trade_but_never_more_than_their_limit() -> None:
    """1000 up 0.05 % is 1000.5, so 1001; with slippage 1001.5, so 1002. Down: 999 and 998."""
    replay = of_trades(trade(10, "Buy", 1_000, 5), spread=Decimal("0.001"), slippage=Decimal("0.001"))
    replay.submit("Buy", 7, at_ns=9)
    assert replay.advance(9) == Why.ENDED  # nothing has traded yet
    replay.advance(10)
    assert (replay.bids.best, replay.asks.best) == (999, 1_001)
    for side, tick in (("Buy", None), ("Sell", None), ("Buy", 1_001)):
        replay.submit(side, 7, tick)
    assert traded(fills(replay, 20)) == [(10, 1_002, 7, False), (10, 998, 7, False), (10, 1_001, 7, False)]


def test_on_trades_an_order_fills_when_they_go_through_or_when_the_assumed_queue_has_traded() -> None:
    parts = (
        trade(10, "Buy", 1_000, 5),
        trade(20, "Sell", 998, 60),
        trade(30, "Sell", 998, 50),
        trade(40, "Buy", 990, 1),
    )
    replay = of_trades(*parts, trade(50, "Sell", 996, 1), queue_lots=100)
    replay.advance(10)
    replay.submit("Buy", 30, 998)
    replay.submit("Buy", 40, 997)
    # The buyer's trade far below touches no order that buys.
    assert traded(fills(replay, 49)) == [(30, 998, 10, True)]
    assert traded(fills(replay, 60)) == [(50, 998, 20, True), (50, 997, 40, True)]


# As the exchange of the simulator has it.

LEVELS = st.dictionaries(st.integers(995, 1_007), st.sampled_from([0, 0, 40, 100, 170]), max_size=4)
BOOKS = st.tuples(st.just("book"), LEVELS, LEVELS, st.booleans())
TRADES = st.tuples(
    st.just("trade"), st.sampled_from(["Buy", "Sell"]), st.integers(996, 1_006), st.sampled_from([30, 60, 200])
)
ORDERS = st.tuples(
    st.just("order"),
    st.sampled_from(["Buy", "Sell"]),
    st.sampled_from([50, 90, 160]),
    st.one_of(st.none(), st.integers(996, 1_006)),
    st.sampled_from(["GTC", "GTC", "GTC", "PostOnly", "IOC", "FOK"]),
)
CANCELS = st.tuples(st.just("cancel"), st.integers(0, 8))
AMENDS = st.tuples(st.just("amend"), st.integers(0, 8), st.sampled_from([50, 70, 160]), st.integers(996, 1_006))
STEPS = st.lists(st.one_of(BOOKS, BOOKS, TRADES, TRADES, ORDERS, ORDERS, CANCELS, AMENDS), min_size=4, max_size=30)
FORCES = {"GTC": Force.GTC, "PostOnly": Force.POST_ONLY, "IOC": Force.IOC, "FOK": Force.FOK}
OVER = {"Filled", "Cancelled"}


class Truth:
    """The simulator's exchange, told everything one by one."""

    def __init__(self) -> None:
        self.market: Market = market_of(INSTRUMENTS[0].listing())
        self.market.last_price = self.market.mark_price = Decimal(100)
        self.exchange = Exchange({"BTCUSDT": self.market}, DEMO_KEYS)
        self.orders: list[SimulatedOrder] = []

    def book(self, bids: dict[int, int], asks: dict[int, int], *, snapshot: bool) -> None:
        for side, levels in ((self.market.book.bids, bids), (self.market.book.asks, asks)):
            if snapshot:
                side.replace_background(levels)
            else:
                for tick, lots in levels.items():
                    side.set_background(tick, lots)
        self.exchange.cross_resting(self.market, 1)

    def order(self, side: str, lots: int, tick: int | None, force: str) -> None:
        request = {"symbol": "BTCUSDT", "side": side, "orderType": "Limit" if tick else "Market"}
        request |= {"qty": GRIDS.quantities.text(lots), "timeInForce": force}
        self.orders.append(
            self.exchange.create("alice", request | ({"price": GRIDS.prices.text(tick)} if tick else {}), 1)
        )

    def amend(self, number: int, lots: int, tick: int) -> None:
        request = {"orderId": self.orders[number].order_id, "qty": GRIDS.quantities.text(lots)}
        self.exchange.amend("alice", request | {"symbol": "BTCUSDT", "price": GRIDS.prices.text(tick)}, 1)

    def fills(self) -> Counter[tuple[int, str, bool]]:
        """What has traded since the last call: lots by order, price and role."""
        numbers = {order.order_id: number for number, order in enumerate(self.orders)}
        found: Counter[tuple[int, str, bool]] = Counter()
        for _, topic, row in self.exchange.outbox:
            if topic == "execution":
                key = numbers[row["orderId"]], str(Decimal(row["execPrice"]).normalize()), bool(row["isMaker"])
                found[key] += GRIDS.quantities.units(row["execQty"])
        self.exchange.outbox.clear()
        return found

    def ahead(self, order: SimulatedOrder) -> int:
        side, lots = self.market.book.side(order.side), 0
        for each in side.queue(order.tick or 0):
            if each.order is order:
                break
            lots += each.lots if each.order is None else 0
        return lots


def others(side: Side) -> dict[int, int]:
    return {tick: lots for tick in side.ticks() if (lots := side.background_at(tick))}


def apply(truth: Truth, step: tuple[Any, ...]) -> bool:
    """Let one thing happen at the exchange; whether it did."""
    what, *rest = step
    try:
        if what == "book":
            truth.book(rest[0], rest[1], snapshot=rest[2])
        elif what == "trade":
            truth.exchange.background_trade(truth.market, rest[1], rest[2], rest[0], 1)
        elif what == "order":
            truth.order(*rest)
        elif rest[0] >= len(truth.orders):
            return False
        elif what == "cancel":
            truth.exchange.cancel("alice", {"orderId": truth.orders[rest[0]].order_id, "symbol": "BTCUSDT"}, 1)
        else:
            truth.amend(*rest)
    except ApiError:
        return False
    return True


def rows_of(time: int, step: tuple[Any, ...]) -> list[Row]:
    if step[0] == "book":
        return message(time, step[1], step[2], snapshot=step[3])
    return trade(time, step[1], step[2], step[3]) if step[0] == "trade" else []


def request(replay: Replay, ids: list[int], time: int, step: tuple[Any, ...]) -> None:
    """The same of one's own, to arrive at a time."""
    if step[0] == "order":
        _, side, lots, tick, force = step
        ids.append(replay.submit(side, lots, tick, FORCES[force] if tick else Force.GTC, at_ns=time))
    elif step[0] == "cancel":
        replay.cancel(ids[step[1]], at_ns=time)
    elif step[0] == "amend":
        replay.amend(ids[step[1]], step[2], step[3], at_ns=time)


def counted(found: list[Fill], ids: list[int]) -> Counter[tuple[int, str, bool]]:
    lots: Counter[tuple[int, str, bool]] = Counter()
    for each in found:
        lots[ids.index(each.order_id), str(GRIDS.prices.value(each.tick).normalize()), each.is_maker] += each.lots
    return lots


def assert_same_state(replay: Replay, ids: list[int], truth: Truth) -> None:
    book = truth.market.book
    assert replay.bids.top(50) == others(book.bids)
    assert replay.asks.top(50) == others(book.asks)
    for order_id, order in zip(ids, truth.orders, strict=True):
        mine = replay.order(order_id)
        assert (mine.status >= Status.FILLED) == (order.status in OVER)
        if order.entry is not None:
            assert (mine.left, mine.tick, mine.ahead) == (order.leaves_lots, order.tick, truth.ahead(order))


START = ("book", {1_000: 100, 999: 170}, {1_002: 100, 1_003: 170}, True)


@given(STEPS)
@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_fills_places_and_book_are_those_of_the_exchange_event_by_event(steps: list[tuple[Any, ...]]) -> None:
    timed = [(10 * number, step) for number, step in enumerate([START, *steps], start=1)]
    replay = Replay(feed(*(rows_of(time, step) for time, step in timed)))
    truth, ids = Truth(), list[int]()
    for time, step in timed:
        happened = apply(truth, step)
        if step[0] not in ("book", "trade") and happened:
            request(replay, ids, time, step)
        assert counted(fills(replay, time), ids) == truth.fills()
        assert_same_state(replay, ids, truth)


@given(STEPS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_orders_that_are_all_on_their_way_from_the_start_do_the_same(steps: list[tuple[Any, ...]]) -> None:
    timed = [(10 * number, step) for number, step in enumerate([START, *steps], start=1)]
    replay = Replay(feed(*(rows_of(time, step) for time, step in timed), message(10_000, {}, {})))
    truth, ids, expected = Truth(), list[int](), Counter[tuple[int, str, bool]]()
    for time, step in timed:
        if apply(truth, step):
            request(replay, ids, time, step)
        expected += truth.fills()
    assert counted(fills(replay, 10_000), ids) == expected
    assert_same_state(replay, ids, truth)
