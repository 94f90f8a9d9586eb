"""Live depth books over the browser's websocket: what is watched, changes alone, and nothing after a session's end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from rest_framework.test import APIClient

from marketdata.depth import selectors, services
from marketdata.depth.current import current_book
from marketdata.depth.hot import HotDepth
from marketdata.depth.snapshots import DEPTHS, Market
from tests import builders
from tests.dashboard.test_stream import SECONDS, connected
from tests.marketdata.depth.volumes import volume
from trading.consumers import browser, depth
from trading.consumers.browser import NOT_LOGGED_IN

pytestmark = pytest.mark.django_db(transaction=True)

BOOKS = ["SPOT:BTCUSDT", "FUTURES:BTCUSDT"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(depth, "BOOK_SECONDS", 0.1)
    monkeypatch.setattr(depth, "GROUPS_SECONDS", 0.1)
    selectors.hot()._redis.flushdb()
    yield
    selectors.hot()._redis.flushdb()


@sync_to_async
def user(name: str = "alice") -> Any:
    return builders.user(name)


@sync_to_async
def tell(market: Market = Market.SPOT, symbol: str = "BTCUSDT", bid: str = "10", age: float = 0) -> None:
    now_ms = int((time.time() - age) * 1000)
    ladder = ([["100.0", "1"]], [["100.5", "3"]])
    volumes = [volume(each, bid) for each in DEPTHS]
    book = current_book(market, symbol, ladder, volumes, time_ms=now_ms, status="CONNECTED")
    selectors.hot().latest_put({(market, symbol): book})


async def said(page: WebsocketCommunicator, kind: str) -> dict[str, Any]:
    """The next message of a kind, as it came."""
    while True:
        message = json.loads(await page.receive_from(timeout=SECONDS))
        if message["type"] == kind:
            return message


async def subscribe(page: WebsocketCommunicator, books: Sequence[str] = BOOKS, kind: str = "subscribe") -> None:
    await page.send_json_to({"type": kind, "channel": "depth", "books": list(books)})


async def settled(page: WebsocketCommunicator) -> None:
    """Everything that was asked before has been obeyed."""
    await page.send_json_to({"type": "ping"})
    await said(page, "pong")


def bid_of(message: dict[str, Any]) -> str:
    return message["body"]["depthVolumes"][0]["bidVolume"]


async def test_a_page_gets_its_books_at_once_and_then_each_change_as_the_api_would_say_it() -> None:
    alice = await user()
    await tell(bid="1")
    page = await connected(alice)
    await subscribe(page)
    # In whichever order: one leaves as soon as the page has room.
    both = [json.loads(await page.receive_from(timeout=SECONDS)) for _ in range(2)]
    first, refused = sorted(both, key=lambda message: message["type"])
    assert (first["type"], first["book"], bid_of(first)) == ("depth_book", "SPOT:BTCUSDT", "1")
    # What is not there is said, and told once it is.
    told = refused["data"]
    assert told["field"] == "books" and "FUTURES:BTCUSDT" in told["message"] and "SPOT:" not in told["message"]
    await tell(Market.FUTURES, bid="2")
    assert (await said(page, "depth_book"))["book"] == "FUTURES:BTCUSDT"
    await tell(bid="3")
    changed = await said(page, "depth_book")
    assert (changed["book"], bid_of(changed)) == ("SPOT:BTCUSDT", "3")
    assert await page.receive_nothing(0.4)  # several rounds: what does not change is not told

    @sync_to_async
    def answer() -> Any:
        services.collector_symbols_add(symbols=["BTCUSDT"], source="rest", actor="test")
        client = APIClient()
        client.force_authenticate(alice)
        return client.get("/api/v1/binance/spot?symbol=BTCUSDT").json()

    assert changed["body"] == await answer()
    await subscribe(page, BOOKS[:1], "unsubscribe")
    await settled(page)
    await tell(bid="4")
    assert await page.receive_nothing(0.4)
    await page.disconnect()


async def test_a_book_that_nobody_tells_of_any_more_turns_stale() -> None:
    page = await connected(await user())
    await tell(age=149)
    await subscribe(page, BOOKS[:1])
    assert (await said(page, "depth_book"))["body"]["wsStatus"] == "CONNECTED"
    assert (await said(page, "depth_book"))["body"]["wsStatus"] == "STALE"
    assert await page.receive_nothing(0.4)
    await page.disconnect()


async def test_a_book_that_is_not_understood_keeps_no_other_from_being_told() -> None:
    page = await connected(await user())
    await tell(Market.FUTURES, bid="1")
    hot = selectors.hot()
    hot._redis.hset(hot._latest(Market.SPOT), "BTCUSDT", b'{"timestamp": "now"}')
    await subscribe(page)
    assert bid_of(await said(page, "depth_book")) == "1"
    await tell(Market.FUTURES, bid="2")
    assert bid_of(await said(page, "depth_book")) == "2"
    await tell(bid="3")
    assert (await said(page, "depth_book"))["book"] == "SPOT:BTCUSDT"
    await page.disconnect()


async def test_valkey_is_asked_once_for_all_pages_and_not_at_all_when_none_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Sequence[Any]] = []
    ask = HotDepth.latest_bodies

    def counted(self: HotDepth, books: Sequence[Any]) -> Any:
        asked.append(list(books))
        return ask(self, books)

    monkeypatch.setattr(HotDepth, "latest_bodies", counted)
    alice, bob = await user("alice"), await user("bob")
    await tell()
    pages = [await connected(each) for each in (alice, alice, bob)]
    for page in pages:
        await subscribe(page, BOOKS[:1])
        await said(page, "depth_book")
    asked.clear()
    for number in range(3):
        await tell(bid=f"{number}")
        for page in pages:
            assert bid_of(await said(page, "depth_book")) == f"{number}"
    assert len(asked) >= 3 and all(len(books) == 1 for books in asked)
    for page in pages:
        await page.disconnect()
    asked.clear()
    assert not depth.reader()._tasks and not depth.reader()._books
    watcher = await connected(alice)
    assert await watcher.receive_nothing(0.4) and not asked
    await watcher.disconnect()


async def test_groups_come_again_and_again_as_the_api_would_say_them() -> None:
    page = await connected(await user())
    await tell(bid="10")
    await tell(symbol="ETHUSDT", bid="1")
    message = {"channel": "depth_groups", "market": "SPOT", "depth": "5"}
    await page.send_json_to({"type": "subscribe", **message})
    first = await said(page, "depth_groups")
    assert (first["market"], first["depth"]) == ("SPOT", "5") and first["body"]["time"] > 0
    values = {row["name"]: row["bidUsd"] for row in first["body"]["groups"]}
    assert (values["TOTAL"], values["TOTAL1"]) == ("1100", "100")
    await tell(symbol="ETHUSDT", bid="2")
    while (await said(page, "depth_groups"))["body"]["groups"][1]["bidUsd"] != "200":
        continue
    await page.send_json_to({"type": "unsubscribe", **message})
    await settled(page)
    assert await page.receive_nothing(0.4)
    await page.disconnect()


async def test_a_page_that_falls_behind_gets_the_newest_book_and_no_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "FRAMES_UNDERWAY", 4)
    page = await connected(await user())
    await tell(bid="0")
    await subscribe(page, BOOKS[:1])
    await said(page, "depth_book")
    await page.send_json_to({"type": "ack", "frames": 1})
    await settled(page)
    for number in range(1, browser.FRAMES_UNDERWAY + 1):
        await tell(bid=f"{number}")
        await said(page, "depth_book")
    for number in (2_000, 3_000):
        await tell(bid=f"{number}")
        assert await page.receive_nothing(0.3)
    await page.send_json_to({"type": "ack", "frames": browser.FRAMES_UNDERWAY + 1})
    assert bid_of(await said(page, "depth_book")) == "3000"
    await page.disconnect()


@pytest.mark.parametrize("asks", [True, False])
async def test_books_end_with_the_session(monkeypatch: pytest.MonkeyPatch, asks: bool) -> None:
    monkeypatch.setattr(browser, "SESSION_SECONDS", 60.0 if asks else 0.2)
    page = await connected(await user())
    await tell()
    await subscribe(page, BOOKS[:1])
    await said(page, "depth_book")
    await sync_to_async(page.scope["session"].flush)()
    if asks:
        await subscribe(page, BOOKS[1:])
    closed = await page.receive_output(SECONDS)
    assert (closed["type"], closed["code"]) == ("websocket.close", NOT_LOGGED_IN)
    assert not depth.reader()._books
    await page.disconnect()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"channel": "depth"}, "books"),
        ({"channel": "depth", "books": "SPOT:BTCUSDT"}, "books"),
        ({"channel": "depth", "books": [1]}, "books"),
        ({"channel": "depth", "books": ["spot:BTCUSDT"]}, "books"),
        ({"channel": "depth", "books": ["SPOT:BTC\n"]}, "books"),
        ({"channel": "depth", "books": [f"SPOT:COIN{number}USDT" for number in range(13)]}, "books"),
        ({"channel": "depth_groups", "market": "MARS"}, "depth_groups"),
        ({"channel": "depth_groups", "market": ["SPOT"]}, "depth_groups"),
        ({"channel": "depth_groups", "depth": 5}, "depth_groups"),
        ({"channel": "depth_groups", "depth": "4"}, "depth_groups"),
    ],
)
async def test_a_malformed_subscription_is_answered_and_nothing_is_watched(message: dict[str, Any], field: str) -> None:
    page = await connected(await user())
    for kind in ("subscribe", "unsubscribe"):
        await page.send_json_to({"type": kind, **message})
        if kind == "subscribe" or len(message.get("books", [])) != 13:
            told = (await said(page, "error"))["data"]
            assert told["field"] == field and told["message"]
    await settled(page)
    assert not depth.reader()._books and not depth.reader()._groups
    await page.disconnect()
