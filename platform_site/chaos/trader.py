"""The load of a run: each user's bot sends its orders to the web process, and repeats what was not answered."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Any

from platform_site.chaos.ledgers import VenueLedger
from platform_site.chaos.scenario import PlannedOrder
from trading.lifecycle import OrderState

# How long a bot repeats a request before it gives up: longer than a restart of the web process under load.
PATIENCE_SECONDS = 60.0
REQUEST_SECONDS = 5.0
REPEAT_SECONDS = 0.15
# How long a cancel or an amendment waits for its order to be confirmed.
CONFIRMED_SECONDS = 5.0
UNCONFIRMED = frozenset({OrderState.NEW, OrderState.PENDING_SUBMIT, OrderState.UNKNOWN})
UNAMENDABLE = UNCONFIRMED | {OrderState.SUBMITTED}


@dataclass(frozen=True, slots=True)
class Market:
    """What a bot must know to price an order."""

    price: Decimal
    tick_size: Decimal
    lot_size: Decimal


@dataclass(slots=True)
class Bot:
    """One user's client. ``heard``: the last HTTP status by client order id, 0 where nothing was ever answered."""

    user: str
    account_id: int
    token: str
    port: int
    venue: Callable[[], VenueLedger]
    heard: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    repeated: int = 0

    def trade(self, orders: Sequence[PlannedOrder], markets: Mapping[str, Market], over: threading.Event) -> None:
        """Send them in time; returns when all are answered, given up, or it is over."""
        began = time.monotonic()
        for order in orders:
            over.wait(max(0.0, began + order.at - time.monotonic()))
            if over.is_set():
                return
            if order.kind == "cancel":
                self._cancel(order, over)
            elif order.kind == "amend":
                self._amend(order, markets[order.symbol], over)
            else:
                self._place(order, markets[order.symbol], over)

    def kill_switch(self, verb: str, over: threading.Event, reason: str) -> int:
        body = {"account": self.account_id, "reason": reason}
        return self._ask("POST", f"/api/v1/kill-switch/{verb}", body, over)[0]

    def _place(self, order: PlannedOrder, market: Market, over: threading.Event) -> None:
        body = request_body(order, market, self.account_id, self._side(order))
        self.heard[order.client_order_id] = 0
        status, answer = self._ask("POST", "/api/v1/trading/order", body, over)
        self.heard[order.client_order_id] = status
        if status in (200, 201):
            self.numbers[order.client_order_id] = int(answer["id"])

    def _cancel(self, order: PlannedOrder, over: threading.Event) -> None:
        """Whether it has ended by then is the order's business."""
        number = self._once_past(UNCONFIRMED, order, over)
        if number is not None:
            self._ask("DELETE", f"/api/v1/trading/order/{number}", None, over)

    def _amend(self, order: PlannedOrder, market: Market, over: threading.Event) -> None:
        """Repeated with the same values, it is refused where the first one was heard: nothing is amended twice."""
        number = self._once_past(UNAMENDABLE, order, over)
        if number is not None:
            self._ask("PATCH", f"/api/v1/trading/order/{number}", amendment_body(order, market), over)

    def _once_past(self, states: Collection[str], order: PlannedOrder, over: threading.Event) -> int | None:
        """The order's number once it has left these states: in them the API refuses to change or cancel it."""
        number = self.numbers.get(order.client_order_id)
        deadline = time.monotonic() + CONFIRMED_SECONDS
        while number is not None and time.monotonic() < deadline and not over.wait(REPEAT_SECONDS):
            status, answer = self._ask("GET", f"/api/v1/trading/order/{number}", None, over)
            if status != 200 or answer["state"] not in states:
                return number
        return None

    def _side(self, order: PlannedOrder) -> str:
        """Reduce-only orders go against the position that there is."""
        if order.kind != "reduce":
            return order.side
        held = self.venue().positions.get(order.symbol, Decimal(0))
        return "Sell" if held > 0 else "Buy" if held < 0 else order.side

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, over: threading.Event
    ) -> tuple[int, Mapping[str, Any]]:
        """The first answer that is one: no connection and 5xx are repeated, with the same body under the same id."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        status, answer = self._once(method, path, body)
        while (status == 0 or status >= 500) and time.monotonic() < deadline and not over.wait(REPEAT_SECONDS):
            self.repeated += 1
            status, answer = self._once(method, path, body)
        return status, answer

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, Mapping[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS)
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError):
            return 0, {}
        finally:
            connection.close()


def request_body(order: PlannedOrder, market: Market, account_id: int, side: str) -> dict[str, Any]:
    """What the API takes. Limits rest on their own side of the price: nobody crosses it by mistake."""
    body: dict[str, Any] = {
        "account": account_id,
        "symbol": order.symbol,
        "side": side,
        "order_type": "Limit" if order.kind == "limit" else "Market",
        "quantity": f"{order.lots * market.lot_size:f}",
        "client_order_id": order.client_order_id,
        "reduce_only": order.kind == "reduce",
    }
    base = market.price
    if order.kind == "limit":
        base = resting_price(order, market, side)
        body["price"] = f"{base:f}"
    up = 1 if side == "Buy" else -1
    if order.take:
        body["take_profit"] = f"{on_tick(base * (1 + up * order.take / 100), market):f}"
    if order.stop:
        body["stop_loss"] = f"{on_tick(base * (1 - up * order.stop / 100), market):f}"
    return body


def amendment_body(order: PlannedOrder, market: Market) -> dict[str, Any]:
    price = resting_price(order, market, order.side)
    return {"quantity": f"{order.lots * market.lot_size:f}", "price": f"{price:f}"}


def resting_price(order: PlannedOrder, market: Market, side: str) -> Decimal:
    away = market.price * order.percent / 100
    return on_tick(market.price - away if side == "Buy" else market.price + away, market)


def on_tick(price: Decimal, market: Market) -> Decimal:
    return (price / market.tick_size).to_integral_value(rounding=ROUND_DOWN) * market.tick_size
