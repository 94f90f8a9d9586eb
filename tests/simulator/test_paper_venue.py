"""The paper venue: a real venue's public market, our own ledger, and not one private request to the real one."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulator.paper import KEYS, MASTER_KEY, Live, Paper, live_venue, paper_venue, until
from trading.simulator.followed import DEPTH
from trading.simulator.paper_keys import PaperKeys

BTC = "BTCUSDT"


def levels(venue: Any, symbol: str = BTC) -> tuple[dict[int, int], dict[int, int]]:
    """What others rest in the book that orders of users meet."""
    book = venue.exchange.markets[symbol].book
    bids, asks = ({tick: side.background_at(tick) for tick in side.top(DEPTH)} for side in (book.bids, book.asks))
    return {tick: lots for tick, lots in bids.items() if lots}, {tick: lots for tick, lots in asks.items() if lots}


def told(of: Live | Paper, symbol: str = BTC) -> tuple[dict[int, int], dict[int, int]]:
    """A venue's book as its last message left it."""
    grids = of.venue.exchange.markets[symbol].grids
    data = orjson.loads(of.venue.first_message(f"orderbook.{DEPTH}.{symbol}") or b"")["data"]
    bids, asks = (
        {grids.prices.units(price): grids.quantities.units(quantity) for price, quantity in data[side]}
        for side in ("b", "a")
    )
    return bids, asks


def market_order(side: str = "Buy", quantity: str = "0.5", **more: Any) -> dict[str, Any]:
    return {"category": "linear", "symbol": BTC, "side": side, "orderType": "Market", "qty": quantity, **more}


def limit_order(price: str, side: str = "Buy", quantity: str = "0.01", **more: Any) -> dict[str, Any]:
    fields = {"category": "linear", "symbol": BTC, "side": side, "orderType": "Limit", "qty": quantity, "price": price}
    return {**fields, **more}


def price_at(venue: Any, side: str, depth: int = 0) -> str:
    market = venue.exchange.markets[BTC]
    ticks = list((market.book.bids if side == "Buy" else market.book.asks).top(depth + 1))
    return market.grids.prices.text(ticks[depth])


async def order_of(paper: Paper, link_id: str) -> dict[str, Any]:
    answer = await paper.client.get("/v5/order/realtime", category="linear", symbol=BTC, orderLinkId=link_id)
    return answer["result"]["list"][0]


async def caught_up(paper: Paper, live: Live) -> None:
    """The paper market has heard all that the live one told, and has its book, to match and to tell.

    What a trade took is gone from the matching book until a message speaks of that level again: where trades are told
    between two messages of the book the two differ until then.
    """
    topic = f"orderbook.{DEPTH}.{BTC}"

    def has_all() -> bool:
        update_id = orjson.loads(paper.venue.first_message(topic) or b"")["data"]["u"]
        is_heard = update_id == live_id(live, topic) and newest_trade(live) <= trades_heard(paper)
        return is_heard and levels(paper.venue) == told(live)

    await live.tick(5)
    await until(has_all, live)
    assert told(paper) == told(live)


def newest_trade(live: Live) -> set[str]:
    return {row["execId"] for row in live.venue.trades[BTC].rows(1)}


def trades_heard(paper: Paper) -> set[str]:
    stored = {row["execId"] for row in paper.venue.trades[BTC].rows(50)}
    return stored | {trade.trade_id for trade in paper.venue.exchange.replayed}


def live_id(live: Live, topic: str) -> int:
    stream = live.venue.book_stream(topic)
    assert stream is not None
    return stream.update_id


async def test_books_are_those_of_the_followed_venue_at_the_same_update_ids() -> None:
    async with live_venue() as live, paper_venue(live) as paper:
        address = f"{paper.url.replace('http', 'ws')}/v5/public/linear"
        theirs, ours = f"{live.url.replace('http', 'ws')}/v5/public/linear", address
        topic = f"orderbook.{DEPTH}.{BTC}"
        async with paper.session.ws_connect(ours) as first, paper.session.ws_connect(theirs) as second:
            for socket in (first, second):
                await socket.send_json({"op": "subscribe", "args": [topic]})
            heard: tuple[dict[int, Any], dict[int, Any]] = ({}, {})

            async def hear(socket: Any, into: dict[int, Any]) -> None:
                async for message in socket:
                    row = orjson.loads(message.data)
                    if row.get("topic") == topic and row["type"] == "delta":
                        into[row["data"]["u"]] = message.data

            hearing = [
                asyncio.create_task(hear(socket, into)) for socket, into in zip((first, second), heard, strict=True)
            ]
            await until(lambda: len(heard[0].keys() & heard[1].keys()) > 30, live)
            for task in hearing:
                task.cancel()
        both = heard[0].keys() & heard[1].keys()
        assert [heard[0][number] for number in sorted(both)] == [heard[1][number] for number in sorted(both)]
        await caught_up(paper, live)


async def test_a_market_order_fills_at_the_live_books_prices_and_nothing_private_reaches_the_live_venue() -> None:
    async with live_venue() as live, paper_venue(live) as paper:
        before = {user: account.wallet_row() for user, account in live.venue.exchange.accounts.items()}
        await caught_up(paper, live)
        asks = told(live)[1]
        market = live.venue.exchange.markets[BTC]
        quantity = sum(list(asks.values())[:3])
        expected = [market.grids.prices.value(tick) for tick in list(asks)[:3]]
        text = market.grids.quantities.text(quantity)
        answer = await paper.client.post("/v5/order/create", **market_order(quantity=text, orderLinkId="taker-1"))
        assert answer["retCode"] == 0, answer
        fills = (await paper.client.get("/v5/execution/list", category="linear", symbol=BTC))["result"]["list"]
        assert sorted(Decimal(fill["execPrice"]) for fill in fills) == expected
        assert sum(Decimal(fill["execQty"]) for fill in fills) == Decimal(text)
        assert live.signed == []
        assert {user: account.wallet_row() for user, account in live.venue.exchange.accounts.items()} == before
        assert all(not account.executions and not account.orders for account in live.venue.exchange.accounts.values())
        assert live.venue.exchange.accounts.keys() == before.keys()


async def test_a_maker_order_waits_behind_what_rests_and_is_filled_by_trades_that_reach_it() -> None:
    async with live_venue() as live, paper_venue(live) as paper:
        await caught_up(paper, live)
        price = price_at(paper.venue, "Buy")
        created = await paper.client.post(
            "/v5/order/create", **limit_order(price, timeInForce="PostOnly", orderLinkId="maker-1")
        )
        assert created["retCode"] == 0, created
        tick = paper.venue.exchange.markets[BTC].grids.prices.units(price)
        queue = paper.venue.exchange.markets[BTC].book.bids.queue(tick)
        assert queue[0].order is None
        assert queue[-1].order is not None
        ahead = sum(each.lots for each in queue[:-1])
        assert ahead > 0
        # Somebody at the live venue sells through that price.
        account = paper.venue.exchange.accounts["paper-1"]
        attempts = count()

        def is_filled() -> bool:
            """The live market goes on and may leave the price: then somebody sells a little deeper."""
            if not account.executions:
                market = live.venue.exchange.markets[BTC]
                live.venue.exchange.background_take(market, "Sell", ahead * 50, tick - next(attempts), live.now)
                live.venue.settle()
            return bool(account.executions)

        await until(is_filled, live)
        assert {fill["isMaker"] for fill in account.executions} == {True}
        assert Decimal(account.executions[0]["execPrice"]) == Decimal(price)
        assert live.signed == []


async def test_a_restart_keeps_orders_positions_and_wallets_and_rests_orders_behind_the_book(tmp_path: Path) -> None:
    state = tmp_path / "paper.sqlite"
    async with live_venue() as live:
        async with paper_venue(live, state) as paper:
            await caught_up(paper, live)
            assert (await paper.client.post("/v5/order/create", **market_order()))["retCode"] == 0
            price = price_at(paper.venue, "Buy", 30)
            resting = limit_order(price, timeInForce="PostOnly", orderLinkId="rests-1")
            assert (await paper.client.post("/v5/order/create", **resting))["retCode"] == 0
            account = paper.venue.exchange.accounts["paper-1"]
            wallets, ids = dict(account.wallets), {fill["execId"] for fill in account.executions}
        async with paper_venue(live, state) as paper:
            account = paper.venue.exchange.accounts["paper-1"]  # before its user has said a word
            assert account.wallets == wallets
            assert account.position(BTC).quantity == Decimal("0.5")
            await caught_up(paper, live)
            order = await order_of(paper, "rests-1")
            assert order["orderStatus"] in ("New", "PartiallyFilled")
            tick = paper.venue.exchange.markets[BTC].grids.prices.units(price)
            queue = paper.venue.exchange.markets[BTC].book.bids.queue(tick)
            if tick in told(live)[0]:
                assert queue[0].order is None, "it jumped the queue"
            assert (await paper.client.post("/v5/order/create", **market_order("Sell")))["retCode"] == 0
            later = {fill["execId"] for fill in account.executions} - ids
            assert later, "a later run repeated the identifiers of an earlier one"
            assert account.position(BTC).quantity == 0


async def test_while_the_followed_venue_is_away_orders_are_refused_cancels_pass_and_nothing_fills() -> None:
    async with live_venue() as live, paper_venue(live) as paper:
        await caught_up(paper, live)
        near = limit_order(price_at(paper.venue, "Buy", 3), timeInForce="PostOnly", orderLinkId="near-1")
        assert (await paper.client.post("/v5/order/create", **near))["retCode"] == 0
        account = paper.venue.exchange.accounts["paper-1"]
        await live.hang_up()
        await until(lambda: len(paper.venue.status()["stale"]) == 2)
        booked = len(account.executions)
        for request in (market_order(), limit_order("1000.0"), market_order("Sell", reduceOnly=True)):
            answer = await paper.client.post("/v5/order/create", **request)
            assert answer["retCode"] == 110066
            assert "Trading is currently not allowed" in answer["retMsg"]
        amended = await paper.client.post(
            "/v5/order/amend", category="linear", symbol=BTC, orderLinkId="near-1", qty="1"
        )
        assert amended["retCode"] == 110066
        for _ in range(20):
            paper.venue.tick(paper.venue.clock())
        assert len(account.executions) == booked
        cancelled = await paper.client.post("/v5/order/cancel", category="linear", symbol=BTC, orderLinkId="near-1")
        assert cancelled["retCode"] == 0
        await live.listen()
        await until(lambda: not paper.venue.status()["stale"], live)
        await caught_up(paper, live)
        assert (await paper.client.post("/v5/order/create", **market_order()))["retCode"] == 0


async def test_a_followed_venue_that_falls_silent_is_stale_until_its_next_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trading.simulator.followed.SILENCE_SECONDS", 0.5)
    async with live_venue() as live, paper_venue(live) as paper:
        await until(lambda: len(paper.venue.status()["stale"]) == 2)  # nobody ticks
        assert (await paper.client.post("/v5/order/create", **market_order()))["retCode"] == 110066
        await until(lambda: not paper.venue.status()["stale"], live)
        assert (await paper.client.post("/v5/order/create", **market_order()))["retCode"] == 0


async def test_a_gap_in_a_book_stops_its_symbol_until_a_new_snapshot() -> None:
    async with live_venue() as live, paper_venue(live) as paper:
        await caught_up(paper, live)
        live.venue.skip_update(BTC)
        await until(lambda: BTC in paper.venue.status()["stale"], live)
        await until(lambda: not paper.venue.status()["stale"], live)
        await caught_up(paper, live)


async def test_each_account_has_a_ledger_of_its_own_and_nobody_else_opens_one() -> None:
    async with live_venue() as live, paper_venue(live) as paper:
        await caught_up(paper, live)
        other = paper.of(2)
        assert (await paper.client.post("/v5/order/create", **market_order()))["retCode"] == 0
        theirs = await other.get("/v5/position/list", category="linear", symbol=BTC)
        assert theirs["result"]["list"][0]["size"] == "0"
        forged = paper.of(3)
        forged.key = type(forged.key)("paper-3", forged.key.api_key, "guessed")
        assert (await forged.get("/v5/account/wallet-balance", accountType="UNIFIED"))["retCode"] == 10004
        demo = paper.of(4)
        demo.key = type(demo.key)("alice", "simulator-alice-key", "simulator-alice-secret")
        assert (await demo.get("/v5/account/wallet-balance", accountType="UNIFIED"))["retCode"] == 10003
        assert set(paper.venue.exchange.accounts) == {"paper-1", "paper-2"}


@given(account_id=st.integers(1, 10**17), text=st.text(max_size=60))
def test_keys_are_known_by_their_name_alone_and_only_by_their_master_key(account_id: int, text: str) -> None:
    key = KEYS.issue(account_id)
    assert key.user == f"paper-{account_id}"
    assert KEYS.key_of(key.api_key) == key
    assert PaperKeys(["another", MASTER_KEY]).key_of(key.api_key) == key, "a rotated master key still knows it"
    assert PaperKeys(["another"]).key_of(key.api_key) is None
    assert KEYS.issue(account_id) != key
    assert KEYS.key_of(text) is None
    assert MASTER_KEY not in key.api_secret
