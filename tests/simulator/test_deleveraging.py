"""Liquidations that nobody pays for: the insurance fund first, then the opposite positions, then the market's own."""

from __future__ import annotations

from decimal import Decimal

from tests.simulator.test_margin_and_exits import USERS, exchange, held, place
from trading.simulator import deleveraging
from trading.simulator.exchange import Exchange
from trading.simulator.keys import ApiKey
from trading.simulator.orders import SimulatedOrder
from trading.simulator.venue import Venue

D = Decimal


def duel(*, insurance: int = 0) -> Exchange:
    """Alice is long with little behind it; bob (10x) and carol (twice as much money) are short against her."""
    venue = exchange(balance=1_000)
    venue.ledger.insurance["USDT"] = D(insurance)
    venue.accounts["alice"].pay("USDT", D(-900))
    venue.accounts["carol"].pay("USDT", D(1_000))
    venue.set_leverage("alice", "BTCUSDT", "50")
    clear(venue)
    place(venue, "bob", "Sell", "20", "100.0")
    place(venue, "alice", "Buy", "20", "100.0")
    place(venue, "carol", "Sell", "20", "100.0")
    place(venue, "alice", "Buy", "20", "100.0")
    return venue


def clear(venue: Exchange) -> None:
    book = venue.markets["BTCUSDT"].book
    for side in (book.bids, book.asks):
        side.replace_background({})


def fall(venue: Exchange, price: str) -> None:
    """The mark price alone moves; the book stays as it is."""
    market = venue.markets["BTCUSDT"]
    market.last_price = D(price)
    venue.mark(market, D(price), D(price), 2)


def deleveraged(venue: Exchange, user: str) -> list[SimulatedOrder]:
    return [o for o in venue.accounts[user].orders.values() if o.create_type == "CreateByAdl_PassThrough"]


def test_the_opposite_position_with_the_highest_rank_is_closed_at_the_bankruptcy_price() -> None:
    venue = duel()
    fall(venue, "97.0")
    (report,) = venue.liquidations
    first, second = (deleveraged(venue, user) for user in ("bob", "carol"))
    assert [order.filled for order in first] == [20] and [order.filled for order in second] == [20]
    assert first[0].price == second[0].price == report.bankruptcy_price
    assert [held(venue, user) for user in USERS] == [0, 0, 0]


def test_the_queue_ends_where_the_position_is_used_up() -> None:
    venue = duel()
    venue.accounts["alice"].pay("USDT", D(20))
    market = venue.markets["BTCUSDT"]
    market.book.bids.set_background(990, 15_000)  # half of alice's position can be sold well
    fall(venue, "97.2")
    # Bob's profit ratio is carol's, but he has half of her money: his effective leverage is twice hers.
    assert [held(venue, user) for user in USERS] == [0, 0, 15]
    assert venue.ledger.insurance_contracts["BTCUSDT"] == 0 and venue.ledger.insurance["USDT"] >= 0


def test_whoever_is_deleveraged_hears_of_it_on_every_private_stream() -> None:
    venue = duel()
    locking = place(venue, "bob", "Buy", "5", "90.0", reduceOnly=True, orderLinkId="mine")
    waiting = place(venue, "bob", "Buy", "5", triggerPrice="110.0", triggerDirection=1)
    venue.outbox.clear()
    fall(venue, "97.0")
    rows = {
        topic: [row for user, name, row in venue.outbox if (user, name) == ("bob", topic)]
        for topic in ("order", "execution", "position", "wallet")
    }
    (execution,) = rows["execution"]
    assert (execution["execType"], execution["createType"], execution["orderLinkId"], execution["isMaker"]) == (
        "AdlTrade",
        "CreateByAdl_PassThrough",
        "",
        True,
    )
    assert (locking.status, locking.cancel_type) == ("Cancelled", "CancelByPrepareAdl")
    assert waiting.status == "Untriggered"
    closing = rows["order"][-1]
    assert (closing["orderStatus"], closing["createType"], closing["orderLinkId"]) == (
        "Filled",
        "CreateByAdl_PassThrough",
        "",
    )
    statuses = [row["positionStatus"] for row in rows["position"]]
    assert statuses[0] == "Adl" and statuses[-1] == "Normal" and rows["position"][-1]["size"] == "0"
    assert rows["wallet"]
    assert venue.accounts["bob"].transactions[-1]["type"] == "ADL"
    assert venue.accounts["alice"].transactions[-1]["type"] == "LIQUIDATION"
    assert [row["positionStatus"] for user, topic, row in venue.outbox if (user, topic) == ("alice", "position")] == [
        "Liq",
        "Normal",
    ]


def test_the_fund_pays_what_the_book_lacks_and_never_more_than_it_has() -> None:
    venue = duel(insurance=50)
    venue.markets["BTCUSDT"].book.bids.set_background(950, 1_000_000)
    fall(venue, "97.0")
    (report,) = venue.liquidations
    sold = (D(50) / (report.bankruptcy_price - D("95.0"))).quantize(D("0.001"), rounding="ROUND_DOWN")
    assert 0 <= venue.ledger.insurance["USDT"] < D("0.01")
    assert sum(order.filled for user in ("bob", "carol") for order in deleveraged(venue, user)) == 40 - sold
    assert abs(venue.ledger.total("USDT") - D(3_150)) < D("1e-9")


def test_a_fund_that_can_pay_leaves_everybody_else_alone() -> None:
    venue = duel(insurance=1_000)
    venue.markets["BTCUSDT"].book.bids.set_background(950, 1_000_000)
    fall(venue, "97.0")
    assert not deleveraged(venue, "bob") and not deleveraged(venue, "carol")
    assert 0 < venue.ledger.insurance["USDT"] < 1_000


def test_with_nobody_opposite_the_market_itself_takes_the_rest() -> None:
    venue = exchange(balance=100)
    venue.set_leverage("alice", "BTCUSDT", "50")
    bought = place(venue, "alice", "Buy", "30").filled
    clear(venue)
    fall(venue, "95.0")
    (report,) = venue.liquidations
    assert held(venue, "alice") == 0 and venue.ledger.background_contracts["BTCUSDT"] == 0
    assert venue.ledger.insurance["USDT"] == venue.ledger.insurance_contracts["BTCUSDT"] == 0
    assert report.quantity == bought and abs(venue.ledger.total("USDT") - 300) < D("1e-9")


def test_nobody_is_ruined_for_the_losses_of_another() -> None:
    venue = duel()
    bob = venue.accounts["bob"]
    bob.pay("USDT", D(-1_130))  # enough for his short, not to buy it back at what alice must be paid
    fall(venue, "90.0")
    (report,) = venue.liquidations
    assert (report.bankruptcy_price - 90) * 20 > bob.equity > 0
    assert [held(venue, user) for user in USERS] == [0, 20, 0]
    assert venue.ledger.insurance["USDT"] == 0
    assert all(account.equity >= 0 for account in venue.accounts.values())


def test_a_short_is_liquidated_and_deleveraged_the_other_way_round() -> None:
    venue = exchange(balance=1_000)
    venue.accounts["alice"].pay("USDT", D(-900))
    venue.set_leverage("alice", "BTCUSDT", "50")
    clear(venue)
    place(venue, "bob", "Buy", "40", "100.0")
    place(venue, "alice", "Sell", "40", "100.0")
    fall(venue, "103.0")
    (report,) = venue.liquidations
    (order,) = deleveraged(venue, "bob")
    assert (report.side, order.side, order.price) == ("Sell", "Sell", report.bankruptcy_price)
    assert held(venue, "bob") == 0 and venue.ledger.insurance["USDT"] == 0


def test_the_rank_is_profit_times_leverage_and_a_loss_is_divided_by_it() -> None:
    venue = duel()
    fall(venue, "99.0")

    def rank(user: str) -> Decimal:
        account = venue.accounts[user]
        return deleveraging.rank(account, account.position("BTCUSDT"))

    equity = venue.accounts["bob"].equity
    assert rank("bob") == D("0.01") * (D(20) * 99 / equity)
    assert rank("bob") > rank("carol") > 0 > rank("alice")
    assert rank("alice") == D("-0.01") / (D(40) * 99 / venue.accounts["alice"].equity)


def test_the_rank_is_shown_in_five_lights_and_none_without_a_position() -> None:
    venue = duel()
    fall(venue, "99.0")
    shown = {}
    for user in USERS:
        account = venue.accounts[user]
        shown[user] = venue.position_row(account, account.position("BTCUSDT"))["adlRankIndicator"]
    assert shown == {"alice": 5, "bob": 5, "carol": 3}
    place(venue, "bob", "Buy", "20", "100.0")
    place(venue, "carol", "Sell", "20", "100.0")
    bob = venue.accounts["bob"]
    assert venue.position_row(bob, bob.position("BTCUSDT"))["adlRankIndicator"] == 0


def test_a_venue_without_an_insurance_fund_deleverages_when_its_market_falls() -> None:
    now = 1_700_000_000_000
    keys = {user: ApiKey(user, user, user, D(balance)) for user, balance in (("poor", 100), ("rich", 100_000))}
    venue = Venue(keys, symbols=1, insurance=D(0), clock=lambda: now)
    exchange, market = venue.exchange, venue.exchange.markets["BTCUSDT"]
    for _ in range(50):
        now += 20
        venue.tick(now)
    for user, side in (("rich", "Sell"), ("poor", "Buy")):
        exchange.set_leverage(user, "BTCUSDT", "60")
        request = {"symbol": "BTCUSDT", "side": side, "orderType": "Market"}
        exchange.create(user, request | {"qty": f"{D(5_000) / market.last_price:.3f}"}, now)
    venue.move("BTCUSDT", -10)
    for _ in range(1_000):
        now += 20
        venue.tick(now)
        if exchange.accounts["poor"].executions[-1]["execType"] == "BustTrade":
            break
    rich = exchange.accounts["rich"]
    assert rich.executions[-1]["execType"] == "AdlTrade"
    assert rich.executions[-1]["execPrice"] == exchange.accounts["poor"].executions[-1]["execPrice"]
    assert exchange.ledger.insurance["USDT"] == 0
