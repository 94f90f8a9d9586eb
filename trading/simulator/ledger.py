"""Where the money goes: wallets, positions, fees, the insurance fund, and what the background owes and holds.

Every amount that leaves one of them enters another, so for every coin the sum of all is constant, at any mark price.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from trading.positions import funding_payment, trade_fee
from trading.simulator.accounts import SETTLE_COIN, SimulatedAccount
from trading.simulator.markets import Market
from trading.simulator.orders import ZERO, SimulatedOrder
from trading.simulator.positions import SimulatedPosition

if TYPE_CHECKING:
    from trading.simulator.exchange import Exchange


class Ledger:
    """``fees`` by coin; ``background`` and ``insurance`` hold coins, and contracts by symbol (short: below zero)."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.fees: dict[str, Decimal] = defaultdict(Decimal)
        self.background: dict[str, Decimal] = defaultdict(Decimal)
        self.background_contracts: dict[str, Decimal] = defaultdict(Decimal)
        self.insurance: dict[str, Decimal] = defaultdict(Decimal)
        self.insurance_contracts: dict[str, Decimal] = defaultdict(Decimal)

    def total(self, coin: str) -> Decimal:
        """Everything there is of a coin; contracts count at their mark prices."""
        total = self.fees[coin] + self.background[coin] + self.insurance[coin]
        for account in self._exchange.accounts.values():
            total += account.wallets.get(coin, ZERO)
            if coin == SETTLE_COIN:
                total += account.unrealised
        if coin == SETTLE_COIN:
            for contracts in (self.background_contracts, self.insurance_contracts):
                for symbol, quantity in contracts.items():
                    market = self._exchange.markets[symbol]
                    total += quantity * (market.mark_price or market.last_price)
        return total

    def move_background(self, market: Market, user_side: str, tick: int, lots: int) -> None:
        """The background's half of a trade with a user."""
        price, quantity = market.grids.prices.value(tick), market.grids.quantities.value(lots)
        self.settle_background(market, user_side, price, quantity)

    def settle_background(self, market: Market, user_side: str, price: Decimal, quantity: Decimal) -> None:
        """The background's half of a trade at any price."""
        signed = quantity if user_side == "Buy" else -quantity
        self.background[SETTLE_COIN] += signed * price
        if market.category == "spot":
            self.background[market.rules.base_coin] -= signed
        else:
            self.background_contracts[market.symbol] -= signed

    def insure(self, market: Market, side: str, price: Decimal, quantity: Decimal) -> None:
        """The insurance fund buys or sells contracts."""
        signed = quantity if side == "Buy" else -quantity
        self.insurance[SETTLE_COIN] -= signed * price
        self.insurance_contracts[market.symbol] += signed

    def book_fill(
        self,
        market: Market,
        order: SimulatedOrder,
        price: Decimal,
        quantity: Decimal,
        rate: Decimal,
        *,
        is_maker: bool,
        now_ms: int,
        execution_type: str = "Trade",
    ) -> None:
        """One execution of a contract: the position, the realised PnL, the fee, and all records of it."""
        account = self._exchange.accounts[order.user]
        fee = trade_fee(price, quantity, rate)
        position = account.position(market.symbol, order.position_index)
        position.mark_price = market.mark_price or price
        entry_price = position.entry_price
        realised, closed = position.apply(order.side, quantity, price, now_ms)
        position.sequence = market.sequence
        account.pay(SETTLE_COIN, realised - fee)
        account.realised += realised
        self.fees[SETTLE_COIN] += fee
        order.fees += fee
        order.fee_currency = SETTLE_COIN
        order.closed_pnl += realised
        row = self._execution(market, order, price, quantity, fee, rate, is_maker=is_maker, now_ms=now_ms)
        row |= {"closedSize": f"{closed:f}", "execPnl": text(realised), "execType": execution_type}
        self._keep(account, row)
        self.record(account, row, SETTLE_COIN, cash_flow=realised, fee=fee, size=position.quantity)
        if closed:
            self._closed_pnl(account, row, order, position, entry_price, closed, realised)
        self._exchange.tell_position(order.user, market.symbol, order.position_index)

    def book_spot_fill(
        self,
        market: Market,
        order: SimulatedOrder,
        price: Decimal,
        quantity: Decimal,
        rate: Decimal,
        *,
        is_maker: bool,
        now_ms: int,
    ) -> None:
        """One spot execution; the fee is taken from what is received. A maker with a negative rate is paid in the coin
        that he gives (https://bybit-exchange.github.io/docs/v5/enum#spot-fee-currency-instruction)."""
        account, base = self._exchange.accounts[order.user], market.rules.base_coin
        value = price * quantity
        coins = {SETTLE_COIN: -value, base: quantity} if order.side == "Buy" else {SETTLE_COIN: value, base: -quantity}
        fee_coin = base if (order.side == "Buy") == (rate >= 0) else SETTLE_COIN
        fee = abs(coins[fee_coin]) * rate
        self.fees[fee_coin] += fee
        order.fees += fee
        order.fee_currency = fee_coin
        row = self._execution(market, order, price, quantity, fee, rate, is_maker=is_maker, now_ms=now_ms)
        row["feeCurrency"] = fee_coin
        self._keep(account, row)
        for coin, amount in coins.items():
            charged = fee if coin == fee_coin else ZERO
            account.pay(coin, amount - charged)
            self.record(account, row, coin, cash_flow=amount, fee=charged, size=ZERO)
        self._exchange.tell_wallet(order.user)

    def pay_funding(self, market: Market, account: SimulatedAccount, position: SimulatedPosition, now_ms: int) -> None:
        """One funding payment: longs pay the rate on the value at the mark price, shorts receive it."""
        price = market.mark_price or position.entry_price
        value = position.quantity * price
        payment = funding_payment(position.side, position.quantity, price, market.funding_rate)
        account.pay(SETTLE_COIN, -payment)
        position.realised -= payment
        position.realised_now -= payment
        self.background[SETTLE_COIN] += payment
        row = {
            **EMPTY_EXECUTION,
            "category": market.category,
            "symbol": market.symbol,
            "side": position.side,
            "leavesQty": "0",
            "execId": self._exchange.new_id(),
            "execPrice": f"{market.mark_price:f}",
            "execQty": f"{position.quantity:f}",
            "execValue": text(value),
            "execFee": text(payment),
            "feeCurrency": SETTLE_COIN,
            "feeRate": f"{market.funding_rate:f}",
            "markPrice": f"{market.mark_price:f}",
            "execType": "Funding",
            "execTime": str(now_ms),
            "seq": market.sequence,
        }
        self._keep(account, row)
        self.record(account, row, SETTLE_COIN, cash_flow=ZERO, fee=ZERO, size=position.quantity, funding=-payment)
        self._exchange.tell_position(account.user, market.symbol, position.index)

    def transfer(
        self, account: SimulatedAccount, coin: str, amount: Decimal, now_ms: int, *, told: bool = True
    ) -> None:
        """Money that comes from outside, or goes there; ``told``: it is in the transaction log."""
        account.pay(coin, amount)
        self.background[coin] -= amount
        if told:
            row = {**EMPTY_EXECUTION, "symbol": "", "category": "", "side": "None", "execQty": "0", "execPrice": "0"}
            kind = "TRANSFER_IN" if amount > 0 else "TRANSFER_OUT"
            row |= {"execId": "", "execTime": str(now_ms), "feeRate": "0", "execType": kind}
            self.record(account, row, coin, cash_flow=amount, fee=ZERO, size=ZERO)
        self._exchange.tell_wallet(account.user)

    def _execution(
        self,
        market: Market,
        order: SimulatedOrder,
        price: Decimal,
        quantity: Decimal,
        fee: Decimal,
        rate: Decimal,
        *,
        is_maker: bool,
        now_ms: int,
    ) -> dict[str, Any]:
        return {
            **EMPTY_EXECUTION,
            "category": market.category,
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
            "execId": self._exchange.new_id(),
            "execPrice": f"{price:f}",
            "execQty": f"{quantity:f}",
            "execValue": text(price * quantity),
            "execFee": text(fee),
            "feeCurrency": SETTLE_COIN,
            "feeRate": f"{rate:f}",
            "markPrice": f"{market.mark_price:f}",
            "execType": "Trade",
            "execTime": str(now_ms),
            "isMaker": is_maker,
            "seq": market.sequence,
            "marketUnit": order.market_unit,
        }

    def _keep(self, account: SimulatedAccount, row: dict[str, Any]) -> None:
        account.executions.append(row)
        self._exchange.dirty.add(account.user)
        # The same row, but for the extra fees: a text over REST, a list on the stream.
        self._exchange.outbox.append((account.user, "execution", {**row, "extraFees": []}))

    def record(
        self,
        account: SimulatedAccount,
        execution: dict[str, Any],
        coin: str,
        *,
        cash_flow: Decimal,
        fee: Decimal,
        size: Decimal,
        funding: Decimal | None = None,
    ) -> None:
        """A row of the transaction log: ``change = cashFlow + funding - fee``. ``execution`` says when and why."""
        change = cash_flow + (funding or ZERO) - fee
        account.transactions.append(
            {
                "id": f"{account.user}_{execution['symbol']}_{len(account.transactions)}",
                "symbol": execution["symbol"],
                "category": execution["category"],
                "side": execution["side"],
                "transactionTime": execution["execTime"],
                "type": TRANSACTION_TYPES.get(execution["execType"], execution["execType"]),
                "transSubType": "",
                "qty": execution["execQty"],
                "size": f"{size:f}",
                "currency": coin,
                "tradePrice": execution["execPrice"],
                "funding": "" if funding is None else text(funding),
                "fee": text(fee),
                "cashFlow": text(cash_flow),
                "change": text(change),
                "cashBalance": text(account.wallets.get(coin, ZERO)),
                "feeRate": execution["feeRate"],
                "bonusChange": "",
                "tradeId": execution["execId"],
                "orderId": execution["orderId"],
                "orderLinkId": execution["orderLinkId"],
                "extraFees": "",
            }
        )

    def _closed_pnl(
        self,
        account: SimulatedAccount,
        execution: dict[str, Any],
        order: SimulatedOrder,
        position: SimulatedPosition,
        entry_price: Decimal,
        closed: Decimal,
        realised: Decimal,
    ) -> None:
        """One record for each order that closed something; further fills add to it."""
        known, price, time = (
            account.closed_pnl.get(order.order_id),
            Decimal(execution["execPrice"]),
            execution["execTime"],
        )
        size, entry, exit_value, profit, fills = closed, closed * entry_price, closed * price, realised, 1
        if known is not None:
            size += Decimal(known["closedSize"])
            entry += Decimal(known["cumEntryValue"])
            exit_value += Decimal(known["cumExitValue"])
            profit += Decimal(known["closedPnl"])
            fills += int(known["fillCount"])
        account.closed_pnl[order.order_id] = {
            "symbol": order.symbol,
            "orderType": order.order_type,
            "leverage": f"{position.leverage:f}",
            "updatedTime": time,
            "side": order.side,
            "orderId": order.order_id,
            "closedPnl": text(profit),
            "avgEntryPrice": text((entry / size).quantize(Decimal("1e-8"))),
            "qty": f"{order.quantity:f}",
            "cumEntryValue": text(entry),
            "createdTime": known["createdTime"] if known else time,
            "orderPrice": f"{order.price:f}",
            "closedSize": f"{size:f}",
            "avgExitPrice": text((exit_value / size).quantize(Decimal("1e-8"))),
            "execType": execution["execType"],
            "fillCount": str(fills),
            "cumExitValue": text(exit_value),
            "openFee": "",
            "closeFee": "",
        }


TRANSACTION_TYPES = {"Trade": "TRADE", "Funding": "SETTLEMENT", "BustTrade": "LIQUIDATION", "AdlTrade": "ADL"}
EMPTY_EXECUTION: dict[str, Any] = {
    "orderId": "",
    "orderLinkId": "",
    "orderPrice": "0",
    "orderQty": "0",
    "createType": "",
    "orderType": "UNKNOWN",
    "stopOrderType": "UNKNOWN",
    "tradeIv": "",
    "markIv": "",
    "indexPrice": "",
    "underlyingPrice": "",
    "blockTradeId": "",
    "closedSize": "",
    "execPnl": "",
    "isLeverage": "0",
    "isMaker": False,
    "marketUnit": "",
    "extraFees": "",
}


def text(number: Decimal) -> str:
    """A plain decimal without trailing zeros."""
    return f"{number.normalize():f}"
