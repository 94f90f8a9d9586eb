from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import orjson
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from marketdata import selectors as market
from strategies.models import Signal, StrategyConfig
from trading.models import Account, Fill, Order, Position, ReconciliationRun
from trading.permissions import accounts_visible_to
from trading.serializers import (
    AccountSerializer,
    FillSerializer,
    OrderSerializer,
    PositionSerializer,
    SignalSerializer,
    StrategySerializer,
    account_snapshot,
)

NOT_LOGGED_IN = 4401
MAX_SYMBOLS = 10
MAX_MESSAGE = 4_096
SYMBOL = re.compile(r"[A-Z0-9]{2,32}")

# What a doorbell's kind re-reads, and under which name it is told.
CHANGES: dict[str, tuple[str, Any, Any]] = {
    "order": ("order_update", Order, OrderSerializer),
    "fill": ("fill", Fill, FillSerializer),
    "position": ("position_update", Position, PositionSerializer),
    "signal": ("signal", Signal, SignalSerializer),
    "strategy": ("strategy", StrategyConfig, StrategySerializer),
}


class BrowserConsumer(AsyncWebsocketConsumer):
    """One page's live data. Every subscription and every account message asks for permission anew.

    Market frames are passed on as they are, and only the newest of each symbol waits for a slow page.
    """

    async def connect(self) -> None:
        user = self.scope["user"]
        if not user.is_authenticated:
            # Accepted first: a browser cannot read the code of a refused handshake.
            await self.accept()
            await self.close(code=NOT_LOGGED_IN)
            return
        self.groups_joined: set[str] = set()
        self._frames: dict[str, str] = {}
        self._frame_waits = asyncio.Event()
        self._sender = asyncio.create_task(self._send_frames())
        await self.accept()

    async def disconnect(self, code: int) -> None:
        if hasattr(self, "_sender"):
            self._sender.cancel()
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
        kind = message.get("type")
        if kind == "ping":
            await self._tell("pong", {})
        elif kind in ("subscribe", "unsubscribe"):
            await self._subscription(message, joining=kind == "subscribe")
        else:
            await self._error("type", f"{kind!r} is not one of subscribe, unsubscribe, ping")

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
        else:
            await self._error("channel", f"{channel!r} is not one of market, summary, account")

    async def _market(self, symbols: Any, joining: bool) -> None:
        if not isinstance(symbols, list) or not all(isinstance(s, str) and SYMBOL.fullmatch(s) for s in symbols):
            await self._error("symbols", "a list of symbols like BTCUSDT is expected")
            return
        watched = sum(group.startswith("market.") for group in self.groups_joined)
        if joining and watched + len(symbols) > MAX_SYMBOLS + 1:
            await self._error("symbols", f"at most {MAX_SYMBOLS} symbols at once; unsubscribe from others first")
            return
        for symbol in symbols:
            await self._join(f"market.{symbol}", joining)
            if joining:
                await self._forward(await self._read(lambda symbol=symbol: market.latest_frame(symbol)))

    async def _account(self, account_id: Any, joining: bool) -> None:
        account = await self._visible_account(account_id)
        if account is None:
            await self._error("account", f"{account_id!r} is not one of your accounts")
            return
        # Joined before the snapshot is read: what changes in between is told twice rather than never.
        await self._join(f"account.{account.pk}", joining)
        if joining:
            snapshot = await database_sync_to_async(account_snapshot)(account, self.scope["user"])
            await self._tell("snapshot", snapshot)

    async def _join(self, group: str, joining: bool) -> None:
        if joining and group not in self.groups_joined:
            self.groups_joined.add(group)
            await self.channel_layer.group_add(group, self.channel_name)
        elif not joining and group in self.groups_joined:
            self.groups_joined.discard(group)
            await self.channel_layer.group_discard(group, self.channel_name)

    # From the channel layer.

    async def market_frame(self, message: dict[str, Any]) -> None:
        self._frames[message["symbol"]] = message["body"]
        self._frame_waits.set()

    async def account_changed(self, message: dict[str, Any]) -> None:
        account = await self._visible_account(message["account"])
        if account is None:
            # Access was taken away while the page was open.
            await self._join(f"account.{message['account']}", joining=False)
            await self._error("account", "you have no access to this account any more")
            return
        kind = message["kind"]
        if kind == "equity":
            await self._tell("equity", await database_sync_to_async(self._account_row)(account))
        elif kind == "alert":
            await self._tell("alert", await database_sync_to_async(self._alert)(account))
        elif kind in CHANGES:
            name, model, serializer = CHANGES[kind]
            row = await database_sync_to_async(self._row)(account, model, serializer, message["id"])
            if row is not None:
                await self._tell(name, row)

    # Reading.

    @database_sync_to_async
    def _visible_account(self, account_id: Any) -> Account | None:
        if isinstance(account_id, bool) or not isinstance(account_id, int):
            return None
        return accounts_visible_to(self.scope["user"]).filter(pk=account_id).select_related("wallet").first()

    def _row(self, account: Account, model: Any, serializer: Any, identifier: str) -> dict[str, Any] | None:
        if not identifier.isdigit():
            return None
        row = model.objects.filter(account=account, pk=int(identifier)).first()
        return None if row is None else dict(serializer(row).data)

    def _account_row(self, account: Account) -> dict[str, Any]:
        return dict(AccountSerializer(account, context={"user": self.scope["user"]}).data)

    def _alert(self, account: Account) -> dict[str, Any]:
        """The account's state in words: halted or not, and what the last reconciliation found."""
        run = ReconciliationRun.objects.filter(account=account).order_by("-started_at").first()
        found = run is not None and (run.differences or run.error)
        level = "ERROR" if run is not None and run.error else "WARNING" if found else "INFO"
        message = f"{account.name} is {account.trading_state}"
        if run is not None and run.error:
            message = f"{account.name} could not be reconciled: {run.error}"
        elif run is not None and run.differences:
            message = f"{account.name}: {len(run.differences)} differences with the venue were repaired"
        return {
            "level": level,
            "message": message,
            "details": {"differences": run.differences if run is not None else []},
            "account": self._account_row(account),
        }

    async def _read(self, question: Any) -> dict[str, Any] | None:
        try:
            return await asyncio.to_thread(question)
        except market.MarketUnavailable:
            return None

    # To the browser.

    async def _send_frames(self) -> None:
        while True:
            await self._frame_waits.wait()
            self._frame_waits.clear()
            waiting, self._frames = self._frames, {}
            for body in waiting.values():
                await self.send(text_data=body)

    async def _forward(self, message: dict[str, Any] | None) -> None:
        if message is not None:
            await self.send(text_data=orjson.dumps(message).decode())

    async def _tell(self, kind: str, data: Any) -> None:
        message = {"type": kind, "timestamp": time.time_ns() // 1_000_000, "data": data}
        await self.send(text_data=orjson.dumps(message, default=str).decode())

    async def _error(self, field: str, message: str) -> None:
        await self._tell("error", {"field": field, "message": message})
