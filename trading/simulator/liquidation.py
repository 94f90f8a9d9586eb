"""What happens to a position that its account cannot bear any more.

The insurance fund takes it over at its bankruptcy price and sells it: first to whoever pays that price or better, then
at worse prices as far as the fund can pay the difference. What is left is closed against the opposite positions first
in the queue of auto-deleveraging, at the bankruptcy price. When nobody stands opposite who can bear that, the market's
own account takes the rest, again at the bankruptcy price. So the fund never goes below zero and keeps no contracts.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from trading.simulator import deleveraging
from trading.simulator.accounts import SETTLE_COIN, SimulatedAccount
from trading.simulator.book import Front
from trading.simulator.markets import Liquidation, Market
from trading.simulator.orders import SimulatedOrder
from trading.simulator.positions import SimulatedPosition

if TYPE_CHECKING:
    from trading.simulator.exchange import Exchange

TAKEN_OVER, DELEVERAGED = "CreateByTakeOver_PassThrough", "CreateByAdl_PassThrough"


class TakeOver:
    """The end of one position. ``price`` is its bankruptcy price, ``lots`` what is still to be sold."""

    def __init__(self, exchange: Exchange, account: SimulatedAccount, position: SimulatedPosition) -> None:
        self._exchange, self._account, self._position = exchange, account, position
        self._market: Market = exchange.market(position.symbol)
        self._side, self._exit_side = position.side, position.exit_side
        self._price = bankruptcy_price(account, position, self._market)
        self._lots = self._market.grids.quantities.units(f"{position.quantity:f}")

    def run(self, now_ms: int) -> None:
        self._take(now_ms)
        self._sell(now_ms)
        if self._lots:
            self._deleverage(now_ms)
        if self._lots:
            self._leave_to_the_market()

    def _take(self, now_ms: int) -> None:
        exchange, position, quantity = self._exchange, self._position, self._position.quantity
        position.status = "Liq"
        exchange.tell_position(self._account.user, position.symbol, position.index)
        position.status = "Normal"
        order = self._closing_order(self._account, position, quantity, TAKEN_OVER, now_ms)
        exchange.ledger.book_fill(
            self._market,
            order,
            self._price,
            quantity,
            self._market.taker_fee,
            is_maker=False,
            now_ms=now_ms,
            execution_type="BustTrade",
        )
        exchange.ledger.insure(self._market, self._side, self._price, quantity)
        exchange.tell_order(order)
        exchange.liquidations.append(Liquidation(self._market.symbol, self._side, quantity, self._price, now_ms))

    def _sell(self, now_ms: int) -> None:
        """Into the book, while a price is not below the bankruptcy price or the fund can pay what it is."""
        opposite, exchange = self._market.book.opposite(self._exit_side), self._exchange
        while self._lots and (front := opposite.front(None)) is not None:
            traded = min(self._lots, front.lots, self._affordable_lots(front))
            if traded <= 0:
                break
            opposite.shrink(front.tick, front.handle, traded)
            self._lots -= traded
            price, quantity = self._values(front.tick, traded)
            exchange.public_trade(self._market, self._exit_side, front.tick, traded, now_ms)
            exchange.ledger.insure(self._market, self._exit_side, price, quantity)
            if front.order is not None:
                exchange.fill_maker(self._market, front.order, front.tick, traded, now_ms)
            else:
                exchange.ledger.move_background(self._market, self._exit_side, front.tick, traded)
        self._market.book.changed = True

    def _affordable_lots(self, front: Front) -> int:
        price, quantity = self._values(front.tick, 1)
        loss = (self._price - price) * quantity * (1 if self._side == "Buy" else -1)
        if loss <= 0:
            return front.lots
        return int((self._fund() / loss).to_integral_value(rounding=ROUND_DOWN))

    def _fund(self) -> Decimal:
        """What the fund has, its contracts counted at the price at which the rest of them can be handed on."""
        ledger = self._exchange.ledger
        return ledger.insurance[SETTLE_COIN] + ledger.insurance_contracts[self._market.symbol] * self._price

    def _deleverage(self, now_ms: int) -> None:
        # Ranked before anything is closed: a fill must not move the queue that it comes from.
        for account, position in deleveraging.queue(
            self._exchange.accounts.values(), self._market.symbol, self._exit_side
        ):
            if self._lots and account is not self._account and self._can_bear(account, position):
                self._close_opposite(account, position, now_ms)

    def _can_bear(self, account: SimulatedAccount, position: SimulatedPosition) -> bool:
        """Closing somebody must not make a second bankrupt."""
        quantity = min(position.quantity, self._market.grids.quantities.value(self._lots))
        worse = (position.mark_price - self._price) * quantity * (1 if position.side == "Buy" else -1)
        return account.margin_balance - max(worse, Decimal(0)) > self._price * quantity * self._market.maker_fee

    def _close_opposite(self, account: SimulatedAccount, position: SimulatedPosition, now_ms: int) -> None:
        exchange, ledger = self._exchange, self._exchange.ledger
        quantity = min(position.quantity, self._market.grids.quantities.value(self._lots))
        self._lots -= self._market.grids.quantities.units(f"{quantity:f}")
        position.status = "Adl"
        exchange.tell_position(account.user, position.symbol, position.index)
        for order in account.open_orders(position.symbol):
            if order.position_index == position.index and order.status != "Untriggered":
                exchange.end(order, "Cancelled", now_ms, cancel_type="CancelByPrepareAdl", reject_reason="EC_NoError")
        position.status = "Normal"
        order = self._closing_order(account, position, quantity, DELEVERAGED, now_ms)
        ledger.insure(self._market, self._exit_side, self._price, quantity)
        ledger.book_fill(
            self._market,
            order,
            self._price,
            quantity,
            self._market.maker_fee,
            is_maker=True,
            now_ms=now_ms,
            execution_type="AdlTrade",
        )
        exchange.tell_order(order)
        exchange.exits.after_fill(order, quantity, now_ms)

    def _leave_to_the_market(self) -> None:
        """The background flow is a market without limits; it has no account that could be ruined."""
        quantity = self._market.grids.quantities.value(self._lots)
        ledger = self._exchange.ledger
        ledger.insure(self._market, self._exit_side, self._price, quantity)
        ledger.settle_background(self._market, self._exit_side, self._price, quantity)
        self._lots = 0

    def _closing_order(
        self, account: SimulatedAccount, position: SimulatedPosition, quantity: Decimal, create_type: str, now_ms: int
    ) -> SimulatedOrder:
        """An order of the exchange that is filled already."""
        order = SimulatedOrder(
            order_id=self._exchange.new_id(),
            link_id="",
            user=account.user,
            symbol=self._market.symbol,
            side=position.exit_side,
            order_type="Market",
            time_in_force="IOC",
            quantity=quantity,
            price=self._price,
            tick=None,
            lots=self._market.grids.quantities.units(f"{quantity:f}"),
            reduce_only=True,
            created_ms=now_ms,
            position_index=position.index,
            create_type=create_type,
            status="Filled",
            filled=quantity,
            filled_value=self._price * quantity,
            last_price_on_created=self._market.last_price,
            updated_ms=now_ms,
        )
        account.orders[order.order_id] = order
        return order

    def _values(self, tick: int, lots: int) -> tuple[Decimal, Decimal]:
        grids = self._market.grids
        return grids.prices.value(tick), grids.quantities.value(lots)


def bankruptcy_price(account: SimulatedAccount, position: SimulatedPosition, market: Market) -> Decimal:
    """Where closing the position, fee included, leaves the account with no margin; on the price grid, rounded so that
    it is not left with less."""
    mark, quantity, equity = position.mark_price, position.quantity, account.margin_balance
    if position.side == "Buy":
        exact, rounding = (mark * quantity - equity) / (quantity * (1 - market.taker_fee)), ROUND_CEILING
    else:
        exact, rounding = (mark * quantity + equity) / (quantity * (1 + market.taker_fee)), ROUND_FLOOR
    tick = market.rules.tick_size
    return max(tick, (exact / tick).to_integral_value(rounding=rounding) * tick)
