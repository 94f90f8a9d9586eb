"""What an account owes when losses took its USDT below zero: interest, the sale of its other coins, and who pays the
rest."""

from __future__ import annotations

from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING

from trading.simulator.accounts import SETTLE_COIN, SimulatedAccount
from trading.simulator.collateral import HOURLY_BORROW_RATE, TIERS
from trading.simulator.ledger import EMPTY_EXECUTION
from trading.simulator.markets import FEES
from trading.simulator.orders import ZERO

if TYPE_CHECKING:
    from trading.simulator.exchange import Exchange

HOUR_MS = 3_600_000
CONVERSION_FEE = FEES["spot"][0]
COIN_STEP = Decimal("1e-8")


class Borrowing:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def charge_interest(self, now_ms: int) -> None:
        """One hour's interest, of everybody who borrows; the market's own account is who lends."""
        for account in self._exchange.accounts.values():
            interest = account.interest_bearing * HOURLY_BORROW_RATE
            if interest:
                account.pay(SETTLE_COIN, -interest)
                self._exchange.ledger.background[SETTLE_COIN] += interest
                self._record(account, "INTEREST", SETTLE_COIN, cash_flow=-interest, now_ms=now_ms)
                self._exchange.margin.watch(account, now_ms)

    def repay(self, account: SimulatedAccount, most: Decimal, now_ms: int) -> None:
        """Sell other coins, those that count for most first, until no more than ``most`` is borrowed."""
        coins = [coin for coin, amount in account.wallets.items() if coin != SETTLE_COIN and amount > 0]
        for coin in sorted(coins, key=lambda each: TIERS[each][0].ratio if each in TIERS else ZERO, reverse=True):
            owed, price = account.borrowed - most, self._exchange.index_price(coin)
            if owed <= 0:
                return
            if price > 0:
                needed = (owed / (price * (1 - CONVERSION_FEE))).quantize(COIN_STEP, rounding=ROUND_UP)
                self._sell(account, coin, min(account.wallets[coin], needed), price, now_ms)

    def forgive(self, account: SimulatedAccount, now_ms: int) -> None:
        """The insurance fund pays what an account without positions and coins still owes, as far as it can."""
        ledger = self._exchange.ledger
        paid = min(-account.balance, ledger.insurance[SETTLE_COIN])
        if paid > 0:
            account.pay(SETTLE_COIN, paid)
            ledger.insurance[SETTLE_COIN] -= paid
            self._record(account, "LIQUIDATION", SETTLE_COIN, cash_flow=paid, now_ms=now_ms)

    def _sell(self, account: SimulatedAccount, coin: str, amount: Decimal, price: Decimal, now_ms: int) -> None:
        """To the market's own account at the index price, for the fee of a taker in spot."""
        ledger, value = self._exchange.ledger, amount * price
        fee = value * CONVERSION_FEE
        for name, change in ((coin, -amount), (SETTLE_COIN, value)):
            account.pay(name, change)
            ledger.background[name] -= change
        account.pay(SETTLE_COIN, -fee)
        ledger.fees[SETTLE_COIN] += fee
        self._record(account, "CURRENCY_SELL", coin, cash_flow=-amount, now_ms=now_ms)
        self._record(account, "CURRENCY_BUY", SETTLE_COIN, cash_flow=value, fee=fee, now_ms=now_ms)

    def _record(
        self,
        account: SimulatedAccount,
        kind: str,
        coin: str,
        *,
        cash_flow: Decimal,
        fee: Decimal = ZERO,
        now_ms: int,
    ) -> None:
        row = {
            **EMPTY_EXECUTION,
            "symbol": "",
            "category": "",
            "side": "None",
            "execQty": "0",
            "execPrice": "0",
            "execId": "",
            "execTime": str(now_ms),
            "feeRate": "0",
            "execType": kind,
        }
        self._exchange.ledger.record(account, row, coin, cash_flow=cash_flow, fee=fee, size=ZERO)
        self._exchange.tell_wallet(account.user)


class InterestSchedule:
    """Charges interest at each full hour in which the exchange runs."""

    def __init__(self, exchange: Exchange, now_ms: int) -> None:
        self._exchange, self._hour = exchange, now_ms // HOUR_MS

    def settle(self, now_ms: int) -> None:
        if now_ms // HOUR_MS != self._hour:
            self._hour = now_ms // HOUR_MS
            self._exchange.borrowing.charge_interest(now_ms)
