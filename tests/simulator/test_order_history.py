"""Where an order that ended can be found, and for how long: the rules of realtime, history and executions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulator.loopback import START_MS, Client, Row, served
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.stepping import SteppedClock
from trading.simulator.venue import Venue

SYMBOL = "BTCUSDT"
LINEAR = {"category": "linear", "symbol": SYMBOL}
LIMIT = {**LINEAR, "side": "Buy", "orderType": "Limit", "qty": "0.001", "price": "50000"}
MARKET = {**LINEAR, "side": "Buy", "orderType": "Market", "qty": "0.001"}
DELAY_MS, DAY_MS = 3_000, 86_400_000
HISTORY, REALTIME, EXECUTIONS = "/v5/order/history", "/v5/order/realtime", "/v5/execution/list"


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(START_MS)


@pytest.fixture
def venue(clock: SteppedClock) -> Venue:
    return Venue(DEMO_KEYS, symbols=2, clock=clock, history_delay_ms=DELAY_MS)


@pytest.fixture
async def client(venue: Venue) -> AsyncIterator[Client]:
    async with served(venue) as made:
        yield made


def place(venue: Venue, fields: Row = LIMIT, **changes: Any) -> str:
    """Straight into the exchange: nobody's rate limit."""
    request = {**fields, **changes}
    order = venue.exchange.create("alice", request, venue.clock(), request["category"])
    return order.order_id


def cancel(venue: Venue, order_id: str, category: str = "linear") -> None:
    venue.exchange.cancel("alice", {"orderId": order_id}, venue.clock(), category)


async def listed(client: Client, path: str, **fields: Any) -> list[Row]:
    answer = await client.get(path, **{"category": "linear", **fields})
    assert answer["retCode"] == 0, answer
    return answer["result"]["list"]


async def ids(client: Client, path: str, **fields: Any) -> list[str]:
    return [row["orderId"] for row in await listed(client, path, **fields)]


async def paged(client: Client, path: str, **fields: Any) -> list[Row]:
    """All pages, as a client follows them."""
    rows: list[Row] = []
    cursor: dict[str, str] = {}
    while True:
        result = (await client.get(path, **{"category": "linear", **fields, **cursor}))["result"]
        rows += result["list"]
        if not result["nextPageCursor"]:
            return rows
        cursor = {"cursor": result["nextPageCursor"]}


async def test_a_closed_order_is_in_the_history_only_after_the_delay(
    client: Client, venue: Venue, clock: SteppedClock
) -> None:
    placed = await client.post("/v5/order/create", **LIMIT, orderLinkId="mine")
    clock.now_ms += 10_000
    await client.post("/v5/order/cancel", **LINEAR, orderLinkId="mine")
    for question in ({"orderLinkId": "mine"}, {"orderId": placed["result"]["orderId"]}, {"symbol": SYMBOL}):
        clock.now_ms = START_MS + 10_000 + DELAY_MS - 1
        assert await ids(client, HISTORY, **question) == []
        clock.now_ms += 1
        assert await ids(client, HISTORY, **question) == [placed["result"]["orderId"]]


async def test_realtime_tells_a_closed_order_at_once(client: Client, venue: Venue) -> None:
    filled = place(venue, MARKET)
    assert await ids(client, REALTIME, symbol=SYMBOL, openOnly=0) == []
    assert await ids(client, REALTIME, symbol=SYMBOL, openOnly=1) == [filled]
    assert await ids(client, REALTIME, orderId=filled) == [filled]
    assert [row["orderId"] for row in await listed(client, EXECUTIONS, orderId=filled)] == [filled]


async def test_an_open_order_is_never_in_the_history(client: Client, venue: Venue, clock: SteppedClock) -> None:
    order_id = place(venue)
    clock.now_ms += DAY_MS
    assert await ids(client, HISTORY, orderId=order_id) == []
    assert await ids(client, REALTIME, orderId=order_id) == [order_id]


@pytest.mark.parametrize("by_id", [True, False])
async def test_an_order_that_never_filled_is_forgotten_after_a_day(
    client: Client, venue: Venue, clock: SteppedClock, by_id: bool
) -> None:
    order_id = place(venue)
    cancel(venue, order_id)
    question = {"orderId": order_id} if by_id else {"symbol": SYMBOL}
    clock.now_ms += DAY_MS
    assert await ids(client, HISTORY, **question) == [order_id]
    clock.now_ms += 1
    assert await ids(client, HISTORY, **question) == []


async def test_what_filled_is_remembered_for_good_also_when_its_rest_was_cancelled(
    client: Client, venue: Venue, clock: SteppedClock
) -> None:
    filled = place(venue, MARKET)
    market = venue.exchange.markets[SYMBOL]
    best = market.book.asks.best
    assert best is not None
    more = market.grids.quantities.text(market.book.asks.lots_at(best) + 10)
    partly = place(venue, LIMIT, price=market.grids.prices.text(best), qty=more, timeInForce="IOC")
    assert venue.exchange.accounts["alice"].orders[partly].status == "Cancelled"
    clock.now_ms += 300 * DAY_MS
    window = {"startTime": START_MS - 1_000, "endTime": START_MS + 1_000}
    assert await ids(client, HISTORY, **window) == [partly, filled]
    assert {row["orderId"] for row in await listed(client, EXECUTIONS, **window)} >= {filled}


async def test_after_a_restart_only_the_history_knows_what_closed_before(
    client: Client, venue: Venue, clock: SteppedClock
) -> None:
    before, still_open = place(venue, MARKET), place(venue)
    clock.now_ms += 1
    venue.restart()
    clock.now_ms += 1
    after = place(venue, MARKET)
    assert await ids(client, REALTIME, orderId=before) == []
    assert await ids(client, REALTIME, symbol=SYMBOL, openOnly=1) == [after]
    assert await ids(client, REALTIME, symbol=SYMBOL) == [still_open]
    assert await ids(client, HISTORY, orderId=before) == []
    clock.now_ms += DELAY_MS
    assert await ids(client, HISTORY, orderId=before) == [before]


async def test_a_new_process_forgets_the_recently_closed_too(tmp_path: Path, clock: SteppedClock) -> None:
    first = Venue(DEMO_KEYS, symbols=2, clock=clock, state=tmp_path / "state")
    closed = place(first, MARKET)
    first.settle()
    first.journal.close()
    clock.now_ms += 60_000
    second = Venue(DEMO_KEYS, symbols=2, clock=clock, state=tmp_path / "state")
    async with served(second) as client:
        assert await ids(client, REALTIME, orderId=closed) == []
        assert await ids(client, HISTORY, orderId=closed) == [closed]
    second.journal.close()


def test_a_new_process_gives_no_identifier_a_second_time(tmp_path: Path, clock: SteppedClock) -> None:
    lives = []
    for _ in range(3):
        venue = Venue(DEMO_KEYS, symbols=2, clock=clock, state=tmp_path / "state")
        order_id = place(venue, MARKET)
        venue.settle()
        lives.append({order_id, venue.exchange.accounts["alice"].executions[-1]["execId"]})
        venue.journal.close()
        clock.now_ms += 60_000
    assert len(set().union(*lives)) == 6


async def test_the_last_500_that_closed_are_told_of_each_category(
    client: Client, venue: Venue, clock: SteppedClock
) -> None:
    spot = {**LIMIT, "category": "spot"}
    spot_order = place(venue, spot)
    cancel(venue, spot_order, "spot")
    late = place(venue)  # the oldest, but the last to close
    for _ in range(501):
        cancel(venue, place(venue))
        clock.now_ms += 1
    cancel(venue, late)
    rows = await paged(client, REALTIME, symbol=SYMBOL, openOnly=1, limit=50)
    assert len({row["orderId"] for row in rows}) == len(rows) == 500
    assert late in {row["orderId"] for row in rows}
    assert await ids(client, REALTIME, category="spot", openOnly=1) == [spot_order]


async def test_pages_hold_still_while_orders_come_and_go(client: Client, venue: Venue, clock: SteppedClock) -> None:
    placed = []
    for _ in range(9):
        placed.append(place(venue))
        clock.now_ms += 1
    page = (await client.get(REALTIME, **LINEAR, limit=4))["result"]
    told = [row["orderId"] for row in page["list"]]
    assert told == placed[:-5:-1]
    cancel(venue, told[-1])  # the very order that the cursor names
    place(venue)
    rest = (await client.get(REALTIME, **LINEAR, limit=50, cursor=page["nextPageCursor"]))["result"]
    assert [row["orderId"] for row in rest["list"]] == placed[4::-1]


async def test_pages_of_executions_hold_still_while_more_come(client: Client, venue: Venue) -> None:
    for _ in range(6):
        place(venue, MARKET)
    expected = [row["execId"] for row in await listed(client, EXECUTIONS)]
    page = (await client.get(EXECUTIONS, category="linear", limit=2))["result"]
    place(venue, MARKET)
    rest = await paged(client, EXECUTIONS, limit=100, cursor=page["nextPageCursor"])
    assert [row["execId"] for row in page["list"] + rest] == expected


@pytest.mark.parametrize("path", [HISTORY, EXECUTIONS, "/v5/position/closed-pnl"])
async def test_a_window_is_at_most_a_week(client: Client, path: str) -> None:
    week = 7 * DAY_MS
    for start, end, code in ((0, week, 0), (0, week + 1, 10001), (5, 4, 10001)):
        answer = await client.get(path, category="linear", startTime=START_MS + start, endTime=START_MS + end)
        assert answer["retCode"] == code


@pytest.mark.parametrize(("side", "days", "found"), [("startTime", -6, True), ("startTime", -8, False),
                                                     ("endTime", 6, True), ("endTime", 8, False)])  # fmt: skip
async def test_one_end_of_a_window_means_the_week_beside_it(
    client: Client, venue: Venue, clock: SteppedClock, side: str, days: int, found: bool
) -> None:
    place(venue, MARKET)
    clock.now_ms += DELAY_MS
    for path in (HISTORY, EXECUTIONS):
        assert bool(await listed(client, path, **{side: START_MS + days * DAY_MS})) == found


@pytest.mark.parametrize(("path", "most"), [(REALTIME, 50), (HISTORY, 50), (EXECUTIONS, 100)])
async def test_a_page_has_its_largest_size(client: Client, path: str, most: int) -> None:
    for limit, code in ((1, 0), (most, 0), (most + 1, 10001), (0, 10001), ("x", 10001)):
        assert (await client.get(path, **LINEAR, limit=limit))["retCode"] == code


async def test_orders_are_chosen_by_what_they_are(client: Client, venue: Venue, clock: SteppedClock) -> None:
    price = f"{venue.exchange.markets[SYMBOL].last_price * 2:.1f}"
    conditional = place(venue, MARKET, triggerPrice=price, triggerDirection=1)
    plain, filled = place(venue), place(venue, MARKET, symbol="ETHUSDT", qty="0.01")
    assert await ids(client, REALTIME, symbol=SYMBOL, orderFilter="StopOrder") == [conditional]
    assert await ids(client, REALTIME, symbol=SYMBOL, orderFilter="Order") == [plain]
    assert await ids(client, REALTIME, baseCoin="ETH", openOnly=1) == [filled]
    assert await ids(client, REALTIME, settleCoin="USDC") == []
    assert set(await ids(client, REALTIME, settleCoin="USDT")) == {plain, conditional}
    cancel(venue, plain)
    clock.now_ms += DELAY_MS
    assert await ids(client, HISTORY, orderStatus="Cancelled") == [plain]
    assert await ids(client, HISTORY, baseCoin="ETH") == [filled]
    assert [row["orderId"] for row in await listed(client, EXECUTIONS, baseCoin="BTC")] == []
    answer = await client.get(REALTIME, **LINEAR, orderFilter="Sideways")
    assert answer["retCode"] == 10001


@pytest.mark.parametrize(("category", "code"), [("linear", 110020), ("spot", 170810)])
async def test_five_hundred_orders_of_a_symbol_are_open_at_most(
    client: Client, venue: Venue, category: str, code: int
) -> None:
    order = {**LIMIT, "category": category}
    for _ in range(500):
        last = place(venue, order)
    assert (await client.post("/v5/order/create", **order))["retCode"] == code
    other = {**order, "symbol": "ETHUSDT", "price": "3300", "qty": "0.01"}
    assert (await client.post("/v5/order/create", **other))["retCode"] == 0
    cancel(venue, last, category)
    assert (await client.post("/v5/order/create", **order))["retCode"] == 0
