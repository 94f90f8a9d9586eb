"""Bybit v5's order, execution, position and wallet objects as reports. REST and websocket share their shapes
(the websocket's position says ``entryPrice`` where REST says ``avgPrice``)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from trading.reports import FillReport, LedgerReport, OrderReport, PositionReport, WalletReport

EXITS = frozenset(
    {"TakeProfit", "StopLoss", "TrailingStop", "PartialTakeProfit", "PartialStopLoss", "TpLimit", "SlLimit"}
)

LONGEST_TEXT = 64
# What a column of our books holds: 18 digits before the point, 18 behind it.
LARGEST, FINEST, EXACT = Decimal(10**15), Decimal("1e-18"), Context(prec=40)
LATEST_MS = 10**14


class ReportError(ValueError):
    """A message of the venue that cannot be understood: which field, and what it held."""


def order_report(row: Mapping[str, Any]) -> OrderReport:
    return OrderReport(
        venue_order_id=_text(row, "orderId"),
        client_order_id=_words(row, "orderLinkId"),
        symbol=_text(row, "symbol"),
        side=_side(row),
        order_type=_words(row, "orderType") or "Limit",
        time_in_force=_words(row, "timeInForce") or "GTC",
        status=_text(row, "orderStatus"),
        quantity=_amount(row, "qty"),
        price=_amount(row, "price", Decimal(0)),
        filled_quantity=_amount(row, "cumExecQty", Decimal(0)),
        average_price=_optional(row, "avgPrice"),
        reduce_only=_truth(row, "reduceOnly"),
        reject_reason=_words(row, "rejectReason"),
        cancel_type=_words(row, "cancelType"),
        created_ms=_milliseconds(row, "createdTime"),
        updated_ms=_milliseconds(row, "updatedTime"),
        is_exit=_words(row, "stopOrderType") in EXITS,
        trigger_price=_optional(row, "triggerPrice"),
        payload=dict(row),
    )


def fill_report(row: Mapping[str, Any]) -> FillReport:
    return FillReport(
        execution_id=_text(row, "execId"),
        execution_type=_words(row, "execType") or "Trade",
        venue_order_id=_words(row, "orderId"),
        client_order_id=_words(row, "orderLinkId"),
        symbol=_text(row, "symbol"),
        side=_side(row),
        price=_amount(row, "execPrice"),
        quantity=_amount(row, "execQty"),
        fee=_decimal(row, "execFee", Decimal(0)),
        fee_currency=_words(row, "feeCurrency") or "USDT",
        is_maker=_truth(row, "isMaker"),
        executed_ms=_milliseconds(row, "execTime"),
        payload=dict(row),
    )


def position_report(row: Mapping[str, Any]) -> PositionReport:
    return PositionReport(
        symbol=_text(row, "symbol"),
        side=_side(row) if row.get("side") else "",
        quantity=_amount(row, "size", Decimal(0)),
        entry_price=_decimal(row, "avgPrice", None) or _decimal(row, "entryPrice", Decimal(0)),
        leverage=_decimal(row, "leverage", Decimal(1)) or Decimal(1),
        mark_price=_optional(row, "markPrice"),
        liquidation_price=_optional(row, "liqPrice"),
        take_profit=_optional(row, "takeProfit"),
        stop_loss=_optional(row, "stopLoss"),
        updated_ms=_milliseconds(row, "updatedTime", 0),
        position_index=int(_decimal(row, "positionIdx", Decimal(0))),
    )


def ledger_report(row: Mapping[str, Any]) -> LedgerReport:
    return LedgerReport(
        venue_id=_text(row, "id"),
        kind=_text(row, "type"),
        category=str(row.get("category") or ""),
        symbol=str(row.get("symbol") or ""),
        side=str(row.get("side") or ""),
        currency=_text(row, "currency"),
        quantity=_decimal(row, "qty", Decimal(0)),
        price=_decimal(row, "tradePrice", Decimal(0)),
        cash_flow=_decimal(row, "cashFlow", Decimal(0)),
        funding=_decimal(row, "funding", Decimal(0)),
        fee=_decimal(row, "fee", Decimal(0)),
        change=_decimal(row, "change"),
        balance=_decimal(row, "cashBalance", None),
        execution_id=str(row.get("tradeId") or ""),
        venue_order_id=str(row.get("orderId") or ""),
        client_order_id=str(row.get("orderLinkId") or ""),
        booked_ms=_milliseconds(row, "transactionTime"),
    )


def wallet_report(row: Mapping[str, Any]) -> WalletReport:
    coins = [each for each in row.get("coin") or () if isinstance(each, Mapping)]
    return WalletReport(
        equity=_decimal(row, "totalEquity"),
        wallet_balance=_decimal(row, "totalWalletBalance"),
        available_balance=_decimal(row, "totalAvailableBalance", Decimal(0)),
        initial_margin=_decimal(row, "totalInitialMargin", Decimal(0)),
        maintenance_margin=_decimal(row, "totalMaintenanceMargin", Decimal(0)),
        coins={_text(each, "coin"): _decimal(each, "walletBalance", Decimal(0)) for each in coins},
    )


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not value:
        raise ReportError(f"{name} is {value!r}; expected text")
    return _words(row, name)


def _words(row: Mapping[str, Any], name: str) -> str:
    """Text that may be missing or empty."""
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or "\0" in value:
        raise ReportError(f"{name} is {str(value)[:80]!r}; expected text of at most {LONGEST_TEXT} characters")
    return value


def _side(row: Mapping[str, Any]) -> str:
    side = _text(row, "side")
    if side not in ("Buy", "Sell"):
        raise ReportError(f"side is {side!r}; expected Buy or Sell")
    return side


def _truth(row: Mapping[str, Any], name: str) -> bool:
    value = row.get(name)
    if value is not None and not isinstance(value, bool):
        raise ReportError(f"{name} is {str(value)[:80]!r}; expected true or false")
    return bool(value)


_REQUIRED: Any = object()


def _decimal(row: Mapping[str, Any], name: str, default: Any = _REQUIRED) -> Any:
    """The number under a name; Bybit sends numbers as text and "" for none."""
    value = row.get(name)
    if value is None or value == "":
        if default is _REQUIRED:
            raise ReportError(f"{name} is missing; expected a number")
        return default
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ReportError(f"{name} is {str(value)[:80]!r}; expected a number") from None
    if isinstance(value, bool) or not number.is_finite() or abs(number) >= LARGEST:
        raise ReportError(f"{name} is {str(value)[:80]!r}; expected a finite number below {LARGEST:.0E}")
    return number


def _amount(row: Mapping[str, Any], name: str, default: Any = _REQUIRED) -> Decimal:
    """A price or a quantity: never negative, and on no finer grid than our books keep."""
    number: Decimal = _decimal(row, name, default)
    if number < 0 or number != number.quantize(FINEST, context=EXACT):
        raise ReportError(f"{name} is {str(number)[:80]}; expected at least 0, with at most 18 decimals")
    return number


def _optional(row: Mapping[str, Any], name: str) -> Decimal | None:
    """None for "" and for "0", which Bybit uses for "not set"."""
    number: Decimal | None = _decimal(row, name, None)
    return number or None


def _milliseconds(row: Mapping[str, Any], name: str, default: Any = _REQUIRED) -> int:
    value = row.get(name)
    if value in (None, "") and default is not _REQUIRED:
        return int(default)
    try:
        milliseconds = int(str(value)[:20])
    except ValueError:
        milliseconds = -1
    if not 0 <= milliseconds < LATEST_MS:
        raise ReportError(f"{name} is {str(value)[:80]!r}; expected milliseconds since 1970")
    return milliseconds
