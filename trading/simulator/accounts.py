"""Users' money: the wallets of a unified account, its orders, positions and records, exact in Decimal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from trading.simulator.collateral import BORROW_INITIAL_RATE, BORROW_MAINTENANCE_RATE, TIERS, Collateral
from trading.simulator.orders import ZERO, SimulatedOrder
from trading.simulator.positions import SimulatedPosition

SETTLE_COIN = "USDT"
DCP_SECONDS = 10


@dataclass(slots=True)
class SimulatedAccount:
    """``wallets`` maps coins to amounts. USDT carries the margin and may go below zero, which is borrowed then; other
    coins stand for it, but for those ``switched_off``. ``hedged`` names the symbols in hedge mode. ``working`` holds
    open orders, untriggered ones included."""

    user: str
    wallets: dict[str, Decimal]
    collateral: Collateral
    switched_off: set[str] = field(default_factory=set)
    positions: dict[tuple[str, int], SimulatedPosition] = field(default_factory=dict)
    orders: dict[str, SimulatedOrder] = field(default_factory=dict)
    by_link: dict[str, SimulatedOrder] = field(default_factory=dict)
    working: dict[str, SimulatedOrder] = field(default_factory=dict)
    executions: list[dict[str, Any]] = field(default_factory=list)
    transactions: list[dict[str, Any]] = field(default_factory=list)
    closed_pnl: dict[str, dict[str, Any]] = field(default_factory=dict)
    hedged: set[str] = field(default_factory=set)
    # Sums over working orders, kept by follow(): values by position and coins of resting orders, orders by category,
    # symbol and whether they wait for a trigger.
    reserved: dict[tuple[str, int], Decimal] = field(default_factory=dict)
    locks: dict[str, Decimal] = field(default_factory=dict)
    counts: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    realised: Decimal = ZERO
    dcp_seconds: int = DCP_SECONDS

    @property
    def balance(self) -> Decimal:
        """The settlement coin's wallet."""
        return self.wallets.get(SETTLE_COIN, ZERO)

    def pay(self, coin: str, amount: Decimal) -> None:
        """Add an amount (negative: take it) to a wallet."""
        self.wallets[coin] = self.wallets.get(coin, ZERO) + amount

    def position(self, symbol: str, index: int = 0) -> SimulatedPosition:
        key = (symbol, index)
        found = self.positions.get(key)
        if found is None:
            leverages = [each.leverage for each in self.positions.values() if each.symbol == symbol]
            found = self.positions[key] = SimulatedPosition(symbol, index)
            if leverages:
                found.leverage = leverages[0]
        return found

    def positions_of(self, symbol: str) -> list[SimulatedPosition]:
        """One in one-way mode, two in hedge mode."""
        return [self.position(symbol, index) for index in ((1, 2) if symbol in self.hedged else (0,))]

    def open_orders(self, symbol: str | None = None, category: str = "linear") -> list[SimulatedOrder]:
        return [
            order
            for order in self.working.values()
            if order.category == category and symbol in (None, "", order.symbol)
        ]

    @property
    def unrealised(self) -> Decimal:
        return sum((position.unrealised for position in self.positions.values()), ZERO)

    @property
    def equity(self) -> Decimal:
        """Of the settlement coin: the wallet and what open positions would bring at their mark prices."""
        return self.balance + self.unrealised

    @property
    def margin_balance(self) -> Decimal:
        """What the whole account counts for as margin, in USD."""
        return self.equity + self._other_coins

    @property
    def _other_coins(self) -> Decimal:
        if len(self.wallets) == 1:
            return ZERO
        return self.collateral.value(self.wallets, self.switched_off, SETTLE_COIN)

    @property
    def borrowed(self) -> Decimal:
        """Of the settlement coin, which losses alone can borrow."""
        return max(-self.equity, ZERO)

    @property
    def interest_bearing(self) -> Decimal:
        """What unrealised losses borrow is free of interest."""
        return max(-self.balance, ZERO)

    @property
    def position_margin(self) -> Decimal:
        return sum((position.initial_margin for position in self.positions.values()), ZERO)

    @property
    def position_maintenance(self) -> Decimal:
        return sum((position.maintenance_margin for position in self.positions.values()), ZERO)

    @property
    def initial_margin(self) -> Decimal:
        return self.position_margin + self.order_margin + self.borrowed * BORROW_INITIAL_RATE

    @property
    def maintenance_margin(self) -> Decimal:
        return self.position_maintenance + self.borrowed * BORROW_MAINTENANCE_RATE

    @property
    def order_margin(self) -> Decimal:
        return sum((value / self.position(*key).leverage for key, value in self.reserved.items() if value), ZERO)

    def follow(self, order: SimulatedOrder) -> None:
        """Bring the sums up to date with an order that changed; exact, so that nothing remains of one that ended."""
        waits, linear = order.status == "Untriggered", order.category == "linear"
        reserved = ZERO if waits or (linear and order.reduce_only) else order.leaves
        if linear or order.side == "Buy":
            reserved *= order.price
        change = reserved - order.reserved
        if change:
            order.reserved = reserved
            if linear:
                key = (order.symbol, order.position_index)
                self.reserved[key] = self.reserved.get(key, ZERO) + change
            else:
                coin = SETTLE_COIN if order.side == "Buy" else order.symbol.removesuffix(SETTLE_COIN)
                self.locks[coin] = self.locks.get(coin, ZERO) + change
        counted = (order.category, order.symbol, waits) if order.is_open and not order.is_exit else None
        if counted != order.counted:
            if order.counted is not None:
                self.counts[order.counted] -= 1
            if counted is not None:
                self.counts[counted] += 1
            order.counted = counted

    def locked(self, coin: str) -> Decimal:
        """What resting spot orders would spend of a coin."""
        return self.locks.get(coin, ZERO)

    @property
    def available(self) -> Decimal:
        """What new positions may use, in USD."""
        # Every order asks for this: what takes a look at all positions is looked at once.
        equity = self.equity
        used = self.position_margin + self.order_margin + self.locked(SETTLE_COIN)
        if equity < 0:
            used -= equity * BORROW_INITIAL_RATE
        return max(equity + self._other_coins - used, ZERO)

    def spendable(self, coin: str) -> Decimal:
        """What spot orders may spend of a coin: nothing is lent, and margin comes before coins."""
        free = self.wallets.get(coin, ZERO) - self.locked(coin)
        return max(min(free, self.available) if coin == SETTLE_COIN else free, ZERO)

    def cushion(self, position: SimulatedPosition) -> Decimal:
        """See :meth:`SimulatedPosition.liquidation_price`."""
        others = self.maintenance_margin - position.maintenance_margin
        return self.margin_balance - position.unrealised - others

    def wallet_row(self) -> dict[str, Any]:
        """The account of ``wallet-balance`` and of the ``wallet`` topic; totals are in USD."""
        initial, maintenance, margin_balance = self.initial_margin, self.maintenance_margin, self.margin_balance
        wallets = sum((amount * self.collateral.price(coin) for coin, amount in self.wallets.items()), ZERO)
        initial_rate, maintenance_rate = (_rate(margin, margin_balance) for margin in (initial, maintenance))
        coins = [self._coin_row(coin) for coin, amount in self.wallets.items() if amount or coin == SETTLE_COIN]
        return {
            "accountType": "UNIFIED",
            "totalEquity": _money(wallets + self.unrealised),
            "totalWalletBalance": _money(wallets),
            "totalMarginBalance": _money(margin_balance),
            "totalAvailableBalance": _money(self.available),
            "totalPerpUPL": _money(self.unrealised),
            "totalInitialMargin": _money(initial),
            "totalInitialMarginByMp": _money(initial),
            "totalMaintenanceMargin": _money(maintenance),
            "totalMaintenanceMarginByMp": _money(maintenance),
            "accountIMRate": initial_rate,
            "accountIMRateByMp": initial_rate,
            "accountMMRate": maintenance_rate,
            "accountMMRateByMp": maintenance_rate,
            "accountLTV": "0",
            "coin": coins,
        }

    def _coin_row(self, coin: str) -> dict[str, Any]:
        amount, settles = self.wallets[coin], coin == SETTLE_COIN
        equity = self.equity if settles else amount
        return {
            "coin": coin,
            "equity": _money(equity),
            "usdValue": _money(equity * self.collateral.price(coin)),
            "walletBalance": _money(amount),
            "availableToWithdraw": "",
            "availableToBorrow": "",
            "locked": _money(self.locked(coin)),
            "borrowAmount": _money(self.borrowed) if settles else "0",
            # It is charged every hour, and nothing is left to charge between.
            "accruedInterest": "0",
            "totalOrderIM": _money(self.order_margin) if settles else "0",
            "totalPositionIM": _money(self.position_margin) if settles else "0",
            "totalPositionMM": _money(self.position_maintenance) if settles else "0",
            "unrealisedPnl": _money(self.unrealised) if settles else "0",
            "cumRealisedPnl": _money(self.realised) if settles else "0",
            "bonus": "0",
            "marginCollateral": coin in TIERS,
            "collateralSwitch": coin in TIERS and coin not in self.switched_off,
            "spotBorrow": "0",
            "spotHedgingQty": "0",
        }


def _rate(margin: Decimal, equity: Decimal) -> str:
    return f"{(margin / equity if equity > 0 else ZERO):.4f}"


def _money(amount: Decimal) -> str:
    return f"{amount.quantize(Decimal('1e-8')).normalize():f}"
