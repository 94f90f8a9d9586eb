"""The order flow: one seed is one market, its book is never crossed, and it trades with users' orders as it should."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.likeness import recorded, simulated_mean
from marketdata.instruments import rules_from_bybit
from tests.recordings import bybit_session
from trading.simulator.book import MatchingBook
from trading.simulator.errors import ApiError
from trading.simulator.exchange import Exchange
from trading.simulator.instruments import INSTRUMENTS
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.markets import market_of
from trading.simulator.orderflow import LEVELS_A_SIDE, OrderFlow
from trading.simulator.orders import SimulatedOrder
from trading.simulator.publisher import BookStream

BTC, SOL = INSTRUMENTS[0], INSTRUMENTS[2]
STEP_MS = 20


def living(*instruments: object, seed: int = 7, liveliness: float = 1.0) -> tuple[Exchange, OrderFlow]:
    listed = instruments or (BTC,)
    venue = Exchange({each.symbol: market_of(each.listing()) for each in listed}, DEMO_KEYS)
    flow = OrderFlow(venue, seed, liveliness)
    for each in listed:
        flow.add(venue.markets[each.symbol], each.price, each.volatility, each.level_value)
    return venue, flow


def place(venue: Exchange, user: str, side: str, tick: int, lots: int, symbol: str) -> SimulatedOrder:
    grids = venue.markets[symbol].grids
    request = {"symbol": symbol, "side": side, "orderType": "Limit"}
    return venue.create(user, request | {"price": grids.prices.text(tick), "qty": grids.quantities.text(lots)}, 1)


def assert_sound(book: MatchingBook) -> None:
    assert book.bids.best < book.asks.best
    for side in (book.bids, book.asks):
        for tick in side.ticks():
            assert side.lots_at(tick) == sum(entry.lots for entry in side.queue(tick)) > 0


def test_a_seed_is_one_market_byte_for_byte() -> None:
    def run(seed: int) -> list[bytes | None]:
        venue, flow = living(BTC, SOL, seed=seed)
        streams = [BookStream(market, 200, 1) for market in venue.markets.values()]
        told = [stream.snapshot(0) for stream in streams]
        for step in range(1_500):
            flow.step(step * STEP_MS)
            told += [stream.delta(step) for stream in streams]
        return [*told, repr(venue.trades).encode()]

    first = run(3)
    assert first == run(3)
    assert first != run(4)


@pytest.mark.parametrize("each", INSTRUMENTS, ids=lambda each: each.symbol)
def test_every_instrument_lists_valid_rules_and_makes_a_market(each: object) -> None:
    rules = rules_from_bybit(each.listing(), "linear")
    assert each.price % rules.tick_size == 0
    # One lot is small against what an order must be worth at least, and a book fits above a price of nothing.
    assert rules.lot_size * each.price < 100 and each.price / rules.tick_size > 10 * LEVELS_A_SIDE / 2
    venue, flow = living(each)
    for step in range(50):
        flow.step(step * STEP_MS)
    book = venue.markets[each.symbol].book
    assert len(book.bids) > 200 and len(book.asks) > 200
    assert_sound(book)


def test_there_are_a_hundred_different_instruments() -> None:
    assert len({each.symbol for each in INSTRUMENTS}) == len(INSTRUMENTS) == 100


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["alice", "bob"]),
        st.sampled_from(["Buy", "Sell"]),
        st.integers(-60, 60),
        st.integers(1, 400),
        st.integers(0, 40),
        st.sampled_from([0.0, 0.0, 0.0, -0.3, 0.3, 2.0]),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([BTC, SOL]), st.integers(0, 2**32), ACTIONS)
def test_the_book_is_never_crossed_with_users_orders_in_it(each: object, seed: int, actions: list) -> None:
    venue, flow = living(each, seed=seed, liveliness=3.0)
    market, now = venue.markets[each.symbol], 0
    placed = []
    for user, side, distance, lots, steps, percent in actions:
        middle = (market.book.bids.best + market.book.asks.best) // 2
        try:
            placed.append(place(venue, user, side, middle + distance, lots, each.symbol))
        except ApiError:
            venue.cancel_all(user, None, now)
        if percent:
            flow.move(each.symbol, percent)
        for _ in range(steps):
            now += STEP_MS
            flow.step(now)
            assert market.book.bids.best < market.book.asks.best
        assert_sound(market.book)
    for order in placed:
        assert 0 <= order.filled <= order.quantity
    for account in venue.accounts.values():
        for order in account.working.values():
            assert order.entry is not None
            resting = market.book.side(order.side).queue(order.tick)
            assert [entry.lots for entry in resting if entry.order is order] == [order.leaves_lots]


@pytest.mark.parametrize(("side", "percent"), [("Buy", -0.2), ("Sell", 0.2)])
def test_an_order_is_filled_when_the_price_goes_through_it(side: str, percent: float) -> None:
    venue, flow = living(SOL)
    book = venue.markets["SOLUSDT"].book
    best = book.side(side).best
    tick = best - 5 if side == "Buy" else best + 5
    order = place(venue, "alice", side, tick, 3, "SOLUSDT")
    flow.move("SOLUSDT", percent)
    for step in range(200):
        flow.step(step * STEP_MS)
    assert order.status == "Filled"
    assert order.filled_value == order.filled * order.price
    assert_sound(book)


def test_a_resting_order_keeps_its_place_in_a_living_queue() -> None:
    venue, flow = living(SOL, seed=11)
    market = venue.markets["SOLUSDT"]
    tick = market.book.bids.best - 12
    first = place(venue, "alice", "Buy", tick, 2, "SOLUSDT")
    ahead_before = ahead_of(market.book, tick, first)
    second = place(venue, "bob", "Buy", tick, 2, "SOLUSDT")
    for step in range(3_000):
        flow.step(step * STEP_MS)
        if second.filled:
            assert first.status == "Filled"
        if first.entry is None:
            break
        # Whatever arrives queues behind: what stands in front only ever becomes less.
        ahead = ahead_of(market.book, tick, first)
        assert ahead <= ahead_before
        ahead_before = ahead
        if step == 500:
            flow.move("SOLUSDT", -0.3)
    assert first.status == "Filled"


def ahead_of(book: MatchingBook, tick: int, order: SimulatedOrder) -> int:
    total = 0
    for entry in book.bids.queue(tick):
        if entry.order is order:
            return total
        total += entry.lots
    raise AssertionError("the order does not rest there")


def test_the_price_moves_as_much_as_the_instrument_says() -> None:
    venue, flow = living(BTC, SOL)
    returns = []
    for each in (BTC, SOL):
        returns.append([float(venue.markets[each.symbol].last_price)])
    for step in range(40 * 3_000):  # minutes
        flow.step(step * STEP_MS)
        if step % 3_000 == 2_999:
            for row, each in zip(returns, (BTC, SOL), strict=True):
                row.append(float(venue.markets[each.symbol].last_price))
            venue.trades.clear()
    for row, each in zip(returns, (BTC, SOL), strict=True):
        changes = [after / before - 1 for before, after in pairwise(row)]
        deviation = (sum(change**2 for change in changes) / len(changes)) ** 0.5
        assert 0.5 < deviation / each.volatility < 2.0


@pytest.mark.parametrize("each", INSTRUMENTS[:20], ids=lambda each: each.symbol)
def test_messages_tell_exactly_what_the_book_became(each: object) -> None:
    venue, flow = living(each)
    market = venue.markets[each.symbol]
    prices, quantities, stream = market.grids.prices, market.grids.quantities, BookStream(market, 50, 1)
    book: dict[tuple[str, str], str] = {}

    def apply(message: bytes) -> None:
        content = orjson.loads(message)
        assert orjson.dumps(content) == message
        for side in ("b", "a"):
            for price, quantity in content["data"][side]:
                if quantity == "0":
                    del book[side, price]
                else:
                    book[side, price] = quantity

    apply(stream.snapshot(0))
    for step in range(300):
        flow.step(step * STEP_MS)
        message = stream.delta(step)
        if message is not None:
            apply(message)
    expected = {
        (name, prices.text(tick)): quantities.text(lots)
        for name, side in (("b", market.book.bids), ("a", market.book.asks))
        for tick, lots in side.top(50).items()
    }
    assert book == expected


def test_a_move_of_one_percent_reaches_the_last_price() -> None:
    venue, flow = living(BTC)
    before = venue.markets["BTCUSDT"].last_price
    flow.move("BTCUSDT", 1.0)
    for step in range(100):
        flow.step(step * STEP_MS)
    assert venue.markets["BTCUSDT"].last_price / before > Decimal("1.008")


@pytest.mark.recording
@pytest.mark.parametrize("symbol", ["BTCUSDT", "SOLUSDT"])
def test_the_market_resembles_the_recorded_one(symbol: str) -> None:
    bybit_session()
    real, ours = recorded(symbol), simulated_mean(symbol)
    assert real is not None
    for name in (
        "changes a message, mean",
        "changes a message, p90",
        "changes' distance in ticks, p50",
        "messages with a change at the best, %",
        "messages with a spread of 1 tick, %",
        "ticks that 200 levels span",
        "USD at rank 1, mean",
        "USD at a level, median",
        "USD at a level, log-std",
        "USD of a trade, log-std",
    ):
        assert 0.6 < ours[name] / real[name] < 1.7, name
    for name in (
        *(f"USD in the best {depth}, mean" for depth in (5, 10, 50, 100, 200)),
        *(f"USD of a trade, {share}" for share in ("median", "mean", "p75", "p90", "p99")),
        "trades a minute",
    ):
        assert 0.7 < ours[name] / real[name] < 1.4, name
