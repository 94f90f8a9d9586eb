"""Orders that wait for a price: conditional orders, and the exits of positions (take-profit, stop-loss, trailing)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from trading.simulator import order_checks as checks
from trading.simulator.accounts import SimulatedAccount
from trading.simulator.errors import ApiError, parameter_error
from trading.simulator.markets import Market
from trading.simulator.orders import ZERO, SimulatedOrder
from trading.simulator.positions import SimulatedPosition

if TYPE_CHECKING:
    from trading.simulator.exchange import Exchange

WHOLE = {"tp": "TakeProfit", "sl": "StopLoss"}
PARTIAL = {"tp": "PartialTakeProfit", "sl": "PartialStopLoss"}
MAX_PARTIAL_EXITS = 20


class Exits:
    """Knows every untriggered order by symbol; :meth:`look` fires those whose price has come."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._waiting: dict[tuple[str, str], dict[str, SimulatedOrder]] = defaultdict(dict)
        self._looking = False

    def watch(self, order: SimulatedOrder) -> None:
        self._waiting[order.category, order.symbol][order.order_id] = order

    def forget(self, order: SimulatedOrder) -> None:
        """An order that ended: nothing waits for it, and its position shows it no more."""
        if self._waiting[order.category, order.symbol].pop(order.order_id, None) is None or not order.is_exit:
            return
        position = self._position(order)
        if order.stop_order_type == "TakeProfit":
            position.take_profit = ZERO
        elif order.stop_order_type == "StopLoss":
            position.stop_loss = ZERO
        elif order.stop_order_type == "TrailingStop":
            position.trailing_stop = position.active_price = ZERO

    def look(self, market: Market, now_ms: int) -> None:
        """Fire what the market's prices have reached. Firing trades, which moves prices: until nothing fires."""
        waiting = self._waiting.get((market.category, market.symbol))
        if not waiting or self._looking:
            return
        self._looking = True
        try:
            while due := [order for order in waiting.values() if self._is_due(market, order)]:
                for order in due:
                    if order.order_id in waiting:
                        self._fire(market, order, now_ms)
        finally:
            self._looking = False

    def _is_due(self, market: Market, order: SimulatedOrder) -> bool:
        price = market.price_by(order.trigger_by)
        if order.trailing and not self._follow(order, price):
            return False
        if order.trigger_direction == checks.RISING:
            return price >= order.trigger_price
        return price <= order.trigger_price

    def _follow(self, order: SimulatedOrder, price: Decimal) -> bool:
        """Move a trailing stop after its price; False while it is not active yet."""
        down = order.side == "Sell"
        if order.active_price:
            if price < order.active_price if down else price > order.active_price:
                return False
            order.active_price = ZERO
            order.trigger_price = ZERO
        trigger = price - order.trailing if down else price + order.trailing
        if not order.trigger_price or (trigger > order.trigger_price if down else trigger < order.trigger_price):
            order.trigger_price = trigger
            self._exchange.changed_orders[order.order_id] = order
        return True

    def _fire(self, market: Market, order: SimulatedOrder, now_ms: int) -> None:
        account = self._exchange.accounts[order.user]
        if order.whole_position:
            order.quantity = self._position(order).quantity
            if not order.is_exit:
                order.quantity = min(order.quantity, checks.largest_quantity(market, order.order_type))
            order.lots = order.leaves_lots = market.grids.quantities.units(f"{order.quantity:f}")
        self.forget(order)
        order.status, order.updated_ms = "Triggered", now_ms
        self._exchange.tell_order(order)
        order.status = "New"
        try:
            if market.category == "spot":
                checks.check_spot(account, market, order)
            else:
                checks.check_linear(account, market, order)
        except ApiError as error:
            no_position = error.code == 110017
            self._exchange.end(
                order,
                "Cancelled" if no_position else "Rejected",
                now_ms,
                reject_reason="EC_NoError" if no_position else "EC_Others",
                cancel_type="CancelByReduceOnly" if no_position else "UNKNOWN",
            )
            return
        self._exchange.work(order, now_ms)

    # Exits of positions.

    def after_fill(self, order: SimulatedOrder, quantity: Decimal, now_ms: int) -> None:
        """A fill changed a position: its own exits begin, exits of a position that is gone end, and reduce-only orders
        fit what is left."""
        account, position = self._exchange.accounts[order.user], self._position(order)
        if position.quantity and position.side == order.side and (order.take_profit or order.stop_loss):
            self._begin_exits(account, position, order, quantity, now_ms)
        self._fit(account, position, now_ms)

    def _fit(self, account: SimulatedAccount, position: SimulatedPosition, now_ms: int) -> None:
        mine = [
            each
            for each in account.working.values()
            if each.category == "linear"
            and each.symbol == position.symbol
            and each.position_index == position.index
            and (each.reduce_only or checks.closes(each))
        ]
        left = position.quantity
        closing = [each for each in mine if position.quantity and each.side != position.side]
        for each in mine:
            if each not in closing:
                kind = "CancelByTpSlTsClear" if each.is_exit else "CancelByReduceOnly"
                self._exchange.end(each, "Cancelled", now_ms, cancel_type=kind, reject_reason="EC_NoError")
        # Those nearest to the market keep their quantity.
        working = [each for each in closing if each.status != "Untriggered"]
        for each in sorted(working, key=lambda o: o.price if o.side == "Sell" else -o.price):
            if left <= 0:
                self._exchange.end(
                    each, "Cancelled", now_ms, cancel_type="CancelByReduceOnly", reject_reason="EC_NoError"
                )
                continue
            if each.leaves > left:
                self._exchange.shrink(each, each.filled + left, now_ms)
            left -= each.leaves

    def _begin_exits(
        self,
        account: SimulatedAccount,
        position: SimulatedPosition,
        order: SimulatedOrder,
        quantity: Decimal,
        now_ms: int,
    ) -> None:
        if order.tpsl_mode == "Full":
            if (order.take_profit or ZERO) != position.take_profit and order.take_profit:
                self._set_whole(account, position, "tp", order.take_profit, order.tp_trigger_by, now_ms)
            if (order.stop_loss or ZERO) != position.stop_loss and order.stop_loss:
                self._set_whole(account, position, "sl", order.stop_loss, order.sl_trigger_by, now_ms)
            return
        if order.take_profit:
            limit = order.tp_limit_price
            self._add_partial(position, order, "tp", order.take_profit, order.tp_trigger_by, limit, quantity, now_ms)
        if order.stop_loss:
            limit = order.sl_limit_price
            self._add_partial(position, order, "sl", order.stop_loss, order.sl_trigger_by, limit, quantity, now_ms)

    def _add_partial(
        self,
        position: SimulatedPosition,
        parent: SimulatedOrder,
        kind: str,
        price: Decimal,
        trigger_by: str,
        limit: Decimal,
        quantity: Decimal,
        now_ms: int,
    ) -> None:
        order = self._exit_order(parent.user, position, PARTIAL[kind], kind, price, trigger_by, quantity, limit, now_ms)
        order.parent_link_id = parent.link_id
        self._exchange.enter_exit(order)

    def _set_whole(
        self,
        account: SimulatedAccount,
        position: SimulatedPosition,
        kind: str,
        price: Decimal,
        trigger_by: str,
        now_ms: int,
    ) -> None:
        """Replace the take-profit or stop-loss of a whole position; a price of zero removes it."""
        for each in list(account.working.values()):
            if each.stop_order_type == WHOLE[kind] and self._position(each) is position:
                self._exchange.end(
                    each, "Cancelled", now_ms, cancel_type="CancelByTpSlTsClear", reject_reason="EC_NoError"
                )
        if price:
            order = self._exit_order(
                account.user, position, WHOLE[kind], kind, price, trigger_by, position.quantity, ZERO, now_ms
            )
            order.whole_position = True
            self._exchange.enter_exit(order)
        if kind == "tp":
            position.take_profit = price
        else:
            position.stop_loss = price

    def _exit_order(
        self,
        user: str,
        position: SimulatedPosition,
        name: str,
        kind: str,
        price: Decimal,
        trigger_by: str,
        quantity: Decimal,
        limit: Decimal,
        now_ms: int,
    ) -> SimulatedOrder:
        market = self._exchange.market(position.symbol)
        lots = market.grids.quantities.units(f"{quantity:f}")
        long = position.side == "Buy"
        rising = long == (kind == "tp")
        return SimulatedOrder(
            order_id=self._exchange.new_id(),
            link_id="",
            user=user,
            symbol=position.symbol,
            side=position.exit_side,
            order_type="Limit" if limit else "Market",
            time_in_force="GTC" if limit else "IOC",
            quantity=quantity,
            price=limit,
            tick=market.grids.prices.units(f"{limit:f}") if limit else None,
            lots=lots,
            leaves_lots=lots,
            reduce_only=True,
            close_on_trigger=True,
            created_ms=now_ms,
            position_index=position.index,
            trigger_price=price,
            trigger_direction=checks.RISING if rising else checks.FALLING,
            trigger_by=trigger_by or "LastPrice",
            tpsl_mode="Partial" if name.startswith("Partial") else "Full",
            create_type=f"CreateBy{name}",
            stop_order_type=name,
            status="Untriggered",
            last_price_on_created=market.last_price,
        )

    def set_for_position(self, user: str, request: Mapping[str, Any], now_ms: int) -> None:
        """The trading-stop request.

        Raises:
            ApiError: 10001 no position or prices on the wrong side, 34040 nothing would change.
        """
        market = self._exchange.market(str(request.get("symbol") or ""))
        account = self._exchange.accounts[user]
        index = str(request.get("positionIdx") or 0)
        if index not in (("1", "2") if market.symbol in account.hedged else ("0",)):
            raise ApiError(10001, "position idx not match position mode")
        position = account.position(market.symbol, int(index))
        if position.quantity == 0:
            raise parameter_error("can not set tp/sl/ts for zero position")
        mode = checks.one_of(request, "tpslMode", ("Full", "Partial"), "Full")
        take_profit = checks.optional_price(market, "takeProfit", request)
        stop_loss = checks.optional_price(market, "stopLoss", request)
        checks.check_exit_side(position.side, market.last_price, take_profit, stop_loss)
        if mode == "Partial":
            changed = self._set_partial(account, market, position, request, take_profit, stop_loss, now_ms)
        else:
            changed = self._set_full(account, position, request, take_profit, stop_loss, now_ms)
        if request.get("trailingStop") not in (None, ""):
            changed |= self._set_trailing(account, market, position, request, now_ms)
        if not changed:
            raise ApiError(34040, "not modified")
        self._exchange.tell_position(user, market.symbol, position.index)

    def _set_full(
        self,
        account: SimulatedAccount,
        position: SimulatedPosition,
        request: Mapping[str, Any],
        take_profit: Decimal,
        stop_loss: Decimal,
        now_ms: int,
    ) -> bool:
        changed = False
        for kind, name, price, now in (
            ("tp", "takeProfit", take_profit, position.take_profit),
            ("sl", "stopLoss", stop_loss, position.stop_loss),
        ):
            if request.get(name) not in (None, "") and price != now:
                trigger_by = checks.one_of(request, f"{kind}TriggerBy", checks.PRICES, "LastPrice")
                self._set_whole(account, position, kind, price, trigger_by, now_ms)
                changed = True
        return changed

    def _set_partial(
        self,
        account: SimulatedAccount,
        market: Market,
        position: SimulatedPosition,
        request: Mapping[str, Any],
        take_profit: Decimal,
        stop_loss: Decimal,
        now_ms: int,
    ) -> bool:
        made = []
        for kind, price in (("tp", take_profit), ("sl", stop_loss)):
            if not price:
                continue
            size = checks.quantity_of(market, request.get(f"{kind}Size"), "Limit")
            if size > position.quantity:
                raise parameter_error(f"params error: {kind}Size is more than the position")
            order_type = checks.one_of(request, f"{kind}OrderType", ("Market", "Limit"), "Market")
            limit = ZERO
            if order_type == "Limit":
                limit = checks.price_of(market, f"{kind}LimitPrice", request.get(f"{kind}LimitPrice"))
            trigger_by = checks.one_of(request, f"{kind}TriggerBy", checks.PRICES, "LastPrice")
            made.append(
                self._exit_order(account.user, position, PARTIAL[kind], kind, price, trigger_by, size, limit, now_ms)
            )
        standing = sum(order.stop_order_type in PARTIAL.values() for order in account.working.values())
        if standing + len(made) > MAX_PARTIAL_EXITS:
            raise parameter_error(f"params error: at most {MAX_PARTIAL_EXITS} partial take-profits and stop-losses")
        for order in made:
            self._exchange.enter_exit(order)
        return bool(made)

    def _set_trailing(
        self,
        account: SimulatedAccount,
        market: Market,
        position: SimulatedPosition,
        request: Mapping[str, Any],
        now_ms: int,
    ) -> bool:
        distance = checks.optional_price(market, "trailingStop", request)
        active = checks.optional_price(market, "activePrice", request)
        if (distance, active) == (position.trailing_stop, position.active_price):
            return False
        for each in list(account.working.values()):
            if each.stop_order_type == "TrailingStop" and self._position(each) is position:
                self._exchange.end(
                    each, "Cancelled", now_ms, cancel_type="CancelByTpSlTsClear", reject_reason="EC_NoError"
                )
        if distance:
            trigger = ZERO
            order = self._exit_order(
                account.user, position, "TrailingStop", "sl", trigger, "LastPrice", position.quantity, ZERO, now_ms
            )
            order.whole_position, order.trailing, order.active_price = True, distance, active
            if not active:
                self._follow(order, market.last_price)
            self._exchange.enter_exit(order)
        position.trailing_stop, position.active_price = distance, active
        return True

    def _position(self, order: SimulatedOrder) -> SimulatedPosition:
        return self._exchange.accounts[order.user].position(order.symbol, order.position_index)
