"""The rules that an order meets before it is accepted, with Bybit's codes and words."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from marketdata.engine.grid import GridError
from trading.simulator.accounts import TAKER_FEE, SimulatedAccount
from trading.simulator.errors import ApiError, parameter_error
from trading.simulator.markets import Market
from trading.simulator.orders import SimulatedOrder

ZERO = Decimal(0)
MAX_ACTIVE_ORDERS = 500
TIMES_IN_FORCE = ("GTC", "IOC", "FOK", "PostOnly")
LINK_ID = re.compile(r"[A-Za-z0-9_-]{0,36}", re.ASCII)
# Digits are limited: an exponent or a million digits is a mistake or an attack, never a price.
NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)


def order_of_request(
    market: Market, account: SimulatedAccount, request: Mapping[str, Any], now_ms: int
) -> SimulatedOrder:
    """The order that a request asks for, not accepted yet.

    Raises:
        ApiError: a field is wrong (10001), off its grid, or the link id was used before (110072).
    """
    side, order_type = request.get("side"), request.get("orderType")
    if side not in ("Buy", "Sell"):
        raise parameter_error("params error: side invalid, expected Buy or Sell")
    if order_type not in ("Market", "Limit"):
        raise parameter_error("params error: orderType invalid, expected Market or Limit")
    if request.get("positionIdx") not in (None, 0, "0"):
        raise parameter_error("position idx not match position mode")
    if request.get("triggerPrice"):
        raise parameter_error("params error: triggerPrice: conditional orders are not supported")
    time_in_force = "IOC" if order_type == "Market" else str(request.get("timeInForce") or "GTC")
    if time_in_force not in TIMES_IN_FORCE:
        raise parameter_error(f"params error: timeInForce invalid, expected one of {', '.join(TIMES_IN_FORCE)}")
    link_id = str(request.get("orderLinkId") or "")
    if LINK_ID.fullmatch(link_id) is None:
        raise parameter_error("params error: orderLinkId invalid, expected at most 36 of A-Z a-z 0-9 - _")
    if link_id in account.by_link:
        raise ApiError(110072, "OrderLinkedID is duplicate")
    quantity = quantity_of(market, request.get("qty"), order_type)
    price = price_of(market, "price", request.get("price")) if order_type == "Limit" else ZERO
    order = new_order(market, account, side, order_type, time_in_force, quantity, price, now_ms)
    order.link_id, order.reduce_only = link_id, flag("reduceOnly", request)
    order.take_profit, order.stop_loss = exits_of(market, order, request)
    return order


def new_order(
    market: Market,
    account: SimulatedAccount,
    side: str,
    order_type: str,
    time_in_force: str,
    quantity: Decimal,
    price: Decimal,
    now_ms: int,
) -> SimulatedOrder:
    lots = market.grids.quantities.units(f"{quantity:f}")
    return SimulatedOrder(
        order_id=str(uuid.uuid4()),
        link_id="",
        user=account.user,
        symbol=market.symbol,
        side=side,
        order_type=order_type,
        time_in_force=time_in_force,
        quantity=quantity,
        price=price,
        tick=market.grids.prices.units(f"{price:f}") if price else None,
        lots=lots,
        reduce_only=False,
        created_ms=now_ms,
        leaves_lots=lots,
        last_price_on_created=market.last_price,
    )


def require_allowed(market: Market, account: SimulatedAccount, order: SimulatedOrder) -> None:
    """The rules that need the account: caps, reduce-only (which may make the order smaller), minimum value, margin."""
    if len(account.open_orders(market.symbol)) >= MAX_ACTIVE_ORDERS:
        raise ApiError(110020, f"Not allowed to have more than {MAX_ACTIVE_ORDERS} active orders")
    position = account.position(market.symbol)
    if order.reduce_only:
        if position.quantity == 0 or position.side == order.side:
            raise ApiError(110017, "current position is zero, cannot fix reduce-only order qty")
        order.quantity = min(order.quantity, position.quantity)
        order.lots = order.leaves_lots = market.grids.quantities.units(f"{order.quantity:f}")
        return
    require_value(market, order.side, order.quantity, order.price)
    require_margin(market, account, order.side, order.quantity, order.price)


def require_value(market: Market, side: str, quantity: Decimal, price: Decimal) -> None:
    if quantity * expected_price(market, side, price) < market.rules.min_notional:
        raise ApiError(110094, f"Order does not meet minimum order value {market.rules.min_notional:f}USDT")


def require_margin(market: Market, account: SimulatedAccount, side: str, quantity: Decimal, price: Decimal) -> None:
    """Enough for the initial margin and the fee of whatever is left once an opposite position is closed."""
    position = account.position(market.symbol)
    opening = quantity
    if position.quantity and position.side != side:
        opening = max(ZERO, quantity - position.quantity)
    cost = opening * expected_price(market, side, price) * (1 / position.leverage + TAKER_FEE)
    if cost > account.available:
        raise ApiError(110007, "ab not enough for new order")


def expected_price(market: Market, side: str, price: Decimal) -> Decimal:
    """An order's own price; for a market order the best opposite one."""
    best = market.book.opposite(side).best
    return price or (market.grids.prices.value(best) if best is not None else market.last_price)


def exits_of(market: Market, order: SimulatedOrder, request: Mapping[str, Any]) -> tuple[Decimal, Decimal]:
    """Take-profit and stop-loss of an order: on the right side of its price, zero when not asked for."""
    given = [request.get("takeProfit"), request.get("stopLoss")]
    exits = [
        price_of(market, name, text) if text not in (None, "", "0", 0) else ZERO
        for name, text in zip(("takeProfit", "stopLoss"), given, strict=True)
    ]
    if order.reduce_only and any(exits):
        raise parameter_error("params error: tp/sl is not supported for reduce-only orders")
    if request.get("tpslMode") not in (None, "", "Full"):
        raise parameter_error("params error: tpslMode invalid, only Full is supported")
    require_exits_beside(order.side, expected_price(market, order.side, order.price), *exits)
    return exits[0], exits[1]


def require_exits_beside(side: str, base: Decimal, take_profit: Decimal, stop_loss: Decimal) -> None:
    """A long gains upwards and stops downwards; a short the other way round."""
    up = side == "Buy"
    if take_profit and (take_profit <= base if up else take_profit >= base):
        word = "higher" if up else "lower"
        raise parameter_error(f"TakeProfit:{take_profit:f} set for {side} position should be {word} than {base:f}")
    if stop_loss and (stop_loss >= base if up else stop_loss <= base):
        word = "lower" if up else "higher"
        raise parameter_error(f"StopLoss:{stop_loss:f} set for {side} position should be {word} than {base:f}")


def quantity_of(market: Market, text: object, order_type: str) -> Decimal:
    quantity, rules = number_of("qty", text), market.rules
    if quantity < rules.min_quantity:
        raise parameter_error(f"Qty invalid: {text} is below the minimum {rules.min_quantity:f}")
    if quantity % rules.lot_size:
        raise parameter_error(f"Qty invalid: {text} is not a multiple of {rules.lot_size:f}")
    largest = rules.max_market_quantity if order_type == "Market" else rules.max_quantity
    if quantity > largest:
        raise parameter_error(f"The number of contracts exceeds maximum limit allowed: {largest:f}")
    return quantity


def price_of(market: Market, name: str, text: object) -> Decimal:
    price = number_of(name, text)
    try:
        market.grids.prices.units(f"{price:f}")
    except GridError:
        message = f"Price invalid: {name} {text} is not a multiple of the tick size {market.rules.tick_size:f}"
        raise parameter_error(message) from None
    if not market.rules.min_price <= price <= market.rules.max_price:
        raise ApiError(110003, "Order price exceeds the allowable range.")
    return price


def number_of(name: str, text: object) -> Decimal:
    """A plain number, zero or above."""
    written = str(text).strip() if text is not None else ""
    if NUMBER.fullmatch(written) is None:
        raise parameter_error(f"params error: {name} invalid, expected a plain number, got {written[:40]!r}")
    return Decimal(written)


def flag(name: str, request: Mapping[str, Any]) -> bool:
    """A boolean; pybit's users also send it as text."""
    value = request.get(name)
    if value not in (None, "", True, False, "true", "false"):
        raise parameter_error(f"params error: {name} invalid, expected true or false")
    return value in (True, "true")
