"""The feed survives its venue: it reconnects, subscribes again, and asks for snapshots when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import orjson
import pytest
from aiohttp import WSMsgType, web

from marketdata.events import FeedEventKind
from marketdata.feeds import connection
from marketdata.feeds.bybit import BybitPublicFeed, topic_of
from marketdata.feeds.bybit_messages import MessageError, TickerState, decode_klines, decode_trades
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.meters import ConnectionMeter
from marketdata.feeds.protocol import Heartbeat

TOPIC = "orderbook.200.BTCUSDT"


class TinyVenue:
    """A real websocket server that notes what it is asked and sends what it is told."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[dict] = asyncio.Queue()
        self.sockets: list[web.WebSocketResponse] = []
        self.url = ""

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                await self.requests.put(orjson.loads(message.data))
        return socket

    async def asked(self) -> dict:
        return await asyncio.wait_for(self.requests.get(), 30)


@pytest.fixture
async def venue() -> AsyncIterator[TinyVenue]:
    made = TinyVenue()
    application = web.Application()
    application.router.add_get("/", made.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


class Heard:
    def __init__(self) -> None:
        self.frames: asyncio.Queue[tuple[str, bytes, int]] = asyncio.Queue()
        self.events: list[FeedEventKind] = []
        self.lost: list[str] = []

    def on_frame(self, topic: bytes, frame: bytes, receive_ns: int) -> None:
        if b"explode" in frame:
            raise RuntimeError("a handler that fails")
        self.frames.put_nowait((topic.decode(), frame, receive_ns))

    def on_snapshot(self, symbol: str, body: bytes, receive_ns: int) -> None:
        raise AssertionError("Bybit's snapshots come by websocket")

    def on_lost(self, symbols: list[str], reason: str) -> None:
        self.lost += symbols

    def on_event(self, kind: FeedEventKind, symbol: str, message: str, metadata: dict) -> None:
        self.events.append(kind)


def book_topic(symbol: str) -> list[str]:
    return [f"orderbook.200.{symbol}"]


def feed_of(venue: TinyVenue, symbols: list[str]) -> BybitPublicFeed:
    return BybitPublicFeed(venue.url, book_topic, BybitPublicRest("http://127.0.0.1:1"), symbols)


@pytest.fixture
async def heard(venue: TinyVenue, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[BybitPublicFeed, Heard]]:
    monkeypatch.setattr(connection, "FIRST_BACK_OFF_SECONDS", 0.05)
    ears = Heard()
    feed = feed_of(venue, ["BTCUSDT"])
    running = asyncio.create_task(feed.run(ears))
    yield feed, ears
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def frame(text: str) -> str:
    return f'{{"topic":"{TOPIC}","type":"delta","data":"{text}"}}'


async def test_it_subscribes_and_delivers_raw_frames_with_their_time(venue: TinyVenue, heard: tuple) -> None:
    _, ears = heard
    assert await venue.asked() == {"op": "subscribe", "args": [TOPIC]}
    await venue.sockets[0].send_str(frame("one"))
    topic, raw, receive_ns = await asyncio.wait_for(ears.frames.get(), 30)
    assert (topic, raw.decode()) == (TOPIC, frame("one")) and receive_ns > 10**18


async def test_it_reconnects_and_subscribes_again(venue: TinyVenue, heard: tuple) -> None:
    feed, ears = heard
    await venue.asked()
    await venue.sockets[0].close()
    assert await venue.asked() == {"op": "subscribe", "args": [TOPIC]}
    await venue.sockets[1].send_str(frame("two"))
    await asyncio.wait_for(ears.frames.get(), 30)
    assert ears.lost == ["BTCUSDT"]
    kinds = [FeedEventKind.CONNECTED, FeedEventKind.RECONNECTING, FeedEventKind.CONNECTED]
    assert ears.events == kinds
    assert feed.meter("BTCUSDT").reconnects == 1


async def test_a_new_snapshot_is_asked_for_once_however_often_it_is_wanted(venue: TinyVenue, heard: tuple) -> None:
    feed, _ = heard
    await venue.asked()
    for _ in range(5):
        feed.resync("BTCUSDT", "a gap")
    assert [(await venue.asked())["op"] for _ in range(2)] == ["unsubscribe", "subscribe"]
    assert venue.requests.empty()


async def test_a_handler_that_fails_costs_its_frame_alone(venue: TinyVenue, heard: tuple) -> None:
    feed, ears = heard
    await venue.asked()
    await venue.sockets[0].send_str(frame("explode"))
    await venue.sockets[0].send_str(frame("after"))
    assert b"after" in (await asyncio.wait_for(ears.frames.get(), 30))[1]
    assert feed.meter("BTCUSDT").handler_errors == 1


async def test_a_retired_connection_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_BACK_OFF_SECONDS", 0.05)
    lost = asyncio.Event()
    made = connection.Connection(
        "ws://127.0.0.1:1/",
        Heartbeat(message=None),
        ConnectionMeter("retired"),
        on_connected=lambda: None,
        on_message=lambda frame, receive_ns: None,
        on_disconnected=lambda reason, failures: lost.set(),
    )
    running = asyncio.create_task(made.run())
    await asyncio.wait_for(lost.wait(), 30)
    made.retire()
    await asyncio.wait_for(running, 30)
    assert not made.connected


def test_back_off_grows_from_one_second_to_thirty() -> None:
    waits = [connection.back_off(failures) for failures in (1, 2, 3, 4, 5, 6, 50)]
    for wait, longest in zip(waits, (1, 2, 4, 8, 16, 30, 30), strict=True):
        assert longest / 2 <= wait <= longest


def test_connections_carry_at_most_ten_symbols_and_keep_a_symbols_topics_together(venue: TinyVenue) -> None:
    members = feed_of(venue, [f"S{number}" for number in range(23)]).members
    assert [len(member.symbols) for member in members] == [10, 10, 3]
    assert sorted(symbol for member in members for symbol in member.symbols) == sorted(f"S{n}" for n in range(23))


async def test_symbols_come_and_go_on_the_connections_that_run(venue: TinyVenue, heard: tuple) -> None:
    feed, ears = heard
    await venue.asked()
    feed.add(["BTCUSDT", "ETHUSDT"])
    assert await venue.asked() == {"op": "subscribe", "args": ["orderbook.200.ETHUSDT"]}
    feed.remove(["BTCUSDT", "NEVERUSDT"])
    assert await venue.asked() == {"op": "unsubscribe", "args": [TOPIC]}
    await venue.sockets[0].close()
    assert await venue.asked() == {"op": "subscribe", "args": ["orderbook.200.ETHUSDT"]}
    assert ears.lost == ["ETHUSDT"]


async def test_a_connection_without_symbols_ends_and_new_ones_get_another(venue: TinyVenue, heard: tuple) -> None:
    feed, _ = heard
    await venue.asked()
    feed.remove(["BTCUSDT"])
    assert feed.members == [] and feed.status() == {"connected": True, "connections": {}}
    feed.add([f"S{number}" for number in range(11)])
    assert [len(member.symbols) for member in feed.members] == [10, 1]
    asked = [await venue.asked(), await venue.asked()]
    assert sorted(len(each["args"]) for each in asked) == [1, 10]


def test_the_topic_is_found_without_parsing() -> None:
    assert topic_of(b'{"topic":"publicTrade.BTCUSDT","ts":1}') == "publicTrade.BTCUSDT"
    assert topic_of(b'{"success":true,"op":"subscribe"}') is None


def test_trades_and_candles_are_decoded_exactly_or_refused() -> None:
    raw = b'{"data":[{"T":5,"s":"BTCUSDT","S":"Buy","v":"0.001","p":"65114.30","i":"x"}]}'
    trade = decode_trades(raw, 9)[0]
    assert (trade.price, trade.quantity, trade.venue_ns, trade.receive_ns) == (
        Decimal("65114.30"),
        Decimal("0.001"),
        5_000_000,
        9,
    )
    for broken in (b"{}", raw.replace(b"Buy", b"Hold"), raw.replace(b'"0.001"', b'"0"'), raw[:-3]):
        with pytest.raises(MessageError):
            decode_trades(broken, 9)
    candle = (
        b'{"topic":"kline.1.BTCUSDT","data":[{"start":0,"interval":"1","open":"2","high":"3","low":"1","close":"2",'
        b'"volume":"5","turnover":"9","confirm":true}]}'
    )
    assert decode_klines(candle)[0].closed and decode_klines(candle)[0].symbol == "BTCUSDT"
    with pytest.raises(MessageError, match="not a candle"):
        decode_klines(candle.replace(b'"high":"3"', b'"high":"1"'))


def test_a_ticker_delta_changes_only_what_it_names() -> None:
    state = TickerState("BTCUSDT")
    state.update(b'{"data":{"symbol":"BTCUSDT","lastPrice":"10","markPrice":"11"}}')
    ticker = state.update(b'{"data":{"symbol":"BTCUSDT","lastPrice":"12"}}')
    assert (ticker.last_price, ticker.mark_price) == (12, 11)
    with pytest.raises(MessageError):
        state.update(b'{"data":{"lastPrice":"much"}}')
    assert state.ticker().last_price == 12
