"""Cross margin: funding every interval, and liquidation of accounts whose equity no longer covers maintenance."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from trading.simulator.accounts import TAKER_FEE, SimulatedAccount
from trading.simulator.markets import Liquidation, Market
from trading.simulator.orders import SimulatedOrder
from trading.simulator.positions import SimulatedPosition

if TYPE_CHECKING:
    from trading.simulator.exchange import Exchange


class Margin:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._busy: set[str] = set()

    def pay_funding(self, market: Market, now_ms: int) -> None:
        """Every open position of a contract pays or receives once."""
        for account in self._exchange.accounts.values():
            for position in account.positions.values():
                if position.symbol == market.symbol and position.quantity:
                    self._exchange.ledger.pay_funding(market, account, position, now_ms)
            self.watch(account, now_ms)

    def watch(self, account: SimulatedAccount, now_ms: int) -> None:
        """Close an account down, position by position, while it cannot cover its maintenance margin."""
        if account.user in self._busy or not self._is_short(account):
            return
        self._busy.add(account.user)
        try:
            for order in list(account.open_orders()):
                self._exchange.end(
                    order, "Cancelled", now_ms, cancel_type="CancelAllBeforeLiq", reject_reason="EC_NoError"
                )
            while self._is_short(account):
                open_positions = [position for position in account.positions.values() if position.quantity]
                self._take_over(account, max(open_positions, key=lambda each: each.maintenance_margin), now_ms)
        finally:
            self._busy.discard(account.user)

    def _is_short(self, account: SimulatedAccount) -> bool:
        maintenance = account.maintenance_margin
        return maintenance > 0 and account.equity <= maintenance

    def _take_over(self, account: SimulatedAccount, position: SimulatedPosition, now_ms: int) -> None:
        """The insurance fund takes a position at its bankruptcy price and sells it into the market at once."""
        market = self._exchange.market(position.symbol)
        price, quantity, side = bankruptcy_price(account, position, market), position.quantity, position.side
        lots = market.grids.quantities.units(f"{quantity:f}")
        order = SimulatedOrder(
            order_id=self._exchange.new_id(),
            link_id="",
            user=account.user,
            symbol=market.symbol,
            side=position.exit_side,
            order_type="Market",
            time_in_force="IOC",
            quantity=quantity,
            price=price,
            tick=None,
            lots=lots,
            reduce_only=True,
            created_ms=now_ms,
            position_index=position.index,
            create_type="CreateByLiq",
            status="Filled",
            filled=quantity,
            filled_value=price * quantity,
            updated_ms=now_ms,
        )
        account.orders[order.order_id] = order
        ledger = self._exchange.ledger
        ledger.book_fill(
            market, order, price, quantity, TAKER_FEE, is_maker=False, now_ms=now_ms, execution_type="BustTrade"
        )
        ledger.insure(market, side, price, quantity)
        self._exchange.tell_order(order)
        self._exchange.liquidations.append(Liquidation(market.symbol, side, quantity, price, now_ms))
        self._sell_off(market, order.side, lots, now_ms)

    def _sell_off(self, market: Market, side: str, lots: int, now_ms: int) -> None:
        """What the book does not take stays with the fund."""
        opposite, exchange = market.book.opposite(side), self._exchange
        while lots > 0 and (front := opposite.front(None)) is not None:
            traded = min(lots, front.lots)
            opposite.shrink(front.tick, front.handle, traded)
            lots -= traded
            price, quantity = market.grids.prices.value(front.tick), market.grids.quantities.value(traded)
            exchange.public_trade(market, side, front.tick, traded, now_ms)
            exchange.ledger.insure(market, side, price, quantity)
            if front.order is not None:
                exchange.fill_maker(market, front.order, front.tick, traded, now_ms)
            else:
                exchange.ledger.move_background(market, side, front.tick, traded)
        market.book.changed = True


def bankruptcy_price(account: SimulatedAccount, position: SimulatedPosition, market: Market) -> Decimal:
    """Where closing the position, fee included, leaves the account with nothing; on the price grid, rounded so that it
    is not left with less."""
    mark, quantity, equity = position.mark_price, position.quantity, account.equity
    if position.side == "Buy":
        exact, rounding = (mark * quantity - equity) / (quantity * (1 - TAKER_FEE)), ROUND_CEILING
    else:
        exact, rounding = (mark * quantity + equity) / (quantity * (1 + TAKER_FEE)), ROUND_FLOOR
    tick = market.rules.tick_size
    return max(tick, (exact / tick).to_integral_value(rounding=rounding) * tick)
