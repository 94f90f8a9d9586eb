"""Own orders at the exchange of a recording: their way there, their place in the queue, what became of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from tests.trading.backtest.candle_tests import rules
from tests.trading.backtest.tapes import FREE, START_MS, Tape, asked
from trading.backtest.recordings import recorded_of
from trading.backtest.replay import Force
from trading.backtest.replayed_market import TIME, Executed, ReplayedMarket, SentOrder
from trading.backtest.request import Source

D = Decimal
NS = 1_000_000


def market_of(tape: Tape, folder: Path) -> ReplayedMarket:
    listed = rules("BTCUSDT")
    recorded = recorded_of(asked(), tape.written(folder), {"BTCUSDT": listed})
    return ReplayedMarket(recorded.feeds["BTCUSDT"], listed, FREE)


def order(side: str, quantity: str, price: str | None = None, force: Force = Force.GTC) -> SentOrder:
    return SentOrder(
        "BTCUSDT", side, D(quantity), False, "hand", "signal", 0, D(1), D(100),
        price=None if price is None else D(price), force=force,
    )  # fmt: skip


def play(market: ReplayedMarket, until_ms: int) -> list[Executed]:
    """Go on, carrying out what arrives; everything that traded."""
    done: list[Executed] = []
    while True:
        why = market.until((START_MS + until_ms) * NS)
        done += market.executed()
        if not why & TIME:
            continue
        while (sent := market.arrived()) is not None:
            done += market.place(sent)
        if market.time_ns >= (START_MS + until_ms) * NS:
            return done


def street() -> Tape:
    """Five coins at the best bid, 100.0, until takers come."""
    tape = Tape()
    tape.snapshot(0, [("100.0", "5"), ("99.9", "5")], [("100.1", "5"), ("100.2", "5")])
    tape.trade(1_000, "Sell", "100.0", "3")
    tape.book(1_000, [("100.0", "2")], [])
    tape.trade(2_000, "Sell", "100.0", "3")
    tape.book(2_000, [("100.0", "0")], [])
    tape.trade(3_000, "Sell", "99.9", "1")
    tape.book(3_000, [("99.9", "4")], [])
    return tape


def test_a_resting_order_fills_as_a_maker_after_those_that_stood_before_it(tmp_path: Path) -> None:
    market = market_of(street(), tmp_path)
    play(market, 0)
    market.send(order("Buy", "2", "100.0"), (START_MS + 500) * NS)
    assert play(market, 1_500) == []
    (resting,) = market.orders()
    assert market.replay.order(resting.order_id).ahead == 2_000  # lots: 3 of 5 coins have traded
    done = play(market, 2_500)
    # The second trade takes the 2 coins before it, and 1 of ours; the third goes through our price.
    assert [((each.time_ns // NS) - START_MS, each.price, each.quantity, each.is_maker) for each in done] == [
        (2_000, D("100.0"), D(1), True),
    ]
    assert resting.quantity == D(1)
    (last,) = play(market, 3_500)
    assert (last.price, last.quantity, last.is_maker) == (D("100.0"), D(1), True)
    assert list(market.orders()) == [] and not market.is_busy


def test_an_order_is_where_it_is_sent_only_when_it_arrives(tmp_path: Path) -> None:
    market = market_of(street(), tmp_path)
    market.send(order("Buy", "2", "100.1", Force.IOC), (START_MS + 700) * NS)
    assert play(market, 699) == []
    (done,) = play(market, 700)
    assert (done.time_ns, done.price, done.quantity, done.is_maker) == ((START_MS + 700) * NS, D("100.1"), D(2), False)


def test_a_maker_that_would_take_and_what_fills_whole_or_not_at_all_end_without_a_trade(tmp_path: Path) -> None:
    market = market_of(street(), tmp_path)
    market.send(order("Buy", "1", "100.1", Force.POST_ONLY), (START_MS + 100) * NS)
    market.send(order("Buy", "11", "100.2", Force.FOK), (START_MS + 100) * NS)
    assert play(market, 200) == [] and list(market.orders()) == []


def test_all_that_is_open_is_cancelled_at_once(tmp_path: Path) -> None:
    market = market_of(street(), tmp_path)
    market.send(order("Buy", "2", "100.0"), (START_MS + 100) * NS)
    market.send(order("Buy", "2", "99.9"), (START_MS + 5_000) * NS)
    play(market, 200)
    assert market.is_busy
    market.cancel_all()
    assert not market.is_busy and play(market, 6_000) == []


def test_costs_move_the_price_of_trades_alone(tmp_path: Path) -> None:
    tape = street()
    listed = rules("BTCUSDT")
    recorded = recorded_of(asked(source=Source.TRADES), tape.written(tmp_path), {"BTCUSDT": listed})
    market = ReplayedMarket(recorded.feeds["BTCUSDT"], listed, replace(FREE, slippage=D("0.002")))
    market.send(order("Sell", "1", force=Force.IOC), (START_MS + 1_200) * NS)
    (done,) = play(market, 1_500)
    assert done.price == D("99.8")
