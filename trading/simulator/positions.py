"""A position of a unified account in cross margin, and as REST and websocket show it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from trading.positions import FillValues, PositionState, apply_fill, pnl
from trading.simulator.orders import ZERO, price_text

MAINTENANCE_RATE = Decimal("0.005")
ONE_WAY, HEDGE_BUY, HEDGE_SELL = 0, 1, 2


@dataclass(slots=True)
class SimulatedPosition:
    """``index`` 0 is one-way mode; 1 and 2 are the long and the short side of hedge mode. ``status`` is Liq or Adl only
    while the exchange closes the position."""

    symbol: str
    index: int = ONE_WAY
    side: str = ""
    quantity: Decimal = ZERO
    entry_price: Decimal = ZERO
    leverage: Decimal = Decimal(10)
    take_profit: Decimal = ZERO
    stop_loss: Decimal = ZERO
    trailing_stop: Decimal = ZERO
    active_price: Decimal = ZERO
    realised: Decimal = ZERO
    realised_now: Decimal = ZERO
    mark_price: Decimal = ZERO
    status: str = "Normal"
    created_ms: int = 0
    opened_ms: int = 0
    updated_ms: int = 0
    sequence: int = -1
    maintenance_rate: Decimal = MAINTENANCE_RATE

    @property
    def unrealised(self) -> Decimal:
        return pnl(self.side, self.quantity, self.entry_price, self.mark_price) if self.quantity else ZERO

    @property
    def value(self) -> Decimal:
        return self.quantity * self.entry_price

    @property
    def initial_margin(self) -> Decimal:
        return self.value / self.leverage

    @property
    def maintenance_margin(self) -> Decimal:
        """Of the value at the mark price, as liquidation judges it."""
        return self.quantity * (self.mark_price or self.entry_price) * self.maintenance_rate

    @property
    def exit_side(self) -> str:
        return "Sell" if self.side == "Buy" else "Buy"

    def apply(self, side: str, quantity: Decimal, price: Decimal, now_ms: int) -> tuple[Decimal, Decimal]:
        """Move by one fill; returns the realised PnL (before fees) and the closed quantity."""
        before = PositionState(self.side, self.quantity, self.entry_price)
        result = apply_fill(before, FillValues(side, quantity, price))
        closed = min(before.quantity, quantity) if before.quantity and before.side != side else ZERO
        if before.quantity == 0 or closed == before.quantity:
            self.opened_ms, self.realised_now = now_ms, ZERO
        self.side, self.quantity = result.state.side, result.state.quantity
        self.entry_price = result.state.entry_price
        self.realised += result.realised_pnl
        self.realised_now += result.realised_pnl
        self.created_ms = self.created_ms or now_ms
        self.updated_ms = now_ms
        return result.realised_pnl, closed

    def liquidation_price(self, cushion: Decimal) -> Decimal:
        """The mark price at which maintenance margin is no longer covered, if nothing else moves; zero when nowhere.

        ``cushion`` is the account's equity less this position's unrealised PnL and the other positions' maintenance
        margin.
        """
        if self.quantity == 0:
            return ZERO
        if self.side == "Buy":
            price = (self.value - cushion) / (self.quantity * (1 - self.maintenance_rate))
        else:
            price = (self.value + cushion) / (self.quantity * (1 + self.maintenance_rate))
        return max(price, ZERO)

    def as_row(self, cushion: Decimal, adl_rank: int, *, websocket: bool = False) -> dict[str, Any]:
        """``cushion`` as for :meth:`liquidation_price`, ``adl_rank`` from 0 (no position) to 5 (closed first)."""
        liquidation = self.liquidation_price(cushion)
        initial, maintenance = _text(self.initial_margin), _text(self.maintenance_margin)
        row: dict[str, Any] = {
            "positionIdx": self.index,
            "riskId": 1,
            "riskLimitValue": "2000000",
            "symbol": self.symbol,
            "side": self.side,
            "size": f"{self.quantity:f}",
            "positionValue": _text(self.value),
            "positionBalance": "0",
            "tradeMode": 0,
            "autoAddMargin": 0,
            "positionStatus": self.status,
            "leverage": f"{self.leverage:f}",
            "markPrice": f"{self.mark_price:f}",
            "liqPrice": _text(liquidation.quantize(Decimal("0.000001"))) if liquidation else "",
            "bustPrice": "",
            "breakEvenPrice": _text(self.entry_price.quantize(Decimal("1e-8"))) if self.quantity else "",
            "positionIM": initial,
            "positionIMByMp": initial,
            "positionMM": maintenance,
            "positionMMByMp": maintenance,
            "tpslMode": "Full",
            "takeProfit": price_text(self.take_profit),
            "stopLoss": price_text(self.stop_loss),
            "trailingStop": f"{self.trailing_stop:f}",
            "sessionAvgPrice": "",
            "unrealisedPnl": _text(self.unrealised),
            "curRealisedPnl": _text(self.realised_now),
            "cumRealisedPnl": _text(self.realised),
            "adlRankIndicator": adl_rank,
            "isReduceOnly": False,
            "leverageSysUpdatedTime": "",
            "seq": self.sequence,
            "createdTime": str(self.created_ms),
            "openTime": str(self.opened_ms),
            "updatedTime": str(self.updated_ms),
        }
        # The documentation spells this time differently over REST and on the stream.
        row["mmrSysUpdatedTime" if websocket else "mmrSysUpdateTime"] = ""
        row["entryPrice" if websocket else "avgPrice"] = _text(self.entry_price) if self.quantity else "0"
        return row


def _text(number: Decimal) -> str:
    return f"{number.normalize():f}"
