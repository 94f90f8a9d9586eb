"""What the owner of an account last knew of its positions, kept in memory: it stays when the database is away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from risk.exposure import PositionExposure
from trading.positions import pnl
from trading.reports import PositionReport


@dataclass(frozen=True, slots=True)
class WatchedPosition:
    """Quantity in base coin, prices in quote coin."""

    side: str
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal


class PositionWatch:
    """By symbol; use from the engine's loop. The venue's word is newer than the books', whenever it comes."""

    def __init__(self) -> None:
        self._positions: dict[str, WatchedPosition] = {}

    def booked(self, positions: Mapping[str, PositionExposure]) -> None:
        """What the books say now, all of it."""
        self._positions = {
            symbol: WatchedPosition(each.side, each.quantity, each.entry_price, each.mark_price)
            for symbol, each in positions.items()
            if each.quantity
        }

    def reported(self, report: PositionReport) -> None:
        """What the venue says of one symbol now, booked or not."""
        if not report.quantity:
            self._positions.pop(report.symbol, None)
            return
        mark = report.mark_price or report.entry_price
        self._positions[report.symbol] = WatchedPosition(report.side, report.quantity, report.entry_price, mark)

    def status(self, mark_of: Callable[[str], Decimal | None]) -> list[dict[str, Any]]:
        """Rows for the status page, valued at the newest mark: ``mark_of`` gives a symbol's, None where it has none."""
        rows = []
        for symbol, each in sorted(self._positions.items()):
            mark = mark_of(symbol) or each.mark_price
            value = pnl(each.side, each.quantity, each.entry_price, mark)
            rows.append(
                {
                    "symbol": symbol,
                    "side": each.side,
                    "quantity": f"{each.quantity:f}",
                    "entry_price": f"{each.entry_price:f}",
                    "mark_price": f"{mark:f}",
                    "unrealised_pnl": f"{value:.8f}",
                }
            )
        return rows
