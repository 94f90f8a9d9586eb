"""The exchange itself: checks an order as Bybit does, matches it by price and time, and books what came of it.

Synchronous and single-threaded: one call is one instant. Whoever calls passes the time and afterwards collects the
private messages from ``outbox``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from marketdata.engine.grid import GridError
from marketdata.instruments import InstrumentRules, rules_from_bybit
from trading.simulator.accounts import (
    MAKER_FEE,
    TAKER_FEE,
    ZERO,
    SimulatedAccount,
    SimulatedOrder,
)
from trading.simulator.book import Match, MatchingBook
from trading.simulator.errors import ApiError, parameter_error
from trading.simulator.instruments import Grids
from trading.simulator.keys import ApiKey

MAX_ACTIVE_ORDERS = 500
# How far a market order may run from the best price before its rest is cancelled.
SLIPPAGE = Decimal("0.05")
LINK_ID_LENGTH = 36
TIMES_IN_FORCE = ("GTC", "IOC", "FOK", "PostOnly")


@dataclass(slots=True)
class Market:
    """One instrument while it trades. ``ghost`` markets replay a recording: what takers eat there comes back with the
    recording's next word on the level."""

    rules: InstrumentRules
    listing: dict[str, Any]
    grids: Grids
    book: MatchingBook = field(default_factory=MatchingBook)
    last_price: Decimal = ZERO
    mark_price: Decimal = ZERO
    index_price: Decimal = ZERO
    sequence: int = 0

    @property
    def symbol(self) -> str:
        return self.rules.symbol


@dataclass(frozen=True, slots=True)
class PublicTrade:
    symbol: str
    price: Decimal
    quantity: Decimal
    side: str
    time_ms: int
    trade_id: str
    sequence: int


class Exchange:
    """``outbox`` collects ``(user, topic, row)`` for private streams, ``trades`` the public trades, ``dirty`` the
    users whose state changed; the server empties them after each call."""

    def __init__(self, markets: Mapping[str, Market], keys: Mapping[str, ApiKey]) -> None:
        self.markets = dict(markets)
        self.accounts = {user: SimulatedAccount(user, key.balance) for user, key in keys.items()}
        self.outbox: list[tuple[str, str, dict[str, Any]]] = []
        self.trades: list[PublicTrade] = []
        # Trades of a recording: candles and the list of recent trades want them, the stream has them already.
        self.replayed: list[PublicTrade] = []
        self.dirty: set[str] = set()
        self.changed_orders: dict[str, SimulatedOrder] = {}
        # Where the fees went: with it, the wallets and the background's side, money adds up.
        self.fees_collected = ZERO
        self.background_cash = ZERO
        self._execution_number = 0

    # Requests of users.

    def create(self, user: str, request: Mapping[str, Any], now_ms: int) -> SimulatedOrder:
        """Accept one order; what happens to it follows in :attr:`outbox`.

        Raises:
            ApiError: with Bybit's code and words; nothing was changed then.
        """
        order = self._validated(user, request, now_ms)
        account = self.accounts[user]
        account.orders[order.order_id] = order
        if order.link_id:
            account.by_link[order.link_id] = order
        self._work(account, order, now_ms)
        return order

    def cancel(self, user: str, request: Mapping[str, Any], now_ms: int) -> SimulatedOrder:
        order = self.find(user, request)
        if order is None:
            raise ApiError(110001, "order not exists or too late to cancel")
        if not order.is_open:
            raise ApiError(110001, "order not exists or too late to cancel")
        self._end(order, "Cancelled", now_ms, cancel_type="CancelByUser", reject_reason="EC_PerCancelRequest")
        return order

    def cancel_all(self, user: str, symbol: str | None, now_ms: int) -> list[SimulatedOrder]:
        orders = self.accounts[user].open_orders(symbol)[:MAX_ACTIVE_ORDERS]
        for order in orders:
            self._end(order, "Cancelled", now_ms, cancel_type="CancelByUser", reject_reason="EC_PerCancelRequest")
        return orders

    def amend(self, user: str, request: Mapping[str, Any], now_ms: int) -> SimulatedOrder:
        """Change quantity or price; the order loses its place in the queue."""
        order = self.find(user, request)
        if order is None or not order.is_open:
            raise ApiError(110001, "order not exists or too late to replace")
        market = self.markets[order.symbol]
        quantity = self._quantity(market, str(request["qty"])) if request.get("qty") else order.quantity
        price = self._price(market, str(request["price"])) if request.get("price") else order.price
        if quantity <= order.filled:
            raise parameter_error("qty is not above what has been filled already")
        self._unrest(market, order)
        order.quantity, order.price = quantity, price
        order.lots = market.grids.quantities.units(f"{quantity:f}")
        order.tick = market.grids.prices.units(f"{price:f}")
        order.leaves_lots = order.lots - market.grids.quantities.units(f"{order.filled:f}")
        order.updated_ms = now_ms
        self._match(market, order, now_ms)
        self._rest_or_end(market, order, now_ms)
        return order

    def find(self, user: str, request: Mapping[str, Any]) -> SimulatedOrder | None:
        """By ``orderId``, which wins, or by ``orderLinkId``."""
        account = self.accounts[user]
        if request.get("orderId"):
            return account.orders.get(str(request["orderId"]))
        if request.get("orderLinkId"):
            return account.by_link.get(str(request["orderLinkId"]))
        raise parameter_error("orderId or orderLinkId is required")

    def set_leverage(self, user: str, symbol: str, leverage: str) -> None:
        market = self.market(symbol)
        number = self._number("buyLeverage", leverage)
        if not 1 <= number <= market.rules.max_leverage:
            raise ApiError(110013, f"cannot set leverage [{number:f}] gt maxLeverage [{market.rules.max_leverage:f}]")
        position = self.accounts[user].position(symbol)
        if position.leverage == number:
            raise ApiError(110043, "leverage not modified")
        position.leverage = number
        self.dirty.add(user)

    def set_trading_stop(self, user: str, request: Mapping[str, Any]) -> None:
        """Full-position take-profit and stop-loss; "0" removes one."""
        market = self.market(str(request.get("symbol") or ""))
        position = self.accounts[user].position(market.symbol)
        if position.quantity == 0:
            raise parameter_error("can not set tp/sl/ts for zero position")
        for name, field_name in (("takeProfit", "take_profit"), ("stopLoss", "stop_loss")):
            if request.get(name) not in (None, ""):
                price = self._number(name, request[name])
                setattr(position, field_name, self._price(market, f"{price:f}") if price else ZERO)
        self._tell_position(user, market.symbol)

    def market(self, symbol: str) -> Market:
        market = self.markets.get(symbol)
        if market is None:
            raise parameter_error("params error: symbol invalid " + symbol)
        return market

    def resume(self, order: SimulatedOrder, now_ms: int) -> None:
        """Put an open order of an earlier run back to work."""
        market = self.markets[order.symbol]
        self._match(market, order, now_ms)
        self._rest_or_end(market, order, now_ms)

    # The background's side of the market.

    def background_take(self, market: Market, side: str, lots: int, limit_tick: int | None, now_ms: int) -> int:
        """An anonymous taker; returns the lots that traded."""
        matches = market.book.opposite(side).take(lots, limit_tick)
        self._book_matches(market, side, matches, None, now_ms)
        return sum(match.lots for match in matches)

    def background_trade(self, market: Market, tick: int, lots: int, side: str, now_ms: int) -> None:
        """A recorded trade at a price: it fills our orders that rest there or better."""
        maker_side = market.book.opposite(side)
        for match_tick in [t for t in maker_side.ticks() if (t - tick) * maker_side.sign <= 0]:
            level = maker_side.levels[match_tick]
            for entry in [e for e in level.entries if e.order is not None]:
                taken = min(lots, entry.lots)
                if taken <= 0:
                    return
                entry.lots -= taken
                level.lots -= taken
                lots -= taken
                if entry.lots == 0:
                    level.entries.remove(entry)
                self._maker_fill(market, entry.order, match_tick, taken, now_ms)
            if level.lots == 0:
                maker_side._drop(match_tick)

    def cross_resting(self, market: Market, now_ms: int) -> None:
        """After the recording moved the book: our orders that it now crosses trade at their own price."""
        for name in ("Buy", "Sell"):
            mine, theirs = market.book.side(name), market.book.opposite(name)
            for tick in list(mine.ticks()):
                if theirs.best is None or (tick - theirs.best) * mine.sign > 0:
                    break
                for entry in [e for e in mine.levels[tick].entries if e.order is not None]:
                    lots = min(entry.lots, theirs.available(tick))
                    if lots > 0:
                        entry.lots -= lots
                        mine.levels[tick].lots -= lots
                        if entry.lots == 0:
                            mine.levels[tick].entries.remove(entry)
                        self._maker_fill(market, entry.order, tick, lots, now_ms)
                if mine.levels[tick].lots == 0:
                    mine._drop(tick)

    def mark(self, market: Market, mark_price: Decimal, index_price: Decimal, now_ms: int) -> None:
        """A new mark price: unrealised PnL follows, and TP/SL of positions are looked at against the last price."""
        market.mark_price, market.index_price = mark_price, index_price
        for account in self.accounts.values():
            position = account.positions.get(market.symbol)
            if position is not None and position.quantity:
                position.mark_price = mark_price
                self._trigger(account, market, now_ms)

    # Inside.

    def _trigger(self, account: SimulatedAccount, market: Market, now_ms: int) -> None:
        position = account.positions[market.symbol]
        up = position.side == "Buy"
        last = market.last_price
        hit = ""
        if position.take_profit and (last >= position.take_profit if up else last <= position.take_profit):
            hit = "TakeProfit"
        elif position.stop_loss and (last <= position.stop_loss if up else last >= position.stop_loss):
            hit = "StopLoss"
        if not hit:
            return
        position.take_profit = position.stop_loss = ZERO
        order = self._new_order(
            account.user, market, "Sell" if up else "Buy", "Market", "IOC", position.quantity, ZERO, now_ms
        )
        order.reduce_only, order.stop_order_type, order.create_type = True, hit, f"CreateBy{hit}"
        account.orders[order.order_id] = order
        self._work(account, order, now_ms)

    def _validated(self, user: str, request: Mapping[str, Any], now_ms: int) -> SimulatedOrder:
        market = self.market(str(request.get("symbol") or ""))
        side, order_type = request.get("side"), request.get("orderType")
        if side not in ("Buy", "Sell"):
            raise parameter_error("params error: side invalid")
        if order_type not in ("Market", "Limit"):
            raise parameter_error("params error: orderType invalid")
        if request.get("positionIdx") not in (None, 0, "0"):
            raise ApiError(10001, "position idx not match position mode")
        time_in_force = "IOC" if order_type == "Market" else str(request.get("timeInForce") or "GTC")
        if time_in_force not in TIMES_IN_FORCE:
            raise parameter_error("params error: timeInForce invalid")
        account = self.accounts[user]
        link_id = str(request.get("orderLinkId") or "")
        if len(link_id) > LINK_ID_LENGTH or not all(c.isascii() and (c.isalnum() or c in "-_") for c in link_id):
            raise parameter_error("params error: orderLinkId invalid")
        if link_id in account.by_link:
            raise ApiError(110072, "OrderLinkedID is duplicate")
        quantity = self._quantity(market, str(request.get("qty") or ""))
        price = self._price(market, str(request.get("price") or "")) if order_type == "Limit" else ZERO
        reduce_only = request.get("reduceOnly") in (True, "true")
        order = self._new_order(user, market, side, order_type, time_in_force, quantity, price, now_ms)
        order.link_id, order.reduce_only = link_id, reduce_only
        order.take_profit, order.stop_loss = self._exits(market, request, reduce_only)
        self._afford(account, market, order)
        return order

    def _new_order(
        self,
        user: str,
        market: Market,
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
            user=user,
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
        )

    def _exits(self, market: Market, request: Mapping[str, Any], reduce_only: bool) -> tuple[Decimal, Decimal]:
        given = [request.get("takeProfit"), request.get("stopLoss")]
        if reduce_only and any(given):
            raise ApiError(10001, "params error: tp/sl is not supported for reduce-only orders")
        exits = [self._price(market, str(text)) if text not in (None, "", "0") else ZERO for text in given]
        return exits[0], exits[1]

    def _afford(self, account: SimulatedAccount, market: Market, order: SimulatedOrder) -> None:
        """The rules that need the account: caps, reduce-only, minimum notional, margin."""
        position = account.position(market.symbol)
        if order.reduce_only:
            if position.quantity == 0 or position.side == order.side:
                raise ApiError(110017, "current position is zero, cannot fix reduce-only order qty")
            order.quantity = min(order.quantity, position.quantity)
            order.lots = order.leaves_lots = market.grids.quantities.units(f"{order.quantity:f}")
            return
        if len(account.open_orders(market.symbol)) >= MAX_ACTIVE_ORDERS:
            raise ApiError(110020, "Not allowed to have more than 500 active orders")
        best = market.book.opposite(order.side).best
        price = order.price or (market.grids.prices.value(best) if best is not None else market.last_price)
        if order.quantity * price < market.rules.min_notional:
            raise ApiError(110094, f"Order does not meet minimum order value {market.rules.min_notional:f}USDT")
        opening = order.quantity
        if position.quantity and position.side != order.side:
            opening = max(ZERO, order.quantity - position.quantity)
        cost = opening * price * (1 / position.leverage + TAKER_FEE)
        if cost > account.available:
            raise ApiError(110007, "ab not enough for new order")

    def _quantity(self, market: Market, text: str) -> Decimal:
        quantity = self._number("qty", text)
        rules = market.rules
        if quantity % rules.lot_size or quantity < rules.min_quantity:
            raise ApiError(10001, f"Qty invalid: {text}; step {rules.lot_size:f}, minimum {rules.min_quantity:f}")
        if quantity > rules.max_quantity:
            raise ApiError(10001, f"The number of contracts exceeds maximum limit allowed: {rules.max_quantity:f}")
        return quantity

    def _price(self, market: Market, text: str) -> Decimal:
        price = self._number("price", text)
        try:
            market.grids.prices.units(f"{price:f}")
        except GridError:
            raise ApiError(10001, f"Price invalid: {text}; tick size {market.rules.tick_size:f}") from None
        if not market.rules.min_price <= price <= market.rules.max_price:
            raise ApiError(110003, "Order price exceeds the allowable range.")
        return price

    def _number(self, name: str, text: object) -> Decimal:
        try:
            number = Decimal(str(text))
        except InvalidOperation:
            raise parameter_error(f"params error: {name} invalid") from None
        if not number.is_finite() or number < 0:
            raise parameter_error(f"params error: {name} invalid")
        return number

    def _work(self, account: SimulatedAccount, order: SimulatedOrder, now_ms: int) -> None:
        market = self.markets[order.symbol]
        account.working[order.order_id] = order
        order.updated_ms = now_ms
        if order.time_in_force == "PostOnly" and self._would_take(market, order):
            # Bybit cancels it; it does not reject it.
            self._end(order, "Cancelled", now_ms, reject_reason="EC_PostOnlyWillTakeLiquidity")
            return
        if order.time_in_force == "FOK" and market.book.opposite(order.side).available(order.tick) < order.lots:
            self._end(order, "Cancelled", now_ms, reject_reason="EC_NoImmediateQtyToFill")
            return
        self._tell_order(order)
        self._match(market, order, now_ms)
        self._rest_or_end(market, order, now_ms)

    def _would_take(self, market: Market, order: SimulatedOrder) -> bool:
        best = market.book.opposite(order.side).best
        sign = market.book.opposite(order.side).sign
        return best is not None and order.tick is not None and (best - order.tick) * sign <= 0

    def _match(self, market: Market, order: SimulatedOrder, now_ms: int) -> None:
        opposite = market.book.opposite(order.side)
        limit = order.tick
        if limit is None and opposite.best is not None:
            distance = max(1, int(opposite.best * SLIPPAGE))
            limit = opposite.best + distance * opposite.sign
        matches = opposite.take(order.leaves_lots, limit)
        self._book_matches(market, order.side, matches, order, now_ms)

    def _rest_or_end(self, market: Market, order: SimulatedOrder, now_ms: int) -> None:
        if order.leaves_lots == 0:
            return
        if order.time_in_force in ("IOC", "FOK"):
            self._end(order, "Cancelled", now_ms, reject_reason="EC_NoImmediateQtyToFill")
            return
        if order.tick is not None:
            order.entry = market.book.side(order.side).rest(order.tick, order.leaves_lots, order)
            market.book.changed = True
            self._tell_order(order)

    def _book_matches(
        self, market: Market, side: str, matches: list[Match], taker: SimulatedOrder | None, now_ms: int
    ) -> None:
        if not matches:
            return
        market.book.changed = True
        market.sequence += 1
        for match in matches:
            price = market.grids.prices.value(match.tick)
            quantity = market.grids.quantities.value(match.lots)
            market.last_price = price
            self._execution_number += 1
            self.trades.append(
                PublicTrade(market.symbol, price, quantity, side, now_ms, str(uuid.uuid4()), market.sequence)
            )
            if taker is not None:
                self._fill(market, taker, price, match.lots, is_maker=False, now_ms=now_ms)
            if match.maker is not None:
                self._maker_fill(market, match.maker, match.tick, match.lots, now_ms)

    def _maker_fill(self, market: Market, order: SimulatedOrder, tick: int, lots: int, now_ms: int) -> None:
        self._fill(market, order, market.grids.prices.value(tick), lots, is_maker=True, now_ms=now_ms)

    def _fill(
        self, market: Market, order: SimulatedOrder, price: Decimal, lots: int, *, is_maker: bool, now_ms: int
    ) -> None:
        account = self.accounts[order.user]
        quantity = market.grids.quantities.value(lots)
        value = price * quantity
        rate = MAKER_FEE if is_maker else TAKER_FEE
        fee = value * rate
        order.leaves_lots -= lots
        order.filled += quantity
        order.filled_value += value
        order.fees += fee
        order.status = "Filled" if order.leaves_lots == 0 else "PartiallyFilled"
        order.updated_ms = now_ms
        position = account.position(market.symbol)
        realised, closed = position.apply(order.side, quantity, price, now_ms)
        position.mark_price = market.mark_price or price
        if position.quantity and (order.take_profit or order.stop_loss):
            position.take_profit, position.stop_loss = order.take_profit, order.stop_loss
        account.balance += realised - fee
        account.realised += realised
        self.fees_collected += fee
        self.background_cash -= realised
        if order.status == "Filled":
            account.working.pop(order.order_id, None)
            order.entry = None
        self._execution_number += 1
        row = {
            "category": "linear",
            "symbol": market.symbol,
            "orderId": order.order_id,
            "orderLinkId": order.link_id,
            "side": order.side,
            "orderPrice": f"{order.price:f}",
            "orderQty": f"{order.quantity:f}",
            "leavesQty": f"{order.leaves:f}",
            "createType": order.create_type,
            "orderType": order.order_type,
            "stopOrderType": order.stop_order_type or "UNKNOWN",
            "execId": str(uuid.uuid4()),
            "execPrice": f"{price:f}",
            "execQty": f"{quantity:f}",
            "execValue": f"{value.normalize():f}",
            "execFee": f"{fee.normalize():f}",
            "feeCurrency": "USDT",
            "feeRate": f"{rate:f}",
            "tradeIv": "",
            "markIv": "",
            "markPrice": f"{position.mark_price:f}",
            "indexPrice": "",
            "underlyingPrice": "",
            "blockTradeId": "",
            "closedSize": f"{closed:f}",
            "execPnl": f"{realised.normalize():f}",
            "execType": "Trade",
            "execTime": str(now_ms),
            "isLeverage": "0",
            "isMaker": is_maker,
            "seq": market.sequence,
        }
        account.executions.append(row)
        self.outbox.append((order.user, "execution", row))
        self._tell_order(order)
        self._tell_position(order.user, market.symbol)

    def _end(
        self, order: SimulatedOrder, status: str, now_ms: int, *, reject_reason: str, cancel_type: str = "UNKNOWN"
    ) -> None:
        self._unrest(self.markets[order.symbol], order)
        order.status, order.updated_ms = status, now_ms
        order.reject_reason, order.cancel_type = reject_reason, cancel_type
        self.accounts[order.user].working.pop(order.order_id, None)
        self._tell_order(order)

    def _unrest(self, market: Market, order: SimulatedOrder) -> None:
        if order.entry is not None and order.tick is not None:
            market.book.side(order.side).cancel(order.tick, order.entry)
            market.book.changed = True
            order.entry = None

    def _tell_order(self, order: SimulatedOrder) -> None:
        self.dirty.add(order.user)
        self.changed_orders[order.order_id] = order
        self.outbox.append((order.user, "order", {"category": "linear", "closedPnl": "0", **order.as_row()}))

    def _tell_position(self, user: str, symbol: str) -> None:
        self.dirty.add(user)
        account = self.accounts[user]
        row = account.position(symbol).as_row(account.balance, websocket=True)
        self.outbox.append((user, "position", {"category": "linear", **row}))
        self.outbox.append((user, "wallet", account.wallet_row()))


def market_of(listing: dict[str, Any]) -> Market:
    """A market from a row of ``instruments-info``."""
    rules = rules_from_bybit(listing, "linear")
    return Market(rules, listing, Grids.of(rules.tick_size, rules.lot_size))
