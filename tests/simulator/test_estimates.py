"""What an order would need, what could be spent, and the whole book: questions that place nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from tests.simulator.loopback import START_MS, Client, Row, served
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.stepping import SteppedClock
from trading.simulator.venue import Venue

SYMBOL = "BTCUSDT"
LIMIT = {"category": "linear", "symbol": SYMBOL, "side": "Buy", "orderType": "Limit", "qty": "1", "price": "60000"}
SPOT = {**LIMIT, "category": "spot", "qty": "0.01"}
PRE_CHECK = "/v5/order/pre-check"


@pytest.fixture
def venue() -> Venue:
    return Venue(DEMO_KEYS, symbols=2, clock=SteppedClock(START_MS))


@pytest.fixture
async def client(venue: Venue) -> AsyncIterator[Client]:
    async with served(venue) as made:
        yield made


async def account_rates(client: Client) -> tuple[float, float]:
    (account,) = (await client.get("/v5/account/wallet-balance", accountType="UNIFIED"))["result"]["list"]
    return float(account["accountIMRate"]), float(account["accountMMRate"])


async def test_the_margin_rates_after_an_order_are_those_that_it_leads_to(client: Client, venue: Venue) -> None:
    await client.post("/v5/position/set-leverage", **{**LIMIT, "buyLeverage": "5", "sellLeverage": "5"})
    checked = await client.post(PRE_CHECK, **LIMIT, orderLinkId="ask-1")
    assert checked["retCode"] == 0 and checked["result"]["orderLinkId"] == "ask-1"
    assert venue.exchange.accounts["alice"].orders == {}
    rates = checked["result"]
    assert (rates["preImrE4"], rates["preMmrE4"]) == (0, 0)
    # 60000 / 5 of 100000, and 0.5 % of 60000
    assert (rates["postImrE4"], rates["postMmrE4"]) == (1_200, 30)
    assert (await client.post("/v5/order/create", **LIMIT, orderLinkId="ask-1"))["retCode"] == 0
    assert (await account_rates(client))[0] == 0.12
    again = (await client.post(PRE_CHECK, **LIMIT))["result"]
    assert (again["preImrE4"], again["postImrE4"]) == (1_200, 2_400)


async def test_an_order_that_only_closes_changes_no_rate(client: Client) -> None:
    market = {**LIMIT, "orderType": "Market", "qty": "0.1"}
    assert (await client.post("/v5/order/create", **market))["retCode"] == 0
    rates = (await client.post(PRE_CHECK, **{**market, "side": "Sell", "reduceOnly": True}))["result"]
    assert rates["preImrE4"] == rates["postImrE4"] > 0 and rates["preMmrE4"] == rates["postMmrE4"] > 0
    opposite = (await client.post(PRE_CHECK, **{**market, "side": "Sell"}))["result"]
    assert opposite["postImrE4"] == rates["preImrE4"]


async def test_what_cannot_be_paid_is_told_with_the_rates_that_it_would_need(client: Client) -> None:
    answer = await client.post(PRE_CHECK, **{**LIMIT, "qty": "50"}, orderLinkId="much")
    assert (answer["retCode"], answer["result"]) == (110007, {})
    details = answer["retExtInfo"]
    assert details["future_order_link_id"] == "much" and details["future_order_id"]
    assert details["post_imr_e4"] > 10_000 and details["post_mmr_e4"] > 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"category": "spot"}, 10001),
        ({"symbol": "NOPEUSDT"}, 10001),
        ({"qty": "0.0005"}, 10001),
        ({"price": "90000"}, 110003),
        ({"triggerPrice": "90000", "triggerDirection": 1}, 10001),
        ({"reduceOnly": True}, 110017),
    ],
)
async def test_what_would_be_refused_is_refused(client: Client, changes: Row, code: int) -> None:
    answer = await client.post(PRE_CHECK, **{**LIMIT, **changes})
    assert (answer["retCode"], answer["result"]) == (code, {})
    if changes.get("category") != "spot":
        assert answer["retExtInfo"].keys() == {"future_order_id", "future_order_link_id"}


async def test_what_can_be_spent_is_what_the_wallet_has_free(client: Client, venue: Venue) -> None:
    async def quota(side: str) -> Row:
        return (await client.get("/v5/order/spot-borrow-check", category="spot", symbol=SYMBOL, side=side))["result"]

    before = await quota("Sell")
    assert (before["spotMaxTradeQty"], before["borrowCoin"]) == ("0", "BTC")
    assert Decimal(before["maxTradeAmount"]) == 100_000
    venue.exchange.accounts["alice"].pay("BTC", Decimal("0.12345678"))
    assert (await quota("Sell"))["maxTradeQty"] == "0.1234"
    assert (await client.post("/v5/order/create", **SPOT))["retCode"] == 0
    after = await quota("Buy")
    assert (Decimal(after["spotMaxTradeAmount"]), after["borrowCoin"]) == (99_400, "USDT")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"category": "linear", "symbol": SYMBOL, "side": "Buy"}, 10001),
        ({"category": "spot", "symbol": "NOPEUSDT", "side": "Buy"}, 170121),
        ({"category": "spot", "symbol": SYMBOL, "side": "Both"}, 10001),
    ],
)
async def test_a_quota_is_for_one_side_of_a_spot_market(client: Client, fields: Row, code: int) -> None:
    assert (await client.get("/v5/order/spot-borrow-check", **fields))["retCode"] == code


@pytest.mark.parametrize("category", ["linear", "spot"])
async def test_the_full_book_has_every_level_and_begins_like_the_short_one(client: Client, category: str) -> None:
    full = (await client.get("/v5/market/full_orderbook", category=category, symbol=SYMBOL))["result"]
    short = (await client.get("/v5/market/orderbook", category=category, symbol=SYMBOL, limit=50))["result"]
    assert full.keys() == short.keys() and full["u"] == short["u"]
    for side, better in (("b", 1), ("a", -1)):
        assert full[side][:50] == short[side]
        prices = [Decimal(price) * better for price, _ in full[side]]
        assert 50 < len(prices) <= 10_000 and prices == sorted(set(prices), reverse=True)


async def test_the_margin_mode_is_cross_and_stays_so(client: Client) -> None:
    path = "/v5/account/set-margin-mode"
    codes = [(await client.post(path, setMarginMode=mode))["retCode"] for mode in
             ("REGULAR_MARGIN", "ISOLATED_MARGIN", "PORTFOLIO_MARGIN", "NONE")]  # fmt: skip
    assert codes == [0, 3400045, 3400045, 10001]
    assert (await client.get("/v5/account/info"))["result"]["marginMode"] == "REGULAR_MARGIN"
