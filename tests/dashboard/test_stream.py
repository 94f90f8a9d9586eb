"""The browser's websocket: only one's own accounts, nothing malformed ends it, a reconnect has no hole."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import orjson
import pytest
import redis
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.test import Client

from audit.services import alert_raise
from marketdata.services import LATEST_KEY
from tests import builders
from trading.consumers.browser import FRAMES_UNDERWAY, NOT_LOGGED_IN, BrowserConsumer
from trading.models import Account, Membership
from trading.services.accounts import membership_grant, membership_revoke
from trading.services.orders import order_place

# Nobody else publishes frames of it, so the newest one of an earlier test is not counted.
QUIET_SYMBOL = "QUIETUSDT"
SECONDS = 30

pytestmark = pytest.mark.django_db(transaction=True)


def log_in(user: Any) -> SessionBase:
    client = Client()
    client.force_login(user)
    return client.session


async def connected(user: Any) -> WebsocketCommunicator:
    communicator = WebsocketCommunicator(BrowserConsumer.as_asgi(), "/ws/v1/stream/")
    communicator.scope |= {"user": user, "session": await sync_to_async(log_in)(user)}
    assert (await communicator.connect())[0]
    return communicator


async def said(communicator: WebsocketCommunicator, kind: str) -> dict[str, Any]:
    """The next message of a kind; others are passed over."""
    while True:
        message = json.loads(await communicator.receive_from(timeout=SECONDS))
        if message["type"] == kind:
            return message["data"]


@sync_to_async
def cast() -> tuple[Any, Any, Account]:
    builders.list_instruments()
    alice, bob = builders.user("alice"), builders.user("bob")
    builders.account(bob)
    return alice, bob, builders.account(alice)


@sync_to_async
def place(account: Account) -> None:
    order_place(
        account=account,
        actor="alice",
        symbol="BTCUSDT",
        side="Buy",
        order_type="Limit",
        quantity=Decimal("0.01"),
        price=Decimal(60000),
    )


async def test_without_a_login_the_socket_closes_with_its_own_code() -> None:
    communicator = WebsocketCommunicator(BrowserConsumer.as_asgi(), "/ws/v1/stream/")
    communicator.scope["user"] = AnonymousUser()
    assert (await communicator.connect())[0]
    assert (await communicator.receive_output(SECONDS)) == {"type": "websocket.close", "code": NOT_LOGGED_IN}


async def test_subscribing_to_an_account_begins_with_all_of_it_and_goes_on_with_changes() -> None:
    alice, _, account = await cast()
    await place(account)
    communicator = await connected(alice)
    await communicator.send_json_to({"type": "subscribe", "channel": "account", "account": account.pk})
    snapshot = await said(communicator, "snapshot")
    assert [order["state"] for order in snapshot["orders"]] == ["new"]
    assert {"account", "positions", "fills", "signals", "equity", "strategies", "differences"} <= set(snapshot)
    await place(account)
    update = await said(communicator, "order_update")
    assert update["id"] != snapshot["orders"][0]["id"] and update["symbol"] == "BTCUSDT"
    await communicator.disconnect()


async def test_another_tenants_account_is_refused_and_stays_silent() -> None:
    _, bob, account = await cast()
    communicator = await connected(bob)
    await communicator.send_json_to({"type": "subscribe", "channel": "account", "account": account.pk})
    assert "not one of your accounts" in (await said(communicator, "error"))["message"]
    await place(account)
    assert await communicator.receive_nothing(0.5)
    await communicator.disconnect()


async def test_access_that_is_taken_away_ends_an_open_subscription() -> None:
    _, bob, account = await cast()
    await sync_to_async(membership_grant)(account=account, user=bob, role=Membership.Role.VIEWER, actor="test")
    communicator = await connected(bob)
    await communicator.send_json_to({"type": "subscribe", "channel": "account", "account": account.pk})
    await said(communicator, "snapshot")
    await sync_to_async(membership_revoke)(account=account, user=bob, actor="test")
    assert "no access" in (await said(communicator, "error"))["message"]
    await place(account)
    assert await communicator.receive_nothing(0.5)
    await communicator.disconnect()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("{broken", "message"),
        ("[1, 2]", "message"),
        ('{"type": "fly"}', "type"),
        ('{"type": "subscribe", "channel": "gossip"}', "channel"),
        ('{"type": "subscribe", "channel": "market", "symbols": "BTCUSDT"}', "symbols"),
        ('{"type": "subscribe", "channel": "market", "symbols": ["../etc"]}', "symbols"),
        ('{"type": "subscribe", "channel": "account", "account": "1"}', "account"),
        ('{"type": "subscribe", "channel": "account", "account": true}', "account"),
        ("x" * 5000, "message"),
    ],
)
async def test_a_malformed_message_is_answered_and_the_connection_stays(message: str, field: str) -> None:
    alice, _, _ = await cast()
    communicator = await connected(alice)
    await communicator.send_to(text_data=message)
    assert (await said(communicator, "error"))["field"] == field
    await communicator.send_json_to({"type": "ping"})
    assert await said(communicator, "pong") == {}
    await communicator.disconnect()


async def test_the_number_of_symbols_is_bounded() -> None:
    alice, _, _ = await cast()
    communicator = await connected(alice)
    symbols = [f"COIN{number}USDT" for number in range(30)]
    await communicator.send_json_to({"type": "subscribe", "channel": "market", "symbols": symbols})
    assert "at most" in (await said(communicator, "error"))["message"]
    await communicator.disconnect()


async def test_logging_out_ends_what_the_page_still_receives() -> None:
    alice, _, account = await cast()
    communicator = await connected(alice)
    await communicator.send_json_to({"type": "subscribe", "channel": "account", "account": account.pk})
    await said(communicator, "snapshot")
    await sync_to_async(communicator.scope["session"].flush)()
    await place(account)
    closed = await communicator.receive_output(SECONDS)
    assert (closed["type"], closed["code"]) == ("websocket.close", NOT_LOGGED_IN)


async def test_a_page_that_falls_behind_gets_the_newest_frame_once_it_acknowledges() -> None:
    alice, _, _ = await cast()
    communicator = await connected(alice)
    await communicator.send_json_to({"type": "subscribe", "channel": "market", "symbols": [QUIET_SYMBOL]})
    await communicator.send_json_to({"type": "ack", "frames": 0})
    await communicator.send_json_to({"type": "ping"})
    await said(communicator, "pong")
    for number in range(FRAMES_UNDERWAY + 5):
        await get_channel_layer().group_send(f"market.{QUIET_SYMBOL}", frame_message(number))
        if number < FRAMES_UNDERWAY:
            assert (await said(communicator, "market_data"))["number"] == number
    assert await communicator.receive_nothing(0.3)
    await communicator.send_json_to({"type": "ack", "frames": FRAMES_UNDERWAY})
    assert (await said(communicator, "market_data"))["number"] == FRAMES_UNDERWAY + 4
    await communicator.send_json_to({"type": "ack", "frames": 10_000})
    assert (await said(communicator, "error"))["field"] == "frames"
    await communicator.disconnect()


def frame_message(number: int) -> dict[str, Any]:
    body = orjson.dumps({"type": "market_data", "timestamp": 1, "data": {"number": number}}).decode()
    return {"type": "market.frame", "symbol": QUIET_SYMBOL, "body": body}


async def test_market_frames_pass_unchanged_and_the_newest_is_there_at_once() -> None:
    alice, _, _ = await cast()
    store = redis.Redis.from_url(settings.REDIS_URL)
    first = orjson.dumps({"type": "market_data", "timestamp": 1, "data": {"symbol": "BTCUSDT", "last": "1"}}).decode()
    await sync_to_async(store.hset)(LATEST_KEY, "BTCUSDT", first)
    communicator = await connected(alice)
    await communicator.send_json_to({"type": "subscribe", "channel": "market", "symbols": ["BTCUSDT"]})
    assert (await said(communicator, "market_data"))["last"] == "1"
    body = first.replace('"last":"1"', '"last":"2"')
    message = {"type": "market.frame", "symbol": "BTCUSDT", "body": body}
    await get_channel_layer().group_send("market.BTCUSDT", message)
    assert (await said(communicator, "market_data"))["last"] == "2"
    await communicator.send_json_to({"type": "unsubscribe", "channel": "market", "symbols": ["BTCUSDT"]})
    await communicator.send_json_to({"type": "ping"})
    await said(communicator, "pong")
    await get_channel_layer().group_send("market.BTCUSDT", message)
    assert await communicator.receive_nothing(0.3)
    await sync_to_async(store.delete)(LATEST_KEY)
    await communicator.disconnect()


async def test_an_alert_reaches_the_pages_of_its_account_and_no_others() -> None:
    alice, bob, account = await cast()
    alices, bobs = await connected(alice), await connected(bob)
    await alices.send_json_to({"type": "subscribe", "channel": "account", "account": account.pk})
    await said(alices, "snapshot")
    await bobs.send_json_to({"type": "subscribe", "channel": "platform"})
    assert "for staff" in (await said(bobs, "error"))["message"]
    await sync_to_async(alert_raise)(level="critical", kind="test", message="look here", account_id=account.pk)
    told = await said(alices, "alert")
    assert (told["level"], told["message"], told["alert"]["account"]) == ("CRITICAL", "look here", account.pk)
    await sync_to_async(alert_raise)(level="info", kind="test", message="of the platform")
    assert await bobs.receive_nothing(0.3) and await alices.receive_nothing(0.1)
    await alices.disconnect()
    await bobs.disconnect()


async def test_staff_hear_the_alerts_of_the_platform_for_as_long_as_they_are_staff() -> None:
    staff = await sync_to_async(builders.user)("staff", is_staff=True)
    communicator = await connected(staff)
    await communicator.send_json_to({"type": "subscribe", "channel": "platform"})
    await communicator.send_json_to({"type": "ping"})
    await said(communicator, "pong")
    await sync_to_async(alert_raise)(level="warning", kind="test", message="of the platform")
    assert (await said(communicator, "alert"))["message"] == "of the platform"
    staff.is_staff = False
    await sync_to_async(staff.save)()
    await sync_to_async(alert_raise)(level="warning", kind="test", message="not for you")
    assert "not staff" in (await said(communicator, "error"))["message"]
    await communicator.disconnect()
