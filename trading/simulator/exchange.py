"""The exchange itself: takes orders as Bybit does, matches them by price and time, and books what came of it.

Synchronous and single-threaded: one call is one instant. Whoever calls passes the time and afterwards collects the
private messages from ``outbox``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_DOWN, Decimal
from typing import Any

from trading.simulator import deleveraging
from trading.simulator import order_checks as checks
from trading.simulator.accounts import (
    SETTLE_COIN,
    SimulatedAccount,
)
from trading.simulator.book import Front
from trading.simulator.borrowing import Borrowing
from trading.simulator.collateral import ALWAYS_ON, TIERS, Collateral
from trading.simulator.errors import ApiError, parameter_error
from trading.simulator.exits import Exits
from trading.simulator.identifiers import Identifiers, named_id
from trading.simulator.keys import ApiKey
from trading.simulator.ledger import Ledger
from trading.simulator.margin import Margin
from trading.simulator.markets import Liquidation, Market, PublicTrade
from trading.simulator.order_prices import market_limit
from trading.simulator.orders import ZERO, SimulatedOrder
from trading.simulator.positions import SimulatedPosition


class Exchange:
    """``outbox`` collects ``(user, topic, row)`` for private streams, ``trades`` the public trades, ``liquidations``
    what was taken over, ``dirty`` the users whose state changed; the server empties them after each call.
    ``insurance`` is what the insurance fund begins with; identifiers follow from ``id_seed`` (None: from ``seed``)."""

    def __init__(
        self,
        markets: Mapping[str, Market],
        keys: Mapping[str, ApiKey],
        *,
        spot: Mapping[str, Market] | None = None,
        seed: int = 7,
        id_seed: int | str | None = None,
        insurance: Decimal = ZERO,
    ) -> None:
        self.markets, self.spot = dict(markets), dict(spot or {})
        self.collateral = Collateral(self.index_price)
        self.accounts: dict[str, SimulatedAccount] = {}
        for key in keys.values():
            self.open_account(key)
        self.outbox: list[tuple[str, str, dict[str, Any]]] = []
        self.trades: list[PublicTrade] = []
        # Trades of a recording: candles and the list of recent trades want them, the stream has them already.
        self.replayed: list[PublicTrade] = []
        self.liquidations: list[Liquidation] = []
        self.dirty: set[str] = set()
        self.changed_orders: dict[str, SimulatedOrder] = {}
        self.ledger = Ledger(self)
        self.ledger.insurance[SETTLE_COIN] = insurance
        self.exits = Exits(self)
        self.margin = Margin(self)
        self.borrowing = Borrowing(self)
        # Why nothing may trade in a symbol now; a market that comes from elsewhere may be away.
        self.refusal: Callable[[str], str] = lambda symbol: ""
        self._seed = seed
        # The next identifier of an order or an execution.
        self.new_id = Identifiers(seed if id_seed is None else id_seed)

    def open_account(self, key: ApiKey) -> SimulatedAccount:
        """An account for one more user."""
        account = SimulatedAccount(key.user, {SETTLE_COIN: key.balance, **key.coins}, self.collateral)
        self.accounts[key.user] = account
        return account

    # Requests of users.

    def create(self, user: str, request: Mapping[str, Any], now_ms: int, category: str = "linear") -> SimulatedOrder:
        """Accept one order; what happens to it follows in :attr:`outbox`. A reduce-only one that is larger than one may
        be becomes several, of which the first is returned and has the link id.

        Raises:
            ApiError: with Bybit's code and words; nothing was changed then.
        """
        market = self.market(str(request.get("symbol") or ""), category)
        self._require_trading(market.symbol)
        account = self.accounts[user]
        order = checks.order_of(account, market, request, now_ms, self.new_id())
        more = checks.split(market, order, self.new_id)
        self._begin(account, order, now_ms)
        for each in more:
            if each.status == "Untriggered" or account.position(order.symbol, order.position_index).quantity:
                self._begin(account, each, now_ms)
        return order

    def _require_trading(self, symbol: str) -> None:
        reason = self.refusal(symbol)
        if reason:
            raise ApiError(110066, f"Trading is currently not allowed: {reason}")

    def _begin(self, account: SimulatedAccount, order: SimulatedOrder, now_ms: int) -> None:
        self._enter(account, order)
        if order.status == "Untriggered":
            self.exits.watch(order)
            self.tell_order(order)
        else:
            self.work(order, now_ms)

    def cancel(self, user: str, request: Mapping[str, Any], now_ms: int, category: str = "linear") -> SimulatedOrder:
        order = self.find(user, request)
        if order is None or not order.is_open or order.category != category:
            if category == "spot":
                raise ApiError(170213, "Order does not exist.")
            raise ApiError(110001, "order not exists or too late to cancel")
        self.end(order, "Cancelled", now_ms, cancel_type="CancelByUser", reject_reason="EC_PerCancelRequest")
        return order

    def cancel_all(
        self, user: str, symbol: str | None, now_ms: int, category: str = "linear", which: str = ""
    ) -> list[SimulatedOrder]:
        """``which`` narrows to Order (working) or StopOrder (untriggered)."""
        orders = self.accounts[user].open_orders(symbol, category)
        if which:
            orders = [order for order in orders if (order.status == "Untriggered") == (which != "Order")]
        orders = orders[: checks.MAX_ACTIVE_ORDERS]
        for order in orders:
            self.end(order, "Cancelled", now_ms, cancel_type="CancelByUser", reject_reason="EC_PerCancelRequest")
        return orders

    def cancel_disconnected(self, user: str, now_ms: int, category: str) -> None:
        """End all open orders of a user who is gone for too long."""
        for order in self.accounts[user].open_orders(category=category):
            # The end of one can end others: the exits that wait for it.
            if order.is_open:
                self.end(order, "Cancelled", now_ms, cancel_type="CancelByDCP", reject_reason="EC_PerCancelRequest")

    def amend(self, user: str, request: Mapping[str, Any], now_ms: int, category: str = "linear") -> SimulatedOrder:
        """Change quantity, price, trigger or exits. Only a smaller quantity keeps an order's place in the queue."""
        order = self.find(user, request)
        if order is None or not order.is_open or order.category != category:
            if category == "spot":
                raise ApiError(170213, "Order does not exist.")
            raise ApiError(110001, "order not exists or too late to replace")
        market = self.market(order.symbol, category)
        self._require_trading(market.symbol)
        quantity, price = order.quantity, order.price
        if request.get("qty") not in (None, ""):
            quantity = checks.quantity_of(market, request["qty"], order.order_type)
        if request.get("price") not in (None, "") and order.order_type == "Limit":
            price = checks.price_of(market, "price", request["price"])
        if quantity <= order.filled and not order.whole_position:
            raise parameter_error("qty is not above what has been filled already")
        changed = self._amend_conditions(market, order, request)
        if (quantity, price) == (order.quantity, order.price):
            if not changed:
                raise parameter_error("The order remains unchanged as the parameters entered match the existing ones.")
            order.updated_ms = now_ms
            self.tell_order(order)
        else:
            self._replace(market, order, quantity, price, now_ms)
        return order

    def _amend_conditions(self, market: Market, order: SimulatedOrder, request: Mapping[str, Any]) -> bool:
        before = (order.trigger_price, order.take_profit, order.stop_loss)
        take_profit, stop_loss, trigger = order.take_profit, order.stop_loss, order.trigger_price
        if request.get("takeProfit") not in (None, ""):
            take_profit = checks.optional_price(market, "takeProfit", request)
        if request.get("stopLoss") not in (None, ""):
            stop_loss = checks.optional_price(market, "stopLoss", request)
        if request.get("triggerPrice") not in (None, "") and order.status == "Untriggered":
            trigger = checks.price_of(market, "triggerPrice", request["triggerPrice"])
        checks.check_exit_side(order.side, order.price or market.last_price, take_profit, stop_loss)
        order.trigger_price, order.take_profit, order.stop_loss = trigger, take_profit, stop_loss
        if order.status == "Untriggered" and trigger != before[0]:
            try:
                checks.check_trigger_side(market, order)
            except ApiError:
                order.trigger_price, order.take_profit, order.stop_loss = before
                raise
        return (trigger, take_profit, stop_loss) != before

    def _replace(self, market: Market, order: SimulatedOrder, quantity: Decimal, price: Decimal, now_ms: int) -> None:
        units, ticks = market.grids.quantities.units, market.grids.prices.units
        lots = units(f"{quantity:f}")
        keeps_place = price == order.price and quantity < order.quantity and order.entry is not None
        if keeps_place and order.entry is not None and order.tick is not None:
            market.book.side(order.side).shrink(order.tick, order.entry, order.lots - lots)
            market.book.changed = True
        else:
            self._afford_change(market, order, quantity, price)
            self.unrest(order)
        order.leaves_lots -= order.lots - lots
        order.quantity, order.price, order.lots = quantity, price, lots
        order.tick = ticks(f"{price:f}") if price else None
        order.updated_ms = now_ms
        if not keeps_place and order.status != "Untriggered":
            self._execute(market, order, now_ms)
        else:
            self.tell_order(order)

    def _afford_change(self, market: Market, order: SimulatedOrder, quantity: Decimal, price: Decimal) -> None:
        """A larger or dearer order needs what it needs beyond its old self."""
        account = self.accounts[order.user]
        if order.status == "Untriggered" or order.reduce_only:
            return
        if order.category == "spot":
            buys = order.side == "Buy"
            spent = (quantity - order.filled) * (price if buys else 1) - order.reserved
            if spent > account.spendable(SETTLE_COIN if buys else market.rules.base_coin):
                raise ApiError(170131, "Insufficient balance.")
            return
        before, after = order.leaves * order.price, (quantity - order.filled) * price
        leverage = account.position(order.symbol, order.position_index).leverage
        if (after - before) / leverage > account.available:
            raise ApiError(110007, "ab not enough for new order")

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
        number = checks.number("buyLeverage", leverage)
        if not 1 <= number <= market.rules.max_leverage:
            raise ApiError(110013, f"cannot set leverage [{number:f}] gt maxLeverage [{market.rules.max_leverage:f}]")
        account = self.accounts[user]
        positions = account.positions_of(symbol)
        if all(position.leverage == number for position in positions):
            raise ApiError(110043, "leverage not modified")
        more = sum((p.value / number - p.initial_margin for p in positions), ZERO)
        if more > account.available:
            raise ApiError(110044, "Insufficient available margin.")
        for position in positions:
            position.leverage = number
        self.dirty.add(user)

    def switch_mode(self, user: str, symbol: str, mode: int) -> None:
        """0: one position; 3: a long and a short one beside each other."""
        account = self.accounts[user]
        self.market(symbol)
        if (symbol in account.hedged) == (mode == 3):
            raise ApiError(110025, "Position mode is not modified")
        if any(position.quantity for position in account.positions.values() if position.symbol == symbol):
            raise ApiError(110024, "You have an existing position, so the position mode cannot be switched.")
        if account.open_orders(symbol):
            raise ApiError(110028, "You have existing open orders, so the position mode cannot be switched.")
        leverage = account.positions_of(symbol)[0].leverage
        (account.hedged.add if mode == 3 else account.hedged.discard)(symbol)
        for position in account.positions_of(symbol):
            position.leverage = leverage
        self.dirty.add(user)

    def set_trading_stop(self, user: str, request: Mapping[str, Any], now_ms: int) -> None:
        """Take-profit, stop-loss and trailing stop of a position; "0" removes one."""
        self.exits.set_for_position(user, request, now_ms)

    def market(self, symbol: str, category: str = "linear") -> Market:
        market = (self.markets if category == "linear" else self.spot).get(symbol)
        if market is None:
            if category == "spot":
                raise ApiError(170121, "Invalid symbol.")
            raise parameter_error("params error: symbol invalid " + symbol)
        return market

    def resume(self, order: SimulatedOrder, now_ms: int) -> None:
        """Put an open order of an earlier run back to work."""
        if order.status == "Untriggered":
            self.exits.watch(order)
            return
        market = self.market(order.symbol, order.category)
        self._execute(market, order, now_ms)

    def index_price(self, coin: str) -> Decimal:
        """A coin in USD, by the index of its contract or by its spot market; zero where it has neither."""
        if coin == SETTLE_COIN:
            return Decimal(1)
        contract = self.markets.get(f"{coin}{SETTLE_COIN}")
        if contract is not None:
            return contract.index_price or contract.mark_price or contract.last_price
        spot = self.spot.get(f"{coin}{SETTLE_COIN}")
        if spot is not None:
            return spot.last_price
        return Decimal(1) if coin in ALWAYS_ON else ZERO

    def switch_collateral(self, user: str, coin: str, *, is_on: bool) -> None:
        """Let a coin stand for margin or not.

        Raises:
            ApiError: 10001 for a coin that is no collateral or cannot be switched, 110044 when it is needed.
        """
        account = self.accounts[user]
        if coin not in TIERS or coin in ALWAYS_ON:
            raise parameter_error("params error: coin cannot be set as collateral")
        before = set(account.switched_off)
        (account.switched_off.discard if is_on else account.switched_off.add)(coin)
        if not is_on and account.margin_balance < account.initial_margin:
            account.switched_off = before
            raise ApiError(110044, "Insufficient available margin.")
        self.dirty.add(user)

    # The background's side of the market.

    def background_take(self, market: Market, side: str, lots: int, limit_tick: int | None, now_ms: int) -> int:
        """An anonymous taker; returns the lots that traded."""
        opposite, left = market.book.opposite(side), lots
        while left > 0:
            matches = opposite.take_background(left, limit_tick)
            for tick, traded in matches:
                left -= traded
                self.public_trade(market, side, tick, traded, now_ms)
            front = opposite.front(limit_tick) if left > 0 else None
            if front is not None and front.order is not None:
                traded = min(left, front.lots)
                left -= traded
                opposite.shrink(front.tick, front.handle, traded)
                self.public_trade(market, side, front.tick, traded, now_ms)
                self._fill_by_background(market, front.order, front.tick, traded, now_ms)
            elif not matches:
                break
        if left != lots:
            market.book.changed = True
            self.exits.look(market, now_ms)
        return lots - left

    def background_trade(self, market: Market, tick: int, lots: int, side: str, now_ms: int) -> None:
        """A recorded trade: it went through our orders at better prices, and at its own price it takes from the front
        of the queue, so that ours wait for what was recorded ahead of them.

        How much is left at its price the recording's book says, before the trade or after it: venues tell both, in any
        order. So what is taken ahead of ours comes back behind them, and goes from there when the book says so.
        """
        makers = market.book.opposite(side)
        for better in [each for each in makers.user_ticks() if (each - tick) * makers.sign < 0]:
            for resting in makers.queue(better):
                self._trade_resting(market, better, resting, resting.lots, now_ms)
        told = makers.background_at(tick)
        for resting in makers.queue(tick):
            taken = min(lots, resting.lots)
            if taken <= 0:
                break
            lots -= taken
            if resting.order is None:
                makers.shrink(tick, resting.handle, taken)
            else:
                self._trade_resting(market, tick, resting, taken, now_ms)
        makers.set_background(tick, told)

    def _trade_resting(self, market: Market, tick: int, resting: Front, lots: int, now_ms: int) -> None:
        order = resting.order
        # A fill can end other orders of its user: only what still rests trades.
        if order is not None and order.entry == resting.handle:
            market.book.side(order.side).shrink(tick, resting.handle, lots)
            self._fill_by_background(market, order, tick, lots, now_ms)

    def cross_resting(self, market: Market, now_ms: int) -> None:
        """After the recording moved the book: our orders that it now crosses trade at their own price, and what they
        took is gone until the recording speaks of that level again."""
        for name in ("Buy", "Sell"):
            mine, theirs = market.book.side(name), market.book.opposite(name)
            for tick in mine.user_ticks():
                if theirs.front(tick) is None:
                    break
                for resting in mine.queue(tick):
                    if resting.order is not None:
                        self._cross(market, tick, resting.order, resting.handle, now_ms)

    def _cross(self, market: Market, tick: int, order: SimulatedOrder, handle: int, now_ms: int) -> None:
        mine, theirs = market.book.side(order.side), market.book.opposite(order.side)
        while order.entry == handle and (front := theirs.front(tick)) is not None and front.order is None:
            lots = min(order.leaves_lots, front.lots)
            theirs.shrink(front.tick, front.handle, lots)
            mine.shrink(tick, handle, lots)
            self._fill_by_background(market, order, tick, lots, now_ms)

    def mark(self, market: Market, mark_price: Decimal, index_price: Decimal, now_ms: int) -> None:
        """A new mark price: unrealised PnL follows, triggers are looked at, and accounts that it ruins are closed."""
        market.mark_price, market.index_price = mark_price, index_price
        holders = []
        for account in self.accounts.values():
            held = False
            for index in (0, 1, 2):
                position = account.positions.get((market.symbol, index))
                if position is not None and position.quantity:
                    position.mark_price, held = mark_price, True
            if held or account.wallets.get(market.rules.base_coin):
                holders.append(account)
        # Not before everybody has the new price: who is closed down may take others with him.
        for account in holders:
            self.margin.watch(account, now_ms)
        self.exits.look(market, now_ms)

    # Inside.

    def _enter(self, account: SimulatedAccount, order: SimulatedOrder) -> None:
        account.orders[order.order_id] = order
        account.working[order.order_id] = order
        account.follow(order)
        if order.link_id:
            account.by_link[order.link_id] = order
        order.updated_ms = order.created_ms

    def enter_exit(self, order: SimulatedOrder) -> None:
        """An exit order that the exchange itself makes; it waits for its trigger."""
        self._enter(self.accounts[order.user], order)
        self.exits.watch(order)
        self.tell_order(order)

    def work(self, order: SimulatedOrder, now_ms: int) -> None:
        """Match an order now and let what is left rest."""
        market = self.market(order.symbol, order.category)
        if order.time_in_force == "PostOnly" and self._would_take(market, order):
            # Bybit cancels it; it does not reject it.
            self.end(order, "Cancelled", now_ms, reject_reason="EC_PostOnlyWillTakeLiquidity")
            return
        if order.time_in_force == "FOK" and market.book.opposite(order.side).available(order.tick) < order.leaves_lots:
            self.end(order, "Cancelled", now_ms, reject_reason="EC_NoImmediateQtyToFill")
            return
        if order.time_in_force in ("IOC", "FOK") or self._would_take(market, order):
            self.tell_order(order)
            self._execute(market, order, now_ms)
        else:
            self._rest_or_end(market, order, now_ms)

    def _would_take(self, market: Market, order: SimulatedOrder) -> bool:
        return order.tick is not None and market.book.opposite(order.side).front(order.tick) is not None

    def _execute(self, market: Market, order: SimulatedOrder, now_ms: int) -> None:
        traded = self._match(market, order, now_ms)
        self._rest_or_end(market, order, now_ms)
        # Not before the rest is on the book: an order that is triggered now must meet it.
        if traded:
            market.book.changed = True
            self.exits.look(market, now_ms)

    def _match(self, market: Market, order: SimulatedOrder, now_ms: int) -> bool:
        """Trade with what rests; whether anything did."""
        opposite = market.book.opposite(order.side)
        limit = order.tick if order.tick is not None else market_limit(market, order)
        traded = False
        while order.is_open and (front := opposite.front(limit)) is not None:
            if self._prevents_self_match(order, front.order, now_ms):
                continue
            lots = min(self._wanted_lots(market, order, front.tick), front.lots)
            if lots <= 0:
                break
            opposite.shrink(front.tick, front.handle, lots)
            traded = True
            self.public_trade(market, order.side, front.tick, lots, now_ms)
            if front.order is not None:
                self.fill_maker(market, front.order, front.tick, lots, now_ms)
            else:
                self.ledger.move_background(market, order.side, front.tick, lots)
            self._fill(market, order, front.tick, lots, is_maker=False, now_ms=now_ms)
        return traded

    def _wanted_lots(self, market: Market, order: SimulatedOrder, tick: int) -> int:
        if not order.quote_budget:
            return order.leaves_lots
        price = market.grids.prices.value(tick)
        affordable = (order.quote_budget - order.filled_value) / price / market.grids.quantities.step
        return int(affordable.to_integral_value(rounding=ROUND_DOWN))

    def _prevents_self_match(self, taker: SimulatedOrder, maker: SimulatedOrder | None, now_ms: int) -> bool:
        """The taker's type decides what becomes of two orders of one user that would meet."""
        if maker is None or maker.user != taker.user or taker.smp_type == "None":
            return False
        if taker.smp_type in ("CancelMaker", "CancelBoth"):
            maker.smp_order_id = taker.order_id
            self.end(maker, "Cancelled", now_ms, cancel_type="CancelBySmp", reject_reason="EC_BySelfMatch")
        if taker.smp_type in ("CancelTaker", "CancelBoth"):
            taker.smp_order_id = maker.order_id
            self.end(taker, "Cancelled", now_ms, cancel_type="CancelBySmp", reject_reason="EC_BySelfMatch")
        return True

    def _rest_or_end(self, market: Market, order: SimulatedOrder, now_ms: int) -> None:
        if not order.is_open:
            return
        if order.quote_budget:
            # What a budget could not buy is less than the smallest lot, or the book is empty.
            if order.filled:
                order.quantity = order.filled
                self._set_filled(order)
                self.tell_order(order)
                return
            self.end(order, "Cancelled", now_ms, reject_reason="EC_NoImmediateQtyToFill")
        elif order.time_in_force in ("IOC", "FOK"):
            self.end(order, "Cancelled", now_ms, reject_reason="EC_NoImmediateQtyToFill")
        elif order.tick is not None:
            order.entry = market.book.side(order.side).rest(order.tick, order.leaves_lots, order)
            market.book.changed = True
            self.tell_order(order)

    def public_trade(self, market: Market, side: str, tick: int, lots: int, now_ms: int) -> None:
        market.sequence += 1
        trade = self.trade_of(market, side, tick, lots, now_ms, market.sequence)
        market.last_price = trade.price
        self.trades.append(trade)

    def trade_of(self, market: Market, side: str, tick: int, lots: int, time_ms: int, sequence: int) -> PublicTrade:
        """A trade by its number in its market, which its id follows from: who asks for which trades changes none."""
        trade_id = named_id(f"{self._seed}/{market.category}/{market.symbol}/{sequence}")
        price, quantity = market.grids.prices.value(tick), market.grids.quantities.value(lots)
        return PublicTrade(market.symbol, price, quantity, side, time_ms, trade_id, sequence, market.category)

    def _fill_by_background(self, market: Market, order: SimulatedOrder, tick: int, lots: int, now_ms: int) -> None:
        self.ledger.move_background(market, order.side, tick, lots)
        self.fill_maker(market, order, tick, lots, now_ms)

    def fill_maker(self, market: Market, order: SimulatedOrder, tick: int, lots: int, now_ms: int) -> None:
        """Book what a taker took from a resting order, whose lots are off the book already."""
        self._fill(market, order, tick, lots, is_maker=True, now_ms=now_ms)

    def _fill(
        self, market: Market, order: SimulatedOrder, tick: int, lots: int, *, is_maker: bool, now_ms: int
    ) -> None:
        price, quantity = market.grids.prices.value(tick), market.grids.quantities.value(lots)
        if order.quote_budget:
            order.quantity += quantity
        else:
            order.leaves_lots -= lots
        order.filled += quantity
        order.filled_value += price * quantity
        order.updated_ms = now_ms
        order.status = "PartiallyFilled"
        if order.leaves_lots == 0 and not order.quote_budget:
            self._set_filled(order)
        self.accounts[order.user].follow(order)
        rate = market.maker_fee if is_maker else market.taker_fee
        if market.category == "spot":
            self.ledger.book_spot_fill(market, order, price, quantity, rate, is_maker=is_maker, now_ms=now_ms)
        else:
            self.ledger.book_fill(market, order, price, quantity, rate, is_maker=is_maker, now_ms=now_ms)
        self.tell_order(order)
        if market.category == "linear":
            self.exits.after_fill(order, quantity, now_ms)

    def _set_filled(self, order: SimulatedOrder) -> None:
        order.status, order.leaves_lots, order.entry = "Filled", 0, None
        self.accounts[order.user].working.pop(order.order_id, None)

    def end(
        self, order: SimulatedOrder, status: str, now_ms: int, *, reject_reason: str, cancel_type: str = "UNKNOWN"
    ) -> None:
        """Take an open order off the book and out of its account's work."""
        self.unrest(order)
        self.exits.forget(order)
        if order.category == "spot" and status == "Cancelled":
            if order.status == "Untriggered":
                status = "Deactivated"
            elif order.filled:
                status = "PartiallyFilledCanceled"
        order.status, order.updated_ms = status, now_ms
        order.reject_reason, order.cancel_type = reject_reason, cancel_type
        self.accounts[order.user].working.pop(order.order_id, None)
        self.tell_order(order)

    def unrest(self, order: SimulatedOrder) -> None:
        if order.entry is not None and order.tick is not None:
            market = self.market(order.symbol, order.category)
            market.book.side(order.side).cancel(order.tick, order.entry)
            market.book.changed = True
            order.entry = None

    def shrink(self, order: SimulatedOrder, quantity: Decimal, now_ms: int) -> None:
        """Make an open order smaller (a reduce-only one whose position shrank); it keeps its place."""
        market = self.market(order.symbol, order.category)
        lots = market.grids.quantities.units(f"{quantity:f}")
        if order.entry is not None and order.tick is not None:
            market.book.side(order.side).shrink(order.tick, order.entry, order.lots - lots)
            market.book.changed = True
        order.leaves_lots -= order.lots - lots
        order.quantity, order.lots, order.updated_ms = quantity, lots, now_ms
        self.tell_order(order)

    # Telling.

    def tell_order(self, order: SimulatedOrder) -> None:
        self.dirty.add(order.user)
        self.accounts[order.user].follow(order)
        self.changed_orders[order.order_id] = order
        self.outbox.append((order.user, "order", order.as_message()))

    def tell_position(self, user: str, symbol: str, index: int = 0) -> None:
        self.dirty.add(user)
        account = self.accounts[user]
        position = account.position(symbol, index)
        row = self.position_row(account, position, websocket=True)
        self.outbox.append((user, "position", {"category": "linear", **row}))
        self.tell_wallet(user)

    def position_row(
        self, account: SimulatedAccount, position: SimulatedPosition, *, websocket: bool = False
    ) -> dict[str, Any]:
        """The position object of REST, or of the private ``position`` topic."""
        adl_rank = deleveraging.lights(self.accounts.values(), account, position)
        return position.as_row(account.cushion(position), adl_rank, websocket=websocket)

    def tell_wallet(self, user: str) -> None:
        self.dirty.add(user)
        self.outbox.append((user, "wallet", self.accounts[user].wallet_row()))
