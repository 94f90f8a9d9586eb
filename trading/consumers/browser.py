from __future__ import annotations

import asyncio
import logging
import re
import time
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import orjson
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib import auth
from django.db import DatabaseError

from audit.models import Alert
from audit.services import dead_letters
from marketdata import selectors as market
from strategies.models import Signal, StrategyConfig
from trading.consumers.depth import DepthChannels
from trading.models import Account, Discrepancy, Fill, Order, Position, ReconciliationRun
from trading.permissions import accounts_visible_to, is_staff
from trading.serializers import (
    AccountSerializer,
    AlertSerializer,
    DiscrepancySerializer,
    FillSerializer,
    OrderSerializer,
    PositionSerializer,
    SignalSerializer,
    StrategySerializer,
    account_snapshot,
)

log = logging.getLogger(__name__)

NOT_LOGGED_IN = 4401
MAX_SYMBOLS = 12
MAX_ACCOUNTS = 8
MAX_MESSAGE = 4_096
# A page that does not ask itself (by ping) loses its data so long after its session has ended.
SESSION_SECONDS = 15.0
# Frames on their way to a page that acknowledges them; more wait here, the newest of each symbol only.
FRAMES_UNDERWAY = 40
SYMBOL = re.compile(r"[A-Z0-9]{2,32}")

# What a doorbell's kind re-reads, and under which name it is told.
CHANGES: dict[str, tuple[str, Any, Any]] = {
    "order": ("order_update", Order, OrderSerializer),
    "fill": ("fill", Fill, FillSerializer),
    "position": ("position_update", Position, PositionSerializer),
    "signal": ("signal", Signal, SignalSerializer),
    "strategy": ("strategy", StrategyConfig, StrategySerializer),
    "difference": ("difference", Discrepancy, DiscrepancySerializer),
}


class BrowserConsumer(AsyncWebsocketConsumer):
    """One page's live data. Every subscription and every account message asks for permission anew.

    Takes ``subscribe`` and ``unsubscribe`` (``channel`` market with ``symbols``, summary, account with ``account``,
    depth with ``books``, depth_groups with ``market`` and ``depth``, or platform, for staff), ``ping``, and ``ack``
    with the number of ``frames`` of the market and of depths received so far. Those are passed on as they are.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.groups_joined: set[str] = set()
        self._frames: dict[str, str] = {}
        self._frames_sent = 0
        # None: this client does not acknowledge. The server buffers for it without limit, so only the transport's
        # unanswered pings end a client that stopped reading.
        self._frames_acknowledged: int | None = None
        self._frame_waits = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._session: asyncio.Task[None] | None = None
        self._depth = DepthChannels(self._queue_frame, self._forget_frame)

    async def connect(self) -> None:
        # Accepted first: a browser cannot read the code of a refused handshake.
        await self.accept()
        if not self.scope["user"].is_authenticated:
            await self.close(code=NOT_LOGGED_IN)
            return
        self._sender = asyncio.create_task(self._send_frames())
        self._session = asyncio.create_task(self._watch_session())

    async def disconnect(self, code: int) -> None:
        for task in (self._sender, self._session):
            if task is not None:
                task.cancel()
        self._depth.leave_all()
        for group in self.groups_joined:
            await self.channel_layer.group_discard(group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data is None or len(text_data) > MAX_MESSAGE:
            await self._error("message", "a text message of at most 4,096 characters is expected")
            return
        try:
            message = orjson.loads(text_data)
        except orjson.JSONDecodeError as error:
            await self._error("message", f"not JSON: {error}")
            return
        if not isinstance(message, dict):
            await self._error("message", "a JSON object is expected")
            return
        if self._sender is None:
            return
        try:
            await self._obey(message)
        except Exception as error:  # one command that breaks must not take the page's connection with it
            log.exception("a browser's command broke")
            await self._lay_aside(text_data, error)
            await self._error("message", "this could not be done because of a mistake of ours; it has been reported")

    async def _obey(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "ack":
            await self._acknowledge(message.get("frames"))
        elif kind == "ping":
            # Also how a page that watches nothing but the market learns that its session has ended.
            if await self._user_or_close() is not None:
                await self._tell("pong", {})
        elif kind in ("subscribe", "unsubscribe"):
            await self._subscription(message, joining=kind == "subscribe")
        else:
            await self._error("type", f"{kind!r} is not one of subscribe, unsubscribe, ping, ack")

    async def _acknowledge(self, frames: Any) -> None:
        if isinstance(frames, bool) or not isinstance(frames, int) or not 0 <= frames <= self._frames_sent:
            await self._error("frames", f"{frames!r} is not a number from 0 to the {self._frames_sent} frames sent")
            return
        self._frames_acknowledged = max(frames, self._frames_acknowledged or 0)
        self._frame_waits.set()

    async def _subscription(self, message: dict[str, Any], *, joining: bool) -> None:
        channel = message.get("channel")
        if channel == "market":
            await self._market(message.get("symbols"), joining)
        elif channel == "summary":
            await self._join("market.summary", joining)
            if joining:
                await self._forward(await self._read(market.market_summary))
        elif channel == "account":
            await self._account(message.get("account"), joining)
        elif channel == "platform":
            await self._platform(joining)
        elif channel in ("depth", "depth_groups"):
            await self._depths(message, joining)
        else:
            known = "market, summary, account, platform, depth, depth_groups"
            await self._error("channel", f"{channel!r} is not one of {known}")

    async def _market(self, symbols: Any, joining: bool) -> None:
        if not isinstance(symbols, list) or not all(isinstance(s, str) and SYMBOL.fullmatch(s) for s in symbols):
            await self._error("symbols", "a list of symbols like BTCUSDT is expected")
            return
        groups = {f"market.{symbol}" for symbol in symbols}
        watched = {group for group in self.groups_joined if group.startswith("market.")} - {"market.summary"}
        if joining and len(watched | groups) > MAX_SYMBOLS:
            await self._error("symbols", f"at most {MAX_SYMBOLS} symbols at once; unsubscribe from others first")
            return
        for symbol in symbols:
            await self._join(f"market.{symbol}", joining)
            if joining:
                await self._forward(await self._read(lambda symbol=symbol: market.latest_frame(symbol)))

    async def _account(self, account_id: Any, joining: bool) -> None:
        group = f"account.{account_id}"
        if not joining and group in self.groups_joined:
            # Leaving needs no permission, which may be gone by now.
            await self._join(group, joining=False)
            return
        user = await self._user_or_close()
        if user is None:
            return
        account = await self._visible_account(user, account_id)
        if account is None:
            await self._error("account", f"{account_id!r} is not one of your accounts")
            return
        watched = {joined for joined in self.groups_joined if joined.startswith("account.")}
        if joining and len(watched | {group}) > MAX_ACCOUNTS:
            await self._error("account", f"at most {MAX_ACCOUNTS} accounts at once; unsubscribe from others first")
            return
        # Joined before the snapshot is read: what changes in between is told twice rather than never.
        await self._join(group, joining)
        if joining:
            await self._tell("snapshot", await database_sync_to_async(account_snapshot)(account, user))

    async def _platform(self, joining: bool) -> None:
        if not joining:
            await self._join("platform", joining=False)
            return
        user = await self._user_or_close()
        if user is not None and is_staff(user):
            await self._join("platform", joining)
        elif user is not None:
            await self._error("channel", "platform is for staff")

    async def _depths(self, message: dict[str, Any], joining: bool) -> None:
        if joining and await self._user_or_close() is None:
            return
        wrong = await self._depth.subscribe(message) if joining else self._depth.unsubscribe(message)
        if wrong is not None:
            await self._error(*wrong)

    async def _join(self, group: str, joining: bool) -> None:
        if joining and group not in self.groups_joined:
            self.groups_joined.add(group)
            await self.channel_layer.group_add(group, self.channel_name)
        elif not joining and group in self.groups_joined:
            self.groups_joined.discard(group)
            await self.channel_layer.group_discard(group, self.channel_name)

    async def _lay_aside(self, command: str, error: Exception) -> None:
        user = self.scope["user"].get_username()
        put = partial(dead_letters().put, "browser_command", context={"user": user}, payload=command)
        await asyncio.to_thread(put, error=f"{type(error).__name__}: {error}")

    # From the channel layer.

    async def market_frame(self, message: dict[str, Any]) -> None:
        self._queue_frame(message["symbol"], message["body"])

    async def account_changed(self, message: dict[str, Any]) -> None:
        if f"account.{message['account']}" not in self.groups_joined:
            return  # a doorbell that was on its way while this page left
        user = await self._user_or_close()
        if user is None:
            return
        account = await self._visible_account(user, message["account"])
        if account is None:
            # Access was taken away while the page was open.
            await self._join(f"account.{message['account']}", joining=False)
            await self._error("account", "you have no access to this account any more")
            return
        kind = message["kind"]
        if kind == "equity":
            await self._tell("equity", await database_sync_to_async(self._account_row)(account, user))
        elif kind == "mode":
            # Other books: everything that the page shows of the account is another's now.
            await self._tell("snapshot", await database_sync_to_async(account_snapshot)(account, user))
        elif kind == "account":
            await self._tell("account", await database_sync_to_async(self._account_row)(account, user))
        elif kind == "alert":
            await self._tell("alert", await database_sync_to_async(self._alert)(account, user))
        elif kind == "raised_alert":
            await self._tell_alert(message["id"], account.pk)
        elif kind in CHANGES:
            name, model, serializer = CHANGES[kind]
            row = await database_sync_to_async(self._row)(account, model, serializer, message["id"])
            if row is not None:
                await self._tell(name, row)

    async def platform_changed(self, message: dict[str, Any]) -> None:
        if "platform" not in self.groups_joined:
            return
        user = await self._user_or_close()
        if user is None:
            return
        if not is_staff(user):
            await self._join("platform", joining=False)
            await self._error("channel", "you are not staff any more")
        elif message["kind"] == "raised_alert":
            await self._tell_alert(message["id"], None)

    async def _tell_alert(self, identifier: str, account_id: int | None) -> None:
        row = await database_sync_to_async(self._raised_alert)(identifier, account_id)
        if row is not None:
            await self._tell("alert", row)

    # Reading.

    async def _user_or_close(self) -> Any:
        """The user as the database knows them now; None, and the socket closed, when they are logged in no more."""
        user = await database_sync_to_async(self._user_now)()
        if user.is_authenticated:
            return user
        self._depth.leave_all()
        await self.close(code=NOT_LOGGED_IN)
        return None

    async def _watch_session(self) -> None:
        while True:
            await asyncio.sleep(SESSION_SECONDS)
            try:
                if await self._user_or_close() is None:
                    return
            except DatabaseError as error:
                log.warning("whether a session has ended is not known: %s", error)

    def _user_now(self) -> Any:
        """Read through the session: logging out, a new password and a deactivated user all end it."""
        store = import_module(settings.SESSION_ENGINE).SessionStore(self.scope["session"].session_key)
        return auth.get_user(SimpleNamespace(session=store))  # type: ignore[arg-type]

    @database_sync_to_async
    def _visible_account(self, user: Any, account_id: Any) -> Account | None:
        if isinstance(account_id, bool) or not isinstance(account_id, int):
            return None
        return accounts_visible_to(user).filter(pk=account_id).select_related("wallet").first()

    def _row(self, account: Account, model: Any, serializer: Any, identifier: str) -> dict[str, Any] | None:
        if not identifier.isdigit():
            return None
        rows = model.objects.filter(account=account, pk=int(identifier))
        row = (rows if model is StrategyConfig else rows.filter(mode=account.mode)).first()
        return None if row is None else dict(serializer(row).data)

    def _account_row(self, account: Account, user: Any) -> dict[str, Any]:
        return dict(AccountSerializer(account, context={"user": user}).data)

    def _alert(self, account: Account, user: Any) -> dict[str, Any]:
        """The account's state in words: halted or not, and what the last reconciliation found."""
        run = ReconciliationRun.objects.filter(account=account, mode=account.mode).order_by("-started_at").first()
        found = run is not None and (run.differences or run.error)
        level = "ERROR" if run is not None and run.error else "WARNING" if found else "INFO"
        message = f"{account.label} is {account.trading_state}"
        if run is not None and run.error:
            message = f"{account.label} could not be reconciled: {run.error}"
        elif run is not None and run.differences:
            message = f"{account.label}: {len(run.differences)} differences with the venue were repaired"
        return {
            "level": level,
            "message": message,
            "details": {"differences": run.differences if run is not None else []},
            "account": self._account_row(account, user),
        }

    def _raised_alert(self, identifier: str, account_id: int | None) -> dict[str, Any] | None:
        if not identifier.isdigit():
            return None
        alert = Alert.objects.filter(account_id=account_id, pk=int(identifier)).first()
        if alert is None:
            return None
        row = dict(AlertSerializer(alert).data)
        return {"level": alert.level.upper(), "message": alert.message, "details": alert.detail, "alert": row}

    async def _read(self, question: Any) -> dict[str, Any] | None:
        try:
            return await asyncio.to_thread(question)
        except market.MarketUnavailable:
            return None

    # To the browser.

    def _queue_frame(self, key: str, text: str) -> None:
        """The newest of each key leaves as soon as the page has room."""
        self._frames[key] = text
        self._frame_waits.set()

    def _forget_frame(self, key: str) -> None:
        self._frames.pop(key, None)

    async def _send_frames(self) -> None:
        while True:
            await self._frame_waits.wait()
            self._frame_waits.clear()
            while self._frames and self._has_room():
                symbol = next(iter(self._frames))
                self._frames_sent += 1
                await self.send(text_data=self._frames.pop(symbol))

    def _has_room(self) -> bool:
        if self._frames_acknowledged is None:
            return True
        return self._frames_sent - self._frames_acknowledged < FRAMES_UNDERWAY

    async def _forward(self, message: dict[str, Any] | None) -> None:
        if message is not None:
            self._frames_sent += 1
            await self.send(text_data=orjson.dumps(message).decode())

    async def _tell(self, kind: str, data: Any) -> None:
        message = {"type": kind, "timestamp": time.time_ns() // 1_000_000, "data": data}
        await self.send(text_data=orjson.dumps(message, default=str).decode())

    async def _error(self, field: str, message: str) -> None:
        await self._tell("error", {"field": field, "message": message})
