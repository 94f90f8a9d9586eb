"""From a request to an order, or to the refusal that Bybit would give. Nothing is changed here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from marketdata.engine.grid import GridError
from trading.simulator.accounts import SETTLE_COIN, SimulatedAccount
from trading.simulator.errors import ApiError, parameter_error
from trading.simulator.markets import Market
from trading.simulator.order_prices import bbo_price, slippage_tolerance
from trading.simulator.orders import ZERO, SimulatedOrder
from trading.simulator.positions import HEDGE_BUY, HEDGE_SELL, ONE_WAY, SimulatedPosition

MAX_ACTIVE_ORDERS, MAX_CONDITIONAL_ORDERS = 500, 10
MAX_SPOT_CONDITIONAL_ORDERS = 30
LINK_ID = re.compile("[A-Za-z0-9_-]{0,36}")
TIMES_IN_FORCE = ("GTC", "IOC", "FOK", "PostOnly")
PRICES = ("LastPrice", "MarkPrice", "IndexPrice")
SELF_MATCH = ("None", "CancelMaker", "CancelTaker", "CancelBoth")
RISING, FALLING = 1, 2
# What spot refuses a field with; and one that is no number.
SPOT_CODES = {"timeInForce": 170115, "orderType": 170116, "side": 170117}
SPOT_INVALID = 170130
MOST_DIGITS = 18


def order_of(
    account: SimulatedAccount, market: Market, request: Mapping[str, Any], now_ms: int, order_id: str
) -> SimulatedOrder:
    """The order that a create request asks for.

    Raises:
        ApiError: with Bybit's code and words.
    """
    order = _plain_order(account, market, request, now_ms, order_id)
    _set_trigger(market, order, request)
    if market.category == "linear":
        order.position_index = _position_index(account, market, order.side, request)
        _set_exits(market, order, request)
        check_cap(account, order)
        _check_price_band(market, order)
        check_linear(account, market, order)
    else:
        check_cap(account, order)
        _check_spot_price_band(market, order)
        check_spot(account, market, order)
    return order


def _plain_order(
    account: SimulatedAccount, market: Market, request: Mapping[str, Any], now_ms: int, order_id: str
) -> SimulatedOrder:
    codes = SPOT_CODES if market.category == "spot" else {}
    side = one_of(request, "side", ("Buy", "Sell"), codes=codes)
    order_type = one_of(request, "orderType", ("Market", "Limit"), codes=codes)
    time_in_force = "IOC"
    if order_type == "Limit":
        time_in_force = one_of(request, "timeInForce", TIMES_IN_FORCE, "GTC", codes)
    link_id = _link_id(account, market, request)
    slippage_type, tolerance = slippage_tolerance(request, order_type)
    best = bbo_price(market, side, order_type, request)
    price = price_of(market, "price", best or request.get("price")) if order_type == "Limit" else ZERO
    reduce_only, close = flag(request, "reduceOnly"), flag(request, "closeOnTrigger")
    closes_all = market.category == "linear" and reduce_only and close and str(request.get("qty")) == "0"
    waits = _waits(request)
    budget, unit = ZERO, ""
    if market.category == "spot":
        unit = one_of(request, "marketUnit", ("baseCoin", "quoteCoin"), "quoteCoin" if side == "Buy" else "baseCoin")
        if order_type == "Market" and unit == "quoteCoin":
            budget = number("qty", request.get("qty"), SPOT_INVALID)
    if budget or (closes_all and waits):
        quantity = ZERO
    elif closes_all:
        quantity = min(held_against(account, market, side, request), largest_quantity(market, order_type))
    else:
        splits = reduce_only and market.category == "linear"
        quantity = quantity_of(market, request.get("qty"), order_type, is_limited=not splits)
    lots = market.grids.quantities.units(f"{quantity:f}")
    return SimulatedOrder(
        order_id=order_id,
        link_id=link_id,
        user=account.user,
        symbol=market.symbol,
        side=side,
        order_type=order_type,
        time_in_force=time_in_force,
        quantity=quantity,
        price=price,
        tick=market.grids.prices.units(f"{price:f}") if price else None,
        lots=lots,
        leaves_lots=lots,
        reduce_only=reduce_only,
        close_on_trigger=close,
        whole_position=closes_all and waits,
        created_ms=now_ms,
        category=market.category,
        smp_type=one_of(request, "smpType", SELF_MATCH, "None"),
        market_unit=unit if order_type == "Market" else "",
        quote_budget=budget,
        slippage_type=slippage_type,
        slippage_tolerance=tolerance,
        create_type="CreateByBboOrder" if best else "CreateByUser",
        last_price_on_created=market.last_price,
    )


def _link_id(account: SimulatedAccount, market: Market, request: Mapping[str, Any]) -> str:
    link_id = str(request.get("orderLinkId") or "")
    if not LINK_ID.fullmatch(link_id):
        raise parameter_error("params error: orderLinkId invalid")
    if link_id in account.by_link:
        if market.category == "spot":
            raise ApiError(170141, "Duplicate clientOrderId")
        raise ApiError(110072, "OrderLinkedID is duplicate")
    return link_id


def _position_index(account: SimulatedAccount, market: Market, side: str, request: Mapping[str, Any]) -> int:
    text = str(request.get("positionIdx") or 0)
    allowed = ("1", "2") if market.symbol in account.hedged else ("0",)
    if text not in allowed:
        raise ApiError(10001, "position idx not match position mode")
    return int(text)


def held_against(account: SimulatedAccount, market: Market, side: str, request: Mapping[str, Any]) -> Decimal:
    """The size of the position that an order of this side would close."""
    position = account.position(market.symbol, _position_index(account, market, side, request))
    if position.quantity == 0 or position.side == side:
        raise ApiError(110017, "current position is zero, cannot fix reduce-only order qty")
    return position.quantity


def _waits(request: Mapping[str, Any]) -> bool:
    return request.get("triggerPrice") not in (None, "", "0")


def _set_trigger(market: Market, order: SimulatedOrder, request: Mapping[str, Any]) -> None:
    if not _waits(request):
        return
    order.trigger_price = price_of(market, "triggerPrice", request["triggerPrice"])
    if market.category == "spot":
        order.stop_order_type, order.trigger_by = "tpslOrder", "LastPrice"
        order.trigger_direction = RISING if order.trigger_price > market.last_price else FALLING
    else:
        order.stop_order_type, order.create_type = "Stop", "CreateByStopOrder"
        order.trigger_by = one_of(request, "triggerBy", PRICES, "LastPrice")
        direction = str(request.get("triggerDirection") or "")
        if direction not in ("1", "2"):
            raise parameter_error("params error: TriggerDirection invalid")
        order.trigger_direction = int(direction)
        check_trigger_side(market, order)
    order.status = "Untriggered"


def check_trigger_side(market: Market, order: SimulatedOrder) -> None:
    """A trigger that would fire at once is refused."""
    current = market.price_by(order.trigger_by)
    if order.trigger_direction == RISING and order.trigger_price <= current:
        raise ApiError(110092, f"expect Rising, but trigger_price[{order.trigger_price}] <= current[{current}]")
    if order.trigger_direction == FALLING and order.trigger_price >= current:
        raise ApiError(110093, f"expect Falling, but trigger_price[{order.trigger_price}] >= current[{current}]")


def _set_exits(market: Market, order: SimulatedOrder, request: Mapping[str, Any]) -> None:
    take_profit = optional_price(market, "takeProfit", request)
    stop_loss = optional_price(market, "stopLoss", request)
    if not take_profit and not stop_loss:
        return
    if order.reduce_only:
        raise parameter_error("params error: tp/sl is not supported for reduce-only orders")
    base = order.price or market.last_price
    check_exit_side(order.side, base, take_profit, stop_loss)
    order.take_profit, order.stop_loss = take_profit, stop_loss
    order.tpsl_mode = one_of(request, "tpslMode", ("Full", "Partial"), "Full")
    if take_profit:
        order.tp_trigger_by = one_of(request, "tpTriggerBy", PRICES, "LastPrice")
        order.tp_order_type = one_of(request, "tpOrderType", ("Market", "Limit"), "Market")
        order.tp_limit_price = _exit_limit(market, "tp", order.tp_order_type, order.tpsl_mode, request)
    if stop_loss:
        order.sl_trigger_by = one_of(request, "slTriggerBy", PRICES, "LastPrice")
        order.sl_order_type = one_of(request, "slOrderType", ("Market", "Limit"), "Market")
        order.sl_limit_price = _exit_limit(market, "sl", order.sl_order_type, order.tpsl_mode, request)


def _exit_limit(market: Market, kind: str, order_type: str, mode: str, request: Mapping[str, Any]) -> Decimal:
    if order_type == "Market":
        return ZERO
    if mode != "Partial":
        raise parameter_error(f"params error: {kind}OrderType Limit needs tpslMode Partial")
    return price_of(market, f"{kind}LimitPrice", request.get(f"{kind}LimitPrice"))


def check_exit_side(side: str, base: Decimal, take_profit: Decimal, stop_loss: Decimal) -> None:
    """A take-profit beyond the price and a stop-loss before it, or a refusal."""
    up = side == "Buy"
    beyond, before = ("higher", "lower") if up else ("lower", "higher")
    if take_profit and (take_profit <= base if up else take_profit >= base):
        raise parameter_error(f"TakeProfit:{take_profit} set for {side} position should be {beyond} than {base}")
    if stop_loss and (stop_loss >= base if up else stop_loss <= base):
        raise parameter_error(f"StopLoss:{stop_loss} set for {side} position should be {before} than {base}")


def check_cap(account: SimulatedAccount, order: SimulatedOrder) -> None:
    waits, spot = order.status == "Untriggered", order.category == "spot"
    standing = account.counts[order.category, order.symbol, waits]
    if waits:
        if standing >= (MAX_SPOT_CONDITIONAL_ORDERS if spot else MAX_CONDITIONAL_ORDERS):
            raise _too_many_conditional(
                *((MAX_SPOT_CONDITIONAL_ORDERS, 170810) if spot else (MAX_CONDITIONAL_ORDERS, 110009))
            )
    elif standing >= MAX_ACTIVE_ORDERS:
        raise ApiError(170810 if spot else 110020, "Not allowed to have more than 500 active orders")


def _too_many_conditional(most: int, code: int) -> ApiError:
    return ApiError(code, f"The number of conditional orders exceeds the maximum of {most}")


def _check_price_band(market: Market, order: SimulatedOrder) -> None:
    reference = market.mark_price or market.last_price
    if not order.price or not reference or order.status == "Untriggered":
        return
    too_high = order.side == "Buy" and order.price > reference * (1 + market.price_band)
    too_low = order.side == "Sell" and order.price < reference * (1 - market.price_band)
    if too_high or too_low:
        raise ApiError(110003, "Order price exceeds the allowable range.")


def _check_spot_price_band(market: Market, order: SimulatedOrder) -> None:
    if not order.price or not market.last_price or order.status == "Untriggered":
        return
    highest, lowest = market.price_limits()
    if order.side == "Buy" and order.price > Decimal(highest):
        raise ApiError(170193, f"Buy order price cannot be higher than {highest}USDT.")
    if order.side == "Sell" and order.price < Decimal(lowest):
        raise ApiError(170194, f"Sell order price cannot be lower than {lowest}USDT.")


def check_linear(account: SimulatedAccount, market: Market, order: SimulatedOrder) -> None:
    """What a derivatives order needs of its account when it goes to work: a position to reduce, or margin."""
    if order.reduce_only or closes(order):
        if order.status == "Untriggered":
            return
        position = account.position(order.symbol, order.position_index)
        if position.quantity == 0 or position.side == order.side:
            raise ApiError(110017, "current position is zero, cannot fix reduce-only order qty")
        if order.quantity > position.quantity:
            _resize(market, order, position.quantity)
        return
    price = reference_price(market, order)
    if order.quantity * price < market.rules.min_notional:
        raise ApiError(110094, f"Order does not meet minimum order value {market.rules.min_notional:f}USDT")
    if order.status != "Untriggered" and opening_cost(account, market, order, price) > account.available:
        raise ApiError(110007, "ab not enough for new order")


def closes(order: SimulatedOrder) -> bool:
    """In hedge mode the other side of a position can only close it."""
    return (order.position_index, order.side) in ((HEDGE_BUY, "Sell"), (HEDGE_SELL, "Buy"))


def opening_value(account: SimulatedAccount, order: SimulatedOrder, price: Decimal) -> Decimal:
    """What the order adds to a position, at a price."""
    position: SimulatedPosition = account.position(order.symbol, order.position_index)
    opening = order.quantity - order.filled
    if order.position_index == ONE_WAY and position.quantity and position.side != order.side:
        opening = max(ZERO, opening - position.quantity)
    return opening * price


def opening_cost(account: SimulatedAccount, market: Market, order: SimulatedOrder, price: Decimal) -> Decimal:
    """Initial margin and fee of what the order adds to a position."""
    leverage = account.position(order.symbol, order.position_index).leverage
    return opening_value(account, order, price) * (1 / leverage + market.taker_fee)


def check_spot(account: SimulatedAccount, market: Market, order: SimulatedOrder) -> None:
    price = reference_price(market, order)
    value = order.quote_budget or order.quantity * price
    if value < market.rules.min_notional:
        raise ApiError(170140, "Order value exceeded lower limit.")
    if order.status == "Untriggered":
        return
    spent, coin = (value, SETTLE_COIN) if order.side == "Buy" else (order.quantity, market.rules.base_coin)
    if spent > account.spendable(coin):
        raise ApiError(170131, "Insufficient balance.")


def reference_price(market: Market, order: SimulatedOrder) -> Decimal:
    best = market.book.opposite(order.side).best
    return order.price or (market.grids.prices.value(best) if best is not None else market.last_price)


def split(market: Market, order: SimulatedOrder, new_id: Callable[[], str]) -> list[SimulatedOrder]:
    """Cut an order to what one may be at most; the orders that carry the rest, without a link id."""
    largest, rest = largest_quantity(market, order.order_type), []
    left = order.quantity - largest
    # A working order is not larger than its position; one that waits could be anything.
    if order.status == "Untriggered" and order.quantity > MAX_CONDITIONAL_ORDERS * largest:
        raise _too_many_conditional(MAX_CONDITIONAL_ORDERS, 110009)
    if left > 0:
        _resize(market, order, largest)
    while left > 0:
        piece = replace(order, order_id=new_id(), link_id="")
        _resize(market, piece, min(left, largest))
        rest.append(piece)
        left -= piece.quantity
    return rest


def _resize(market: Market, order: SimulatedOrder, quantity: Decimal) -> None:
    order.quantity = quantity
    order.lots = order.leaves_lots = market.grids.quantities.units(f"{quantity:f}")


def largest_quantity(market: Market, order_type: str) -> Decimal:
    return market.rules.max_market_quantity if order_type == "Market" else market.rules.max_quantity


def quantity_of(market: Market, text: object, order_type: str, *, is_limited: bool = True) -> Decimal:
    spot, rules = market.category == "spot", market.rules
    quantity = number("qty", text, SPOT_INVALID if spot else 10001)
    if quantity % rules.lot_size:
        if spot:
            raise ApiError(170137, "Order quantity has too many decimals.")
        raise ApiError(10001, f"Qty invalid: {text}; step {rules.lot_size:f}, minimum {rules.min_quantity:f}")
    if quantity < rules.min_quantity:
        if spot:
            raise ApiError(170136, "Order quantity exceeded lower limit.")
        raise ApiError(10001, f"Qty invalid: {text}; step {rules.lot_size:f}, minimum {rules.min_quantity:f}")
    largest = largest_quantity(market, order_type)
    if is_limited and quantity > largest:
        if spot:
            raise ApiError(170124, "Order quantity exceeded upper limit.")
        raise ApiError(10001, f"The number of contracts exceeds maximum limit allowed: {largest:f}")
    return quantity


def price_of(market: Market, name: str, text: object) -> Decimal:
    spot = market.category == "spot"
    price = number(name, text, SPOT_INVALID if spot else 10001)
    try:
        market.grids.prices.units(f"{price:f}")
    except GridError:
        if spot:
            raise ApiError(170134, "Order price has too many decimals.") from None
        raise ApiError(10001, f"Price invalid: {text}; tick size {market.rules.tick_size:f}") from None
    if price == 0 or not market.rules.min_price <= price <= market.rules.max_price:
        if spot:
            upper = price > market.rules.max_price
            raise ApiError(170132 if upper else 170133, f"Order price exceeded {'upper' if upper else 'lower'} limit.")
        raise ApiError(110003, "Order price exceeds the allowable range.")
    return price


def optional_price(market: Market, name: str, request: Mapping[str, Any]) -> Decimal:
    """Zero when the field is missing, empty or "0"."""
    text = request.get(name)
    return ZERO if text in (None, "", "0", 0) else price_of(market, name, text)


def number(name: str, text: object, code: int = 10001) -> Decimal:
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        raise ApiError(code, f"params error: {name} invalid") from None
    # The exponent too: writing 1e999999999 out would take the process seconds and a gigabyte.
    if not value.is_finite() or value < 0 or abs(value.adjusted()) > MOST_DIGITS:
        raise ApiError(code, f"params error: {name} invalid")
    return value


def one_of(
    request: Mapping[str, Any],
    name: str,
    allowed: tuple[str, ...],
    default: str | None = None,
    codes: Mapping[str, int] | None = None,
) -> str:
    """``codes``: what a field is refused with by its name, where that is not 10001."""
    value = request.get(name)
    if value in (None, "") and default is not None:
        return default
    if value not in allowed:
        raise ApiError((codes or {}).get(name, 10001), f"params error: {name} invalid")
    return str(value)


def flag(request: Mapping[str, Any], name: str) -> bool:
    return request.get(name) in (True, "true", "True")
