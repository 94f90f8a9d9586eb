"""An instrument's grid and limits, and what of an order would break them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import Any

ONE = Decimal(1)
# A remainder is exact only where the quotient has room.
WIDE = Context(prec=100)


class InstrumentError(ValueError):
    """A listing of the venue that cannot be understood: which symbol, which field, what it held."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that a value breaks, in words for the person who sent it."""

    field: str
    value: str
    rule: str


@dataclass(frozen=True, slots=True)
class InstrumentRules:
    """The grid and the limits of one instrument. Quantities in base coin, prices and notionals in quote coin."""

    symbol: str
    tick_size: Decimal
    lot_size: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    max_market_quantity: Decimal
    min_notional: Decimal
    min_price: Decimal
    max_price: Decimal
    max_leverage: Decimal
    category: str = "linear"
    status: str = "Trading"
    base_coin: str = ""
    quote_coin: str = "USDT"
    settle_coin: str = "USDT"
    funding_interval_minutes: int = 480

    def __post_init__(self) -> None:
        if self.tick_size <= 0 or self.lot_size <= 0:
            raise InstrumentError(
                f"{self.symbol}: tick size {self.tick_size}, lot size {self.lot_size}; both must be above 0"
            )

    def floor_quantity(self, quantity: Decimal) -> Decimal:
        """The largest quantity on the lot grid that is not above the given one."""
        return (quantity // self.lot_size) * self.lot_size

    def orderable(self, quantity: Decimal) -> bool:
        """Whether the venue takes an order of this quantity: at least the smallest, and on the lot grid."""
        return quantity >= self.min_quantity and on_grid(quantity, self.lot_size)

    def round_price(self, price: Decimal) -> Decimal:
        """The nearest price on the tick grid."""
        return (price / self.tick_size).quantize(ONE) * self.tick_size


def on_grid(number: Decimal, step: Decimal) -> bool:
    """Whether the number is a multiple of the step, however many digits the two have together."""
    return not WIDE.remainder(number, step)


def violations(
    rules: InstrumentRules,
    *,
    order_type: str,
    quantity: Decimal,
    price: Decimal | None,
    reference_price: Decimal | None,
    reduce_only: bool = False,
    closes_position: bool = False,
) -> tuple[Violation, ...]:
    """Every rule that an order would break. ``reference_price`` (mark or last) values market orders; None skips that.

    Reduce-only orders need not reach the minimum notional: a small rest must stay closable. One that closes a whole
    position at the market need not be :meth:`~InstrumentRules.orderable` either: the venue closes what there is.
    """
    found: list[Violation] = []
    if rules.status != "Trading":
        found.append(Violation("symbol", rules.symbol, f"the venue does not trade it now (status {rules.status})"))
    found += _quantity_violations(rules, order_type, quantity, closes_position=closes_position)
    found += _price_violations(rules, order_type, price)
    valued_at = price if order_type == "Limit" else reference_price
    if not found and valued_at is not None and not reduce_only and quantity * valued_at < rules.min_notional:
        rule = f"worth {(quantity * valued_at).normalize():f} {rules.quote_coin}; the minimum is {rules.min_notional:f}"
        found.append(Violation("quantity", f"{quantity:f}", rule))
    return tuple(found)


def _quantity_violations(
    rules: InstrumentRules, order_type: str, quantity: Decimal, *, closes_position: bool
) -> list[Violation]:
    shown = f"{quantity:f}"
    largest = rules.max_market_quantity if order_type == "Market" else rules.max_quantity
    if quantity <= 0:
        return [Violation("quantity", shown, "must be above 0")]
    found = []
    any_size = closes_position and order_type == "Market"
    if not any_size and not on_grid(quantity, rules.lot_size):
        found.append(Violation("quantity", shown, f"must be a multiple of the lot size {rules.lot_size:f}"))
    if not any_size and quantity < rules.min_quantity:
        found.append(Violation("quantity", shown, f"must be at least {rules.min_quantity:f}"))
    if quantity > largest:
        found.append(Violation("quantity", shown, f"must be at most {largest:f} for a {order_type.lower()} order"))
    return found


def _price_violations(rules: InstrumentRules, order_type: str, price: Decimal | None) -> list[Violation]:
    if order_type == "Market":
        if price is not None:
            return [Violation("price", f"{price:f}", "a market order has no price; leave it out")]
        return []
    if price is None:
        return [Violation("price", "", "a limit order needs a price")]
    found = []
    if not on_grid(price, rules.tick_size):
        found.append(Violation("price", f"{price:f}", f"must be a multiple of the tick size {rules.tick_size:f}"))
    if not rules.min_price <= price <= rules.max_price:
        found.append(Violation("price", f"{price:f}", f"must be {rules.min_price:f} to {rules.max_price:f}"))
    return found


def rules_from_bybit(row: Mapping[str, Any], category: str) -> InstrumentRules:
    """One row of Bybit's ``instruments-info``; spot rows name their fields differently from linear ones."""
    symbol = str(row.get("symbol") or "?")
    lot, price, leverage = (_part(row, symbol, name) for name in ("lotSizeFilter", "priceFilter", "leverageFilter"))
    spot = category == "spot"
    largest = _number(lot, symbol, "maxLimitOrderQty" if spot else "maxOrderQty")
    return InstrumentRules(
        symbol=symbol,
        tick_size=_number(price, symbol, "tickSize"),
        lot_size=_number(lot, symbol, "basePrecision" if spot else "qtyStep"),
        min_quantity=_number(lot, symbol, "minOrderQty"),
        max_quantity=largest,
        max_market_quantity=_number(lot, symbol, "maxMarketOrderQty" if spot else "maxMktOrderQty"),
        min_notional=_number(lot, symbol, "minOrderAmt" if spot else "minNotionalValue", Decimal(0)),
        min_price=_number(price, symbol, "minPrice", Decimal(0)),
        max_price=_number(price, symbol, "maxPrice", Decimal(10) ** 12),
        max_leverage=_number(leverage, symbol, "maxLeverage", Decimal(1)),
        category=category,
        status=str(row.get("status") or "Closed"),
        base_coin=str(row.get("baseCoin") or ""),
        quote_coin=str(row.get("quoteCoin") or ""),
        settle_coin=str(row.get("settleCoin") or row.get("quoteCoin") or ""),
        funding_interval_minutes=int(row.get("fundingInterval") or 480),
    )


def _part(row: Mapping[str, Any], symbol: str, name: str) -> Mapping[str, Any]:
    part = row.get(name) or {}
    if not isinstance(part, Mapping):
        raise InstrumentError(f"{symbol}: {name} is {type(part).__name__}; expected an object")
    return part


def _number(part: Mapping[str, Any], symbol: str, name: str, default: Decimal | None = None) -> Decimal:
    value = part.get(name)
    if value in (None, "") and default is not None:
        return default
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise InstrumentError(f"{symbol}: {name} is {value!r}; expected a number") from None
    if not number.is_finite():
        raise InstrumentError(f"{symbol}: {name} is {value!r}; expected a finite number")
    return number
